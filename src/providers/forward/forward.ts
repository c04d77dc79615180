import type { Clock } from "../../clock.ts";
import { isReason, KeyturnError } from "../../errors.ts";
import type { Forward, Forwarded, ForwardedCall, HttpFields } from "../../tokens/forwarding.ts";
import { judge, MAX_EXPRESSION_INPUT_BYTES, type ReadAnswer, readAnswer, readHead } from "../answer.ts";
import { fieldLookup } from "../fields.ts";
import { type Catalogue, providerIn } from "../load.ts";
import type { Provider } from "../provider.ts";
import { isThrottled, limitHeaders, type RateLimits, rateLimitsOf } from "../rate-limit.ts";
import { hostsOf } from "../request.ts";
import { renderHeader, variablesOf } from "../template.ts";
import { answerHeaders, checkedHeaders, requestHeaders } from "./headers.ts";
import { noBaseUrl, type RequireHost } from "./no-base.ts";
import { peek } from "./peek.ts";
import { type Hop, redirected, type Start } from "./redirect.ts";
import { type Base, baseOf, checkedPath, checkedQuery, targetUrl } from "./target.ts";

/** A request as this room hands it to the guarded way out. */
interface Outward {
  readonly method: string;
  readonly url: string;
  readonly headers: HttpFields;
  readonly allowedHosts: readonly string[];
  readonly allowLoopback: boolean;
  readonly allowPrivate: boolean;
  readonly clientCertificate?: { readonly chain: string; readonly key: string };
  readonly timeoutMs: number;
  readonly keepEncoding: boolean;
  readonly signal: AbortSignal;
}

interface Head {
  readonly kind: "answer";
  readonly status: number;
  readonly headers: HttpFields;
  readonly requestedAtMs: number;
  readonly receivedAtMs: number;
}

interface Unanswered {
  readonly kind: "not_sent" | "unknown";
  readonly cause: string;
}

type Whole = Head & { readonly body: Uint8Array };
type Streamed = Head & {
  readonly body: AsyncIterable<Uint8Array>;
  readonly trailers: () => HttpFields;
  readonly cancel: () => void;
};
type Answer = Whole | Streamed;

/** The guarded way out. */
export interface Outlet {
  request(
    r: Outward & {
      readonly body: Uint8Array | undefined;
      readonly fresh: boolean;
      readonly maxBodyBytes: number;
    },
  ): Promise<Whole | Unanswered>;
  stream(
    r: Outward & {
      readonly body: Uint8Array | AsyncIterable<Uint8Array> | undefined;
      readonly bodyBytes: number | undefined;
      readonly answerWithinMs: number;
    },
  ): Promise<Streamed | Unanswered>;
}

export interface ForwardDeps {
  /** The catalogue as it is now. */
  readonly catalogue: () => Catalogue;
  readonly outlet: Outlet;
  readonly requireHost: RequireHost;
  readonly clock: Pick<Clock, "boot">;
}

const MAX_REDIRECTS = 5;

/** Calls at the providers' APIs, as their files describe them. */
export function createForward(deps: ForwardDeps): Forward {
  const settledFor = settling();
  return async (call) => {
    const provider = providerIn(deps.catalogue(), call.provider);
    const settled = settledFor(provider, call.fields);
    const { start, first } = setOut(deps, settled, provider, call);
    let hop = first;
    let answer = await send(deps, provider, settled, call, hop);
    for (let followed = 0; followed < MAX_REDIRECTS; followed += 1) {
      const next = redirected(start, hop, answer);
      if (next === undefined) break;
      const answered = await send(deps, provider, settled, call, next).catch(unlessNotAllowed);
      // What leads where nothing may go is for the caller to see, not to be followed.
      if (answered === undefined) break;
      cancelOf(answer)();
      answer = answered;
      hop = next;
    }
    return isPlain(settled, answer) ? plain(answer) : forwarded(provider, answer);
  };
}

function unlessNotAllowed(error: unknown): undefined {
  if (!isReason(error, "DESTINATION_NOT_ALLOWED")) throw error;
}

/** What a provider's file and an account's fields come to, whatever is called. */
interface Settled {
  readonly hosts: readonly string[];
  readonly defaults: HttpFields;
  /** The base URL of the last call, which is the next one's too. */
  base: Base | undefined;
  /** The file has words of its own for limits or ended tokens: its answers are read more closely. */
  readonly readsAnswers: boolean;
}

/** Patterns of fields and hosts are costly to check, and both objects stay the same from call to call. */
function settling(): (provider: Provider, fields: ForwardedCall["fields"]) => Settled {
  const known = new WeakMap<Provider, WeakMap<ForwardedCall["fields"], Settled>>();
  return (provider, fields) => {
    const ofProvider = known.get(provider) ?? new WeakMap<ForwardedCall["fields"], Settled>();
    known.set(provider, ofProvider);
    const settled = ofProvider.get(fields) ?? settledOf(provider, fields);
    ofProvider.set(fields, settled);
    return settled;
  };
}

function settledOf(provider: Provider, fields: ForwardedCall["fields"]): Settled {
  const lookup = fieldLookup(provider.fields, fields);
  const isLeftOut = (name: string) =>
    provider.file.account_fields?.[name]?.required === false &&
    !Object.hasOwn(fields, name) &&
    provider.fields.get(name)?.default === undefined;
  const defaults = provider.proxy.headers
    .filter(([, template]) => !variablesOf(template).some(isLeftOut))
    .map(([name, template]) => [name, renderHeader(name, template, lookup)] as const);
  const { windows, retryAfter, throttled } = provider.response.rateLimits;
  const readsAnswers =
    windows.length > 0 || [retryAfter, throttled, provider.proxy.tokenEnded].some((own) => own !== undefined);
  return { hosts: [...new Set(hostsOf(provider, fields))], defaults, base: undefined, readsAnswers };
}

/** The call as it goes out first; everything the caller sent is checked here. */
function setOut(
  { requireHost }: ForwardDeps,
  settled: Settled,
  provider: Provider,
  call: ForwardedCall,
): { readonly start: Start; readonly first: Hop } {
  const path = checkedPath(call.path);
  const query = checkedQuery(call.query);
  const credential = call.credential.reveal();
  const restricted = call.permits !== undefined;
  const asked = checkedHeaders(call.headers, Object.keys(credential.headers), restricted);
  if (settled.base?.text !== call.baseUrl) settled.base = baseOf(call.baseUrl);
  const { base, defaults } = settled;
  if (base === undefined) throw noBaseUrl(provider, call.fields, settled.hosts, requireHost);
  return {
    start: { base: base.url, parameters: credential.queryParameters, permits: call.permits },
    first: {
      method: call.method.toUpperCase(),
      url: targetUrl(base, path, query, credential.queryParameters),
      headers: requestHeaders(asked, defaults, credential.headers),
      body: call.body,
      atHome: true,
    },
  };
}

async function send(
  { outlet, clock }: ForwardDeps,
  provider: Provider,
  { hosts }: Settled,
  call: ForwardedCall,
  hop: Hop,
): Promise<Answer> {
  const shown = hop.atHome ? call.clientCertificate : undefined;
  const outward: Outward = {
    method: hop.method,
    url: hop.url,
    headers: hop.headers,
    allowedHosts: hosts,
    allowLoopback: provider.allowLoopback,
    allowPrivate: provider.allowPrivate,
    ...(shown === undefined ? {} : { clientCertificate: { chain: shown.chain, key: shown.key.reveal() } }),
    timeoutMs: Math.max(0, call.untilBootMs - clock.boot()),
    // Who names codings wants them; for everybody else the body is plain.
    keepEncoding: hop.headers.some(([name]) => name.toLowerCase() === "accept-encoding"),
    signal: call.signal,
  };
  const sent = await (call.maxBodyBytes === undefined || isStream(hop.body)
    ? outlet.stream({
        ...outward,
        body: hop.body,
        bodyBytes: call.bodyBytes,
        answerWithinMs: call.answerWithinMs,
      })
    : outlet.request({ ...outward, body: hop.body, fresh: false, maxBodyBytes: call.maxBodyBytes }));
  if (sent.kind === "answer") return sent;
  // A caller whose time is up is told so, whoever noticed it first.
  const late = sent.cause === "aborted" && clock.boot() >= call.untilBootMs;
  throw unanswered(late ? { ...sent, cause: "timeout" } : sent, provider, call);
}

function isStream(body: Hop["body"]): body is AsyncIterable<Uint8Array> {
  return body !== undefined && !(body instanceof Uint8Array);
}

/** Why there is no answer, and whether the provider may have seen the request. */
function unanswered({ kind, cause }: Unanswered, provider: Provider, call: ForwardedCall): KeyturnError {
  const sent = kind === "not_sent" ? "no" : "maybe";
  const metadata = { cause, sent, provider: provider.name };
  if (cause === "body_too_large") {
    const limit = String(call.maxBodyBytes ?? 0);
    return new KeyturnError(
      "BODY_TOO_LARGE",
      `The provider's answer is larger than ${limit} bytes; ProxyStream has no such limit.`,
      { metadata: { ...metadata, limit } },
    );
  }
  if (cause === "request_length_mismatch") {
    return new KeyturnError("INVALID_REQUEST", "The body is not as long as content_length says.", {
      violations: [{ field: "content_length", description: "the number of bytes that follow in chunks" }],
    });
  }
  if (cause === "timeout") {
    return new KeyturnError("WAIT_TIMED_OUT", "The provider did not answer within the deadline.", {
      metadata,
    });
  }
  if (cause === "closed") {
    return new KeyturnError("SHUTTING_DOWN", "The sidecar is shutting down.", { metadata });
  }
  const text =
    sent === "no"
      ? "The provider could not be reached; nothing was sent."
      : "The provider gave no whole answer; it may have acted on the request.";
  return new KeyturnError("PROVIDER_UNAVAILABLE", text, { metadata });
}

async function forwarded(provider: Provider, answer: Answer): Promise<Forwarded> {
  const { body, whole } = await beginning(provider, answer);
  const read = whole === undefined ? readHead(answer) : readAnswer({ ...answer, body: whole });
  const { rateLimits } = provider.response;
  const throttled = isThrottled(read, rateLimits);
  const limits = rateLimitsOf(read, rateLimits);
  return {
    status: answer.status,
    headers: withLimits(answerHeaders(answer.headers), limits, throttled),
    body,
    trailers: trailersOf(answer),
    rateLimit: limits,
    tokenEnded: !throttled && tokenEnded(provider, read),
    cancel: cancelOf(answer),
  };
}

/** The provider's trouble says nothing of a token, whatever else the answer looks like. */
function tokenEnded({ proxy }: Provider, read: ReadAnswer): boolean {
  return read.status < 500 && (judge(proxy.tokenEnded, read) ?? read.status === 401);
}

/** True of an answer that says nothing of limits, where the file has no words of its own for them or for ended tokens. */
function isPlain({ readsAnswers }: Settled, { status, headers }: Answer): boolean {
  return !readsAnswers && status !== 429 && !tellsLimits(headers);
}

function plain(answer: Answer): Forwarded {
  return {
    status: answer.status,
    headers: answerHeaders(answer.headers),
    body: answer.body,
    trailers: trailersOf(answer),
    rateLimit: undefined,
    tokenEnded: answer.status === 401,
    cancel: cancelOf(answer),
  };
}

/** Most answers say nothing of limits, and looking for all the ways of saying it costs as much as the rest. */
function tellsLimits(headers: HttpFields): boolean {
  return headers.some(([name]) => name.includes("rate") || name === "retry-after");
}

/** The provider's own stay, but for those whose standard meaning they may not have. */
function withLimits(headers: HttpFields, limits: RateLimits | undefined, throttled: boolean): HttpFields {
  if (limits === undefined) return headers;
  const standard = limitHeaders(limits, throttled);
  return [...headers.filter(([name]) => standard.every(([other]) => other !== name)), ...standard];
}

/** The body, as far as the file's expressions look into it. */
async function beginning(
  provider: Provider,
  answer: Answer,
): Promise<{ readonly body: Forwarded["body"]; readonly whole: Uint8Array | undefined }> {
  const { body } = answer;
  if (!looksIntoBodies(provider) || !isJson(answer)) return { body, whole: undefined };
  return body instanceof Uint8Array ? { body, whole: body } : peek(body, MAX_EXPRESSION_INPUT_BYTES);
}

function looksIntoBodies({ proxy, response: { rateLimits } }: Provider): boolean {
  const { windows, retryAfter, throttled } = rateLimits;
  if (proxy.tokenEnded !== undefined || throttled !== undefined) return true;
  const sources = windows.flatMap(({ limit, remaining, used, reset }) => [limit, remaining, used, reset]);
  return [retryAfter, ...sources].some((source) => source !== undefined && "expression" in source);
}

function isJson({ headers }: Head): boolean {
  const type = headers.find(([name]) => name === "content-type")?.[1] ?? "";
  return /^application\/(?:[\w.+-]+\+)?json\s*(?:;|$)/i.test(type);
}

const none = () => [];

function trailersOf(answer: Answer): Forwarded["trailers"] {
  return "trailers" in answer ? () => answerHeaders(answer.trailers()) : none;
}

function cancelOf(answer: Answer): () => void {
  return "cancel" in answer ? answer.cancel : () => undefined;
}
