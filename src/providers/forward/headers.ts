import { invalid } from "../../errors.ts";
import {
  CREDENTIAL_HEADERS,
  type HttpFields,
  isFieldValue,
  isToken,
  OVERRIDE_HEADERS,
} from "../../tokens/forwarding.ts";

const MAX_HEADERS = 128;
const MAX_HEADER_BYTES = 32_768;

/** They frame the message or name another host: whoever sends them means something else than what would happen. */
const REFUSED: ReadonlySet<string> = new Set(["connection", "content-length", "host", "transfer-encoding"]);

/** Of one connection only (RFC 9110 §7.6.1), which is not the one to the provider. */
const HOP_BY_HOP: ReadonlySet<string> = new Set([
  "connection",
  "expect",
  "http2-settings",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authentication-info",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

/** What may be told to another host than the one the caller meant. */
const HARMLESS =
  /^(?:accept|accept-encoding|accept-language|range|user-agent|if-(?:match|none-match|modified-since|unmodified-since|range))$/;

/** Many servers read `x_api_key` as `x-api-key` (RFC 3875 §4.1.18). */
function plainName(name: string): string {
  return name.toLowerCase().replaceAll("_", "-");
}

/** A caller's headers without those that are not its to send; INVALID_REQUEST names one that nobody may send. */
export function checkedHeaders(
  headers: HttpFields,
  credential: readonly string[],
  restricted: boolean,
): HttpFields {
  if (headers.length > MAX_HEADERS) throw invalid("headers", `at most ${MAX_HEADERS}`);
  const injected = new Set(credential.map(plainName));
  let bytes = 0;
  const kept = headers.filter(([name, value], at) => {
    if (!isToken(name)) throw invalid(`headers[${at}].name`, "must be an HTTP token (RFC 9110 §5.6.2)");
    const plain = plainName(name);
    if (REFUSED.has(plain)) throw invalid(`headers[${at}].name`, `${plain} is written by the sidecar`);
    if (restricted && OVERRIDE_HEADERS.has(plain)) {
      throw invalid(`headers[${at}].name`, `${plain} is not for callers whose methods or paths are limited`);
    }
    if (!isFieldValue(value)) {
      throw invalid(`headers[${at}].value`, "has characters that no header may have (CR, LF, NUL …)");
    }
    bytes += name.length + value.length;
    return !HOP_BY_HOP.has(plain) && !CREDENTIAL_HEADERS.has(plain) && !injected.has(plain);
  });
  if (bytes > MAX_HEADER_BYTES) throw invalid("headers", `at most ${MAX_HEADER_BYTES} bytes together`);
  return kept;
}

/** The caller's, then ours and the provider file's own where nobody has said otherwise, then the credential. */
export function requestHeaders(
  asked: HttpFields,
  defaults: HttpFields,
  credential: Readonly<Record<string, string>>,
): HttpFields {
  const headers = [...asked];
  for (const one of [...defaults, OWN]) {
    if (!isNamed(headers, one[0]) && !isNamed(Object.entries(credential), one[0])) headers.push(one);
  }
  headers.push(...Object.entries(credential));
  return headers;
}

const OWN: HttpFields[number] = ["user-agent", "keyturn"];

function isNamed(headers: HttpFields, name: string): boolean {
  const lower = name.toLowerCase();
  return headers.some(([other]) => other.length === lower.length && other.toLowerCase() === lower);
}

/** What is left of a request's headers when it is sent on to another origin. */
export function headersElsewhere(headers: HttpFields): HttpFields {
  return headers.filter(([name]) => HARMLESS.test(name.toLowerCase()));
}

/** A provider's headers as they go on to the caller. */
export function answerHeaders(headers: HttpFields): HttpFields {
  let named: readonly string[] = [];
  for (const [name, value] of headers) {
    // What nearly all of them say names no header of its own.
    if (name !== "connection" || value === "keep-alive" || value === "close") continue;
    named = [
      ...named,
      ...value
        .toLowerCase()
        .split(",")
        .map((each) => each.trim()),
    ];
  }
  return headers.filter(([name]) => !HOP_BY_HOP.has(name) && !named.includes(name));
}
