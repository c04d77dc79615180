import { invalid } from "../errors.ts";
import { isFieldValue, isToken } from "../tokens/forwarding.ts";

// These frame the message or name another host; the room writes them itself.
const OWN_HEADERS: ReadonlySet<string> = new Set([
  "host",
  "content-length",
  "transfer-encoding",
  "connection",
  "keep-alive",
  "proxy-connection",
  "upgrade",
  "expect",
  "te",
  "trailer",
]);

/** The method, when it is one an origin server may be sent; INVALID_REQUEST otherwise. */
export function checkedMethod(method: string): string {
  if (!isToken(method)) throw invalid("method", "must be an HTTP token such as POST");
  const upper = method.toUpperCase();
  if (upper === "CONNECT" || upper === "TRACE") throw invalid("method", `${upper} is not allowed`);
  return upper;
}

/** Name, value, name, value …, with `accept-encoding: identity` unless given; INVALID_REQUEST names a bad field. */
export function checkedHeaders(headers: readonly (readonly [string, string])[]): string[] {
  const flat: string[] = [];
  let encodings = false;
  for (const [index, [name, value]] of headers.entries()) {
    if (!isToken(name)) throw invalid(`headers[${index}]`, "the name must be an HTTP token");
    const lower = name.toLowerCase();
    if (OWN_HEADERS.has(lower))
      throw invalid(`headers.${lower}`, "is written by the sidecar and cannot be set");
    if (!isFieldValue(value))
      throw invalid(`headers.${lower}`, "the value holds a character headers cannot carry");
    if (lower === "accept-encoding") encodings = true;
    flat.push(name, value);
  }
  if (!encodings) flat.push("accept-encoding", "identity");
  return flat;
}
