import type { Interpretation, RawAnswer, VendorContext } from "../tokens/vendor.ts";
import { isSuccessStatus, judge, type ReadAnswer, readAnswer } from "./answer.ts";
import { isGatewayDoubt, isOAuthRefusal, refusedByDefault, refusedByFile } from "./classify.ts";
import { readGrant } from "./grant.ts";
import { introspectedExpiryMs } from "./introspection.ts";
import { Masker } from "./mask.ts";
import { mergeGrant } from "./merge.ts";
import type { Provider } from "./provider.ts";
import type { Send } from "./send.ts";

/** What a token endpoint's answer means. The same answer means the same again, introspection apart. Never throws. */
export async function interpretAnswer(
  send: Send,
  provider: Provider,
  context: VendorContext,
  raw: RawAnswer,
): Promise<Interpretation> {
  const answer = readAnswer(raw);
  const isSuccess = judge(provider.response.success, answer) ?? isSuccessStatus(answer.status);
  if (answer.body === undefined && isSuccessStatus(answer.status))
    return { kind: "unknown", cause: "unparseable_answer" };
  if (!isSuccess) return failure(provider, context, answer);
  const grant = readGrant(provider, answer);
  if (typeof grant === "string") return withoutToken(provider, context, answer, grant);

  const told =
    grant.expiresAtMs ??
    (await introspectedExpiryMs(send, provider, context, grant.accessToken, grant.fields));
  const defaultMs = provider.token?.defaultLifetimeMs;
  const expiresAtMs = told ?? (defaultMs === undefined ? undefined : grant.issuedAtMs + defaultMs);
  const existing = context.credential.kind === "oauth" ? context.credential : undefined;
  const credential = mergeGrant(provider, existing, { ...grant, expiresAtMs });
  return { kind: "granted", credential, fields: grant.fields };
}

function failure(provider: Provider, context: VendorContext, answer: ReadAnswer): Interpretation {
  const masker = maskerFor(context);
  const byFile = refusedByFile(answer, provider.response, masker);
  const isDoubtful = isGatewayDoubt(answer.status) && !isOAuthRefusal(answer);
  // "transient" only says to try again, not that nothing was done.
  if (isDoubtful && (answer.body === undefined || byFile === undefined || byFile.class === "transient")) {
    return { kind: "unknown", cause: `status_${answer.status}` };
  }
  return byFile ?? refusedByDefault(answer, provider.response, masker);
}

/** A success without a token is kept for a better file, unless it is an error in disguise. */
function withoutToken(
  provider: Provider,
  context: VendorContext,
  answer: ReadAnswer,
  why: string,
): Interpretation {
  const masker = maskerFor(context);
  const byFile = refusedByFile(answer, provider.response, masker);
  if (byFile !== undefined && byFile.class !== "transient") return byFile;
  return isOAuthRefusal(answer)
    ? (byFile ?? refusedByDefault(answer, provider.response, masker))
    : { kind: "unmapped", cause: why };
}

function maskerFor({ credential, client }: VendorContext): Masker {
  const sent = credential.kind === "oauth" ? [credential.refreshToken, credential.accessToken] : [];
  return new Masker([...sent, client?.secret].map((secret) => secret?.reveal()));
}
