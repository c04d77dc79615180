import type { Credential, OAuthCredential } from "../tokens/credential.ts";
import { Secret } from "../tokens/secret.ts";
import type {
  CodeGrant,
  Failure,
  Interpretation,
  RawAnswer,
  SendResult,
  VendorContext,
} from "../tokens/vendor.ts";
import { isSuccessStatus, judge, type ReadAnswer, readAnswer } from "./answer.ts";
import { isGatewayDoubt, isOAuthRefusal, refusedByDefault, refusedByFile } from "./classify.ts";
import type { Expression } from "./fence.ts";
import { type ReadGrant, readGrant, readTokenInGrant, type TokenBefore } from "./grant.ts";
import { introspectedExpiryMs } from "./introspection.ts";
import { Masker } from "./mask.ts";
import { mergeGrant } from "./merge.ts";
import type { Provider, StepPlan, TokenPlan } from "./provider.ts";
import { basicAuth } from "./request.ts";
import type { Outside } from "./send.ts";
import { type Steps, stepsToRead } from "./token-request.ts";

/** All answers of an exchange so far, and what became of the request that they asked for, if it was no answer. */
export interface Exchange {
  readonly context: VendorContext;
  readonly code?: CodeGrant | undefined;
  readonly answers: readonly RawAnswer[];
  readonly ended?: Exclude<SendResult, { kind: "answer" }> | undefined;
}

/** What an exchange has come to. The same answers mean the same again, introspection apart. Never throws. */
export async function interpretExchange(
  outside: Outside,
  provider: Provider,
  exchange: Exchange,
): Promise<Interpretation> {
  const { context, answers, ended } = exchange;
  const read = stepsToRead(provider, context, exchange.code);
  if (read === undefined) return { kind: "unmapped", cause: "not_in_file" };
  const { token, steps } = read;
  const { grants, failure = ended } = readSteps(provider, read, exchange);
  if (failure !== undefined) return failed(token, exchange, grants, failure);
  if (answers.length < steps.length) return { kind: "more" };
  return granted(outside, provider, token, exchange, grants);
}

/** The credential that the next request of an exchange is made with. */
export function credentialSoFar(provider: Provider, exchange: Exchange): Credential {
  const { credential } = exchange.context;
  const read = stepsToRead(provider, exchange.context, exchange.code);
  if (read === undefined) return credential;
  return merged(read.token, credential, readSteps(provider, read, exchange).grants) ?? credential;
}

/** What one answer added: the grant with the step that reads it. */
interface StepGrant {
  readonly step: StepPlan;
  readonly grant: ReadGrant;
}

interface Progress {
  readonly grants: readonly StepGrant[];
  /** Of the answer after the last grant. */
  readonly failure?: Failure;
}

function readSteps(
  provider: Provider,
  { token, steps }: Steps,
  { context, code, answers }: Exchange,
): Progress {
  const grants: StepGrant[] = [];
  for (const [index, raw] of answers.entries()) {
    const step = steps[index];
    if (step === undefined) break;
    const before = grants.at(-1)?.grant ?? keptToken(step, context);
    const inGrant = code !== undefined && index === 0 ? token.inGrant : undefined;
    const read = readStep(provider, step, { context, code, grants }, raw, before, inGrant);
    if ("kind" in read) return { grants, failure: read };
    grants.push({ step, grant: read });
  }
  return { grants };
}

/** Where the file keeps the access token, a refresh only makes it live longer. */
function keptToken({ response }: StepPlan, { credential }: VendorContext): TokenBefore | undefined {
  if (!response.keep.includes("access_token") || credential.kind !== "oauth") return undefined;
  return { accessToken: credential.accessToken.reveal(), tokenType: credential.tokenType };
}

interface Read {
  readonly context: VendorContext;
  readonly code: CodeGrant | undefined;
  readonly grants: readonly StepGrant[];
}

function readStep(
  provider: Provider,
  step: StepPlan,
  known: Read,
  raw: RawAnswer,
  before: TokenBefore | undefined,
  inGrant: Expression | undefined,
): ReadGrant | Failure {
  const answer = readAnswer(raw);
  const isSuccess = judge(step.response.success, answer) ?? isSuccessStatus(answer.status);
  if (answer.body === undefined && isSuccessStatus(answer.status))
    return { kind: "unknown", cause: "unparseable_answer" };
  if (!isSuccess) return failure(step, known, answer);
  const grant =
    inGrant === undefined
      ? readGrant(provider, step.response, answer, before)
      : readTokenInGrant(provider, step.response, answer, inGrant);
  return typeof grant === "string" ? withoutToken(step, known, answer, grant) : grant;
}

async function granted(
  outside: Outside,
  provider: Provider,
  token: TokenPlan,
  { context }: Exchange,
  grants: readonly StepGrant[],
): Promise<Interpretation> {
  const fields = Object.assign({}, ...grants.map(({ grant }) => grant.fields));
  const last = grants.at(-1)?.grant;
  const told = expiryTold(grants);
  const introspected =
    told === undefined && last !== undefined
      ? await introspectedExpiryMs(outside, provider, context, last.accessToken, fields)
      : undefined;
  const timed = introspected === undefined ? grants : withExpiry(grants, introspected);
  const credential = merged(token, context.credential, timed);
  if (credential === undefined) return { kind: "unmapped", cause: "no_answer" };
  return { kind: "granted", credential, fields };
}

/** The expiry of the token that the last answers gave; undefined when none of them told it. */
function expiryTold(grants: readonly StepGrant[]): number | undefined {
  const last = grants.at(-1)?.grant.accessToken;
  return grants.findLast(({ grant }) => grant.accessToken === last && grant.expiresAtMs !== undefined)?.grant
    .expiresAtMs;
}

function withExpiry(grants: readonly StepGrant[], expiresAtMs: number): readonly StepGrant[] {
  return grants.map((each, index) =>
    index === grants.length - 1 ? { ...each, grant: { ...each.grant, expiresAtMs } } : each,
  );
}

/** One answer merged upon the other, each by the rules of its step; undefined when there was none. */
function merged(
  token: TokenPlan,
  start: Credential,
  grants: readonly StepGrant[],
): OAuthCredential | undefined {
  const source = start.kind === "oauth" || start.kind === "unminted" ? start.source : undefined;
  let existing = start.kind === "oauth" ? start : undefined;
  let given: ReadGrant | undefined;
  for (const { step, grant } of grants) {
    // What no later answer tells, the earlier one has said: better too early than never.
    const inherited = given === undefined ? undefined : existing?.expiresAtMs;
    const byDefault =
      step.defaultLifetimeMs === undefined ? inherited : grant.issuedAtMs + step.defaultLifetimeMs;
    const expiresAtMs: number | undefined = grant.expiresAtMs ?? byDefault;
    existing = mergeGrant(step.response, token, existing, { ...grant, expiresAtMs });
    given = grant;
  }
  return existing && (source === undefined ? existing : { ...existing, source });
}

/**
 * The first request's failure is the exchange's. After a good answer, what that one has spent and got must not be lost:
 * a new refresh token is saved beside the access token there was.
 */
function failed(
  token: TokenPlan,
  { context, code }: Exchange,
  grants: readonly StepGrant[],
  failure: Failure,
): Interpretation {
  if (grants.length === 0) return failure;
  const start = context.credential.kind === "oauth" ? context.credential : undefined;
  const got = merged(token, context.credential, grants);
  const isRotated =
    got?.refreshToken !== undefined && got.refreshToken.reveal() !== start?.refreshToken?.reveal();
  if (got === undefined) return failure;
  // Of a code, which is spent, even an answer that a better file may read is worth keeping.
  const isFinal = failure.kind === "refused" || failure.kind === "not_sent";
  if (!isRotated) return isFinal || code !== undefined ? failure : again(failure.cause);
  const { refreshToken, refreshTokenExpiresAtMs } = got;
  const members = { ...(start ?? got).members.reveal(), refresh_token: refreshToken?.reveal() ?? "" };
  const credential: OAuthCredential = {
    ...(start ?? { ...got, expiresAtMs: got.issuedAtMs }),
    refreshToken,
    refreshTokenExpiresAtMs,
    members: new Secret(members),
  };
  const fields = Object.assign({}, ...grants.map(({ grant }) => grant.fields));
  return { kind: "granted", credential, fields, unfinished: failure };
}

/** Nothing is spent: whatever became of a later request, all of them may be sent again. */
function again(cause: string): Failure {
  return {
    kind: "refused",
    class: "transient",
    code: undefined,
    message: "A later request of the exchange had no answer that is of use.",
    rule: cause,
    retryAfterMs: undefined,
    rateLimit: undefined,
    clientFault: false,
  };
}

function failure(step: StepPlan, known: Read, answer: ReadAnswer): Failure {
  const masker = maskerFor(known);
  const byFile = refusedByFile(answer, step.response, masker);
  const isDoubtful = isGatewayDoubt(answer.status) && !isOAuthRefusal(answer);
  // "transient" only says to try again, not that nothing was done.
  if (isDoubtful && (answer.body === undefined || byFile === undefined || byFile.class === "transient")) {
    return { kind: "unknown", cause: `status_${answer.status}` };
  }
  return byFile ?? refusedByDefault(answer, step.response, masker);
}

/** A success without a token is kept for a better file, unless it is an error in disguise. */
function withoutToken(step: StepPlan, known: Read, answer: ReadAnswer, why: string): Failure {
  const masker = maskerFor(known);
  const byFile = refusedByFile(answer, step.response, masker);
  if (byFile !== undefined && byFile.class !== "transient") return byFile;
  return isOAuthRefusal(answer)
    ? (byFile ?? refusedByDefault(answer, step.response, masker))
    : { kind: "unmapped", cause: why };
}

/** Whatever a request may have carried, the provider may say back. */
function maskerFor({ context, code, grants }: Read): Masker {
  const { credential, client } = context;
  const own =
    credential.kind === "oauth"
      ? [credential.refreshToken, credential.accessToken, ...Object.values(credential.source ?? {})]
      : credential.kind === "unminted"
        ? Object.values(credential.source ?? {})
        : [];
  // HTTP Basic's spelling of id and secret.
  const pair =
    client?.secret &&
    basicAuth({ id: client.record.clientId, secret: client.secret.reveal() }, true).slice(6);
  const hidden = [...own, client?.secret, client?.privateKey?.key, code?.code, code?.codeVerifier];
  const got = grants.flatMap(({ grant }) => [grant.accessToken, grant.refreshToken]);
  return new Masker([...hidden.map((secret) => secret?.reveal()), ...got, pair]);
}
