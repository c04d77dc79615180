import type { VendorContext } from "../tokens/vendor.ts";
import { isSuccessStatus, readAnswer } from "./answer.ts";
import { expiresAtMs } from "./expiry.ts";
import { isObject } from "./expression/values.ts";
import type { Provider } from "./provider.ts";
import { buildRequest } from "./request.ts";
import type { Outside } from "./send.ts";
import { identityOf } from "./token-request.ts";

const TIMEOUT_MS = 5_000;

/**
 * The expiry of a token just granted (RFC 7662), epoch milliseconds. Undefined when the file names no introspection, or
 * it fails or does not tell: the grant stands either way. Never throws.
 */
export async function introspectedExpiryMs(
  outside: Outside,
  provider: Provider,
  context: VendorContext,
  accessToken: string,
  fields: Readonly<Record<string, string>>,
): Promise<number | undefined> {
  const plan = provider.introspection;
  if (plan === undefined) return undefined;
  try {
    const request = buildRequest({
      provider,
      account: { fields: { ...context.account.fields, ...fields } },
      plan,
      client: identityOf(context),
      clientAuth: plan.clientAuth,
      values: { token: accessToken, token_type_hint: "access_token" },
      params: [
        ["token", accessToken],
        ["token_type_hint", "access_token"],
      ],
      token: provider.tokens.get(context.slot),
      nowMs: outside.now(),
      timeoutMs: TIMEOUT_MS,
    });
    const sent = await outside.send(request);
    if (sent.kind !== "answer" || !isSuccessStatus(sent.status)) return undefined;
    const answer = readAnswer(sent);
    const isActive = isObject(answer.body) && answer.body["active"] === true;
    return isActive ? expiresAtMs(answer.body["exp"], "absolute", answer) : undefined;
  } catch {
    return undefined;
  }
}
