import { invalid } from "../../errors.ts";
import { type HttpFields, hasDotSegment } from "../../tokens/forwarding.ts";

const MAX_URL_LENGTH = 16_384;

/** RFC 3986 §3.3, but for `@`, which has to be encoded: it never belongs before a host that way. */
const SEGMENT = /^(?:[A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})*$/;
const ENCODED_CONTROL = /%(?:[01][0-9a-f]|7f)/i;

/** Nothing in it that has to be looked at more closely: no encoded character, no segment that is empty or begins with a dot. */
const PLAIN = /^(?:\/[A-Za-z0-9_~!$&'()*+,;=:-][A-Za-z0-9._~!$&'()*+,;=:-]*)+\/?$/;

/** A path as it may stand below the base URL; INVALID_REQUEST otherwise. Empty: the base URL itself. */
export function checkedPath(path: string): string {
  if (path === "" || PLAIN.test(path)) return path;
  if (!path.startsWith("/")) throw invalid("path", 'must start with "/"');
  const segments = path.slice(1).split("/");
  for (const segment of segments) {
    if (SEGMENT.test(segment)) continue;
    const why = /[?#]/.test(segment) ? "; the query has its own field" : "";
    throw invalid("path", `must be percent-encoded (RFC 3986 §3.3), @ as %40${why}`);
  }
  if (segments.slice(0, -1).includes("")) throw invalid("path", "must not have an empty segment (//)");
  if (hasDotSegment(path)) throw invalid("path", 'must not have "." or ".." segments, however encoded');
  if (ENCODED_CONTROL.test(path)) throw invalid("path", "must not have control characters, however encoded");
  return path;
}

/** INVALID_REQUEST names the parameter. */
export function checkedQuery(query: HttpFields): HttpFields {
  for (const [at, [name, value]] of query.entries()) {
    if (name === "") throw invalid(`query[${at}].name`, "must not be empty");
    requireText(`query[${at}].name`, name);
    requireText(`query[${at}].value`, value);
  }
  return query;
}

function requireText(field: string, text: string): void {
  if (hasControl(text)) throw invalid(field, "must not have control characters");
  if (!text.isWellFormed()) throw invalid(field, "must not have half of a surrogate pair");
}

function hasControl(text: string): boolean {
  for (let i = 0; i < text.length; i += 1) {
    const code = text.charCodeAt(i);
    if (code < 0x20 || code === 0x7f) return true;
  }
  return false;
}

/** A base URL, taken apart. */
export interface Base {
  /** As it was given. */
  readonly text: string;
  readonly url: URL;
  /** Path without the slash at its end. */
  readonly prefix: string;
  /** Its own query. */
  readonly query: HttpFields;
}

/** Undefined when it is no URL. */
export function baseOf(text: string): Base | undefined {
  const url = URL.parse(text);
  if (url === null) return undefined;
  return { text, url, prefix: url.pathname.replace(/\/$/, ""), query: [...url.searchParams] };
}

/**
 * Where a call goes: the base URL, the checked path below it, the query, and last the credential's own parameters, which
 * win. Written as the parser of URLs would write it.
 */
export function targetUrl(
  { url: { origin, pathname }, prefix, query: own }: Base,
  path: string,
  query: HttpFields,
  credential: Readonly<Record<string, string>>,
): string {
  const isCredential = ([name]: HttpFields[number]) => Object.hasOwn(credential, name);
  let separator = "?";
  let url = origin + (path === "" ? pathname : prefix + path);
  const add = (pair: HttpFields[number]) => {
    url += separator + encodedPair(pair);
    separator = "&";
  };
  for (const pair of own) if (!isCredential(pair)) add(pair);
  for (const pair of query) if (!isCredential(pair)) add(pair);
  for (const pair of Object.entries(credential)) add(pair);
  if (url.length <= MAX_URL_LENGTH) return url;
  const field = path.length > MAX_URL_LENGTH / 2 ? "path" : "query";
  throw invalid(field, `makes a URL of over ${MAX_URL_LENGTH} bytes`);
}

function encodedPair([name, value]: readonly [string, string]): string {
  return `${encoded(name)}=${encoded(value)}`;
}

function encoded(text: string): string {
  return encodeURIComponent(text).replaceAll("'", "%27");
}
