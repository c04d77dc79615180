import type { OAuthCredential } from "../tokens/credential.ts";
import type { Revocation, VendorContext } from "../tokens/vendor.ts";
import { isSuccessStatus, judge, type ReadAnswer, readAnswer } from "./answer.ts";
import { isObject } from "./expression/values.ts";
import type { Provider } from "./provider.ts";
import { buildRequest } from "./request.ts";
import { names } from "./request-values.ts";
import type { Outside } from "./send.ts";
import { variablesOf } from "./template.ts";
import { identityOf } from "./token-request.ts";

const TIMEOUT_MS = 10_000;

type Plan = NonNullable<Provider["revocation"]>;
type Kind = Plan["tokens"][number];

/** Ends a grant at the provider (RFC 7009), the refresh token first, because it could mint again. Never throws. */
export async function revokeGrant(
  outside: Outside,
  provider: Provider,
  context: VendorContext,
): Promise<Revocation> {
  const { credential } = context;
  const plan = provider.revocation;
  if (plan === undefined || credential.kind !== "oauth") return "unsupported";
  let outcome: Revocation = "unsupported";
  for (const kind of plan.tokens) {
    const token = tokenOf(credential, kind);
    if (token === undefined) continue;
    const one = await revokeOne(outside, provider, plan, context, kind, token);
    if (one === "still_live") return "still_live";
    if (one === "revoked") outcome = "revoked";
  }
  return outcome;
}

/** Ends an access token and not its grant; `unsupported` unless the file says that this can be done. Never throws. */
export async function revokeAccessToken(
  outside: Outside,
  provider: Provider,
  context: VendorContext,
): Promise<Revocation> {
  const { credential } = context;
  const plan = provider.revocation;
  if (plan?.accessTokenAlone !== true || credential.kind !== "oauth") return "unsupported";
  const token = credential.accessToken.reveal();
  return token === "" ? "unsupported" : revokeOne(outside, provider, plan, context, "access_token", token);
}

function tokenOf(credential: OAuthCredential, kind: Kind): string | undefined {
  return kind === "refresh_token" ? credential.refreshToken?.reveal() : credential.accessToken.reveal();
}

async function revokeOne(
  outside: Outside,
  provider: Provider,
  plan: Plan,
  context: VendorContext,
  kind: Kind,
  token: string,
): Promise<Revocation> {
  // A file that names the token itself puts it where it belongs.
  const inUrl = [...variablesOf(plan.url.path), ...variablesOf(plan.url.query)].includes("token");
  const inBody = plan.body !== undefined && names([["body", plan.body]], "token");
  const named = inUrl || inBody || names([...plan.params, ...plan.headers], "token");
  try {
    const request = buildRequest({
      provider,
      account: context.account,
      plan,
      client: identityOf(context),
      clientAuth: plan.clientAuth,
      values: { token, token_type_hint: kind },
      params: named
        ? []
        : [
            ["token", token],
            ["token_type_hint", kind],
          ],
      token: provider.tokens.get(context.slot),
      nowMs: outside.now(),
      timeoutMs: TIMEOUT_MS,
    });
    const sent = await outside.send(request);
    return sent.kind === "answer" ? verdict(plan, readAnswer(sent)) : "still_live";
  } catch {
    return "still_live";
  }
}

/** RFC 7009 §2.2: 200 for unknown tokens too. Some say so with an error instead, or with 404 for a deletion. */
function verdict(plan: Plan, answer: ReadAnswer): Revocation {
  const isGone =
    plan.success === undefined ? isSuccessStatus(answer.status) : judge(plan.success, answer) === true;
  if (isGone || (plan.method === "DELETE" && answer.status === 404)) return "revoked";
  const code = isObject(answer.body) ? answer.body["error"] : undefined;
  if (code === "invalid_token") return "revoked";
  return code === "unsupported_token_type" ? "unsupported" : "still_live";
}
