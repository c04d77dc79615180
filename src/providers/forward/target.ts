import { invalid } from "../../errors.ts";
import { type HttpFields, hasDotSegment } from "../../tokens/forwarding.ts";

const MAX_URL_LENGTH = 16_384;

/** RFC 3986 §3.3, but for `@`, which has to be encoded: it never belongs before a host that way. */
const SEGMENT = /^(?:[A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})*$/;
const ENCODED_CONTROL = /%(?:[01][0-9a-f]|7f)/i;

/** A path as it may stand below the base URL; INVALID_REQUEST otherwise. Empty: the base URL itself. */
export function checkedPath(path: string): string {
  if (path === "") return path;
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
    if (hasControl(name)) throw invalid(`query[${at}].name`, "must not have control characters");
    if (hasControl(value)) throw invalid(`query[${at}].value`, "must not have control characters");
  }
  return query;
}

function hasControl(text: string): boolean {
  for (let i = 0; i < text.length; i += 1) {
    const code = text.charCodeAt(i);
    if (code < 0x20 || code === 0x7f) return true;
  }
  return false;
}

/** Where a call goes: the base URL, the path below it, the query, and last the credential's own parameters, which win. */
export function targetUrl(
  base: URL,
  path: string,
  query: HttpFields,
  credential: Readonly<Record<string, string>>,
): URL {
  const wanted = `${base.pathname.replace(/\/$/, "")}${path}`;
  const url = new URL(base);
  if (path !== "") url.pathname = wanted;
  if (path !== "" && url.pathname !== wanted) throw invalid("path", "must be written as it is to be sent");
  const isCredential = (name: string) => Object.hasOwn(credential, name);
  const own = url.search === "" ? [] : [...url.searchParams];
  const pairs = [...own, ...query].filter(([name]) => !isCredential(name));
  pairs.push(...Object.entries(credential));
  if (pairs.length > 0) url.search = pairs.map(encodedPair).join("&");
  if (url.href.length > MAX_URL_LENGTH) {
    throw invalid(
      path.length > MAX_URL_LENGTH / 2 ? "path" : "query",
      `makes a URL of over ${MAX_URL_LENGTH} bytes`,
    );
  }
  return url;
}

function encodedPair([name, value]: readonly [string, string]): string {
  return `${encodeURIComponent(name)}=${encodeURIComponent(value)}`;
}
