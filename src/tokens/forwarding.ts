import type { RateLimit } from "../errors.ts";
import type { Secret } from "./secret.ts";
import type { ClientCertificate } from "./vendor.ts";

/** Headers or query parameters, in order, repeated names kept. */
export type HttpFields = readonly (readonly [string, string])[];

/** What a client may authenticate with, lower-case; the only credentials that reach a provider are the account's. */
export const CREDENTIAL_HEADERS: ReadonlySet<string> = new Set([
  "authorization",
  "cookie",
  "cookie2",
  "proxy-authorization",
]);

/** They make another method or path of a request than the one that a caller's policy has seen. Lower-case. */
export const OVERRIDE_HEADERS: ReadonlySet<string> = new Set([
  "x-http-method",
  "x-http-method-override",
  "x-method-override",
  "x-original-url",
  "x-rewrite-url",
]);

/** A method, or a header's name (RFC 9110 §5.6.2). */
export function isToken(text: string): boolean {
  return /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(text);
}

/** A text that a header may carry (RFC 9110 §5.5). */
export function isFieldValue(text: string): boolean {
  return !/[^\t\x20-\x7e\x80-\xff]/.test(text);
}

/** One call at a provider's API, made as an account. */
export interface ForwardedCall {
  readonly provider: string;
  /** The account's. */
  readonly fields: Readonly<Record<string, string>>;
  /** The provider's API for this account; empty when its file names none. */
  readonly baseUrl: string;
  /** How the account's token goes into the request. */
  readonly credential: Secret<{
    readonly headers: Readonly<Record<string, string>>;
    readonly queryParameters: Readonly<Record<string, string>>;
  }>;
  /** Shown on the connection, to the origin of the base URL alone. */
  readonly clientCertificate?: ClientCertificate | undefined;
  readonly method: string;
  /** Below the base URL. */
  readonly path: string;
  readonly query: HttpFields;
  readonly headers: HttpFields;
  readonly body: Uint8Array | AsyncIterable<Uint8Array> | undefined;
  /** The length of a streamed body, where it is known. */
  readonly bodyBytes?: number | undefined;
  /** The answer's body is whole and not longer than this. Undefined: it is a stream. */
  readonly maxBodyBytes: number | undefined;
  /** Boot clock: until when the whole call may take. */
  readonly untilBootMs: number;
  /** From the end of the request to the beginning of a streamed answer. */
  readonly answerWithinMs: number;
  /** Aborts when the caller has gone. */
  readonly signal: AbortSignal;
  /** Whether a redirect may lead there; `path` is undefined when it is not below the base URL. Undefined: anywhere. */
  readonly permits: ((method: string, path: string | undefined) => boolean) | undefined;
}

/** A provider's answer, whatever its status. A streamed body has to be read or cancelled: it holds a connection. */
export interface Forwarded {
  readonly status: number;
  /** The provider's own end-to-end ones, and the rate limit in the standard forms. Lower-case names. */
  readonly headers: HttpFields;
  readonly body: Uint8Array | AsyncIterable<Uint8Array>;
  /** What followed a streamed body; empty before its end. */
  readonly trailers: () => HttpFields;
  readonly rateLimit: RateLimit | undefined;
  /** The provider says, in the words of its file, that the token has ended. */
  readonly tokenEnded: boolean;
  readonly cancel: () => void;
}

/**
 * Makes the call. INVALID_REQUEST and DESTINATION_NOT_ALLOWED before anything is sent; PROVIDER_UNAVAILABLE,
 * WAIT_TIMED_OUT and BODY_TOO_LARGE when there is no (whole) answer, `sent` in the metadata: `no` or `maybe`.
 */
export type Forward = (call: ForwardedCall) => Promise<Forwarded>;

const DOT_SEGMENT = /(?:^|[/\\])\.{1,2}(?:$|[/\\;])/;

/** True when some server may read `path` as another one: dot segments, however often they are encoded. */
export function hasDotSegment(path: string): boolean {
  let text = path;
  for (let round = 0; round < 3; round += 1) {
    if (DOT_SEGMENT.test(text)) return true;
    text = text.replaceAll(/%(2e|2f|5c|25|3b)/gi, (encoded) => decodeURIComponent(encoded));
  }
  return DOT_SEGMENT.test(text);
}
