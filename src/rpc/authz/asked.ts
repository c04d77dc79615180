import { invalid } from "../../errors.ts";
import { AN_ACCOUNT_ID, DEFAULT_SLOT, isAccountId } from "../../tokens/account.ts";
import type { Ask } from "../../tokens/token.ts";
import type { AskedHttp, Asking } from "./wire.ts";

/** Globs that an account has to match; undefined members match every account. */
export interface Fence {
  readonly tenant: string | undefined;
  readonly provider: string | undefined;
  readonly account: string | undefined;
}

/** One request that Envoy wants a credential for. */
export interface Asked {
  readonly ask: Ask;
  readonly fence: Fence;
  /** As the request names it: `api.example.com`, `api.example.com:8443`. */
  readonly host: string;
  readonly method: string;
  /** Without its query. */
  readonly path: string;
  /** Names in the query, as they are written there. */
  readonly queryNames: readonly string[];
  /** The request header that named the account, lower-case; it is nobody's business upstream. */
  readonly accountHeader: string | undefined;
}

const FENCES = ["tenant_glob", "provider_glob", "account_glob"] as const;
const KNOWN: ReadonlySet<string> = new Set(["account_id", "account_header", "token_name", ...FENCES]);
const HEADER_NAME = /^[a-z0-9!#$%&'*+.^_`|~-]+$/;

/**
 * The route decides, by `context_extensions`: `account_id`, or `account_header`, the name of a request header that
 * names the account. What the header may name is then limited by at least one of `tenant_glob`, `provider_glob` and
 * `account_glob`. INVALID_REQUEST says what is wrong with the route or the request.
 */
export function askedOf({ attributes }: Asking): Asked {
  const http = attributes?.request?.http;
  if (attributes === undefined || http === undefined)
    throw invalid("attributes.request.http", "a request of Envoy's HTTP filter");
  const extensions = attributes.contextExtensions;
  for (const name of Object.keys(extensions))
    if (!KNOWN.has(name)) throw invalid(`context_extensions.${name}`, "there is no such key");
  const [path = "", ...query] = http.path.split("?");
  const accountHeader = extensions.account_header?.toLowerCase();
  const accountId = accountIdOf(extensions, accountHeader, http);
  return {
    ask: {
      key: { accountId, slot: extensions.token_name || DEFAULT_SLOT },
      minValidityMs: 0,
      rejected: undefined,
      trigger: "demand",
    },
    fence: {
      tenant: extensions.tenant_glob,
      provider: extensions.provider_glob,
      account: extensions.account_glob,
    },
    host: http.host,
    method: http.method,
    path,
    queryNames: query.length === 0 ? [] : namesIn(query.join("?")),
    accountHeader,
  };
}

function namesIn(query: string): readonly string[] {
  return query.split("&").map((parameter) => parameter.split("=", 1)[0] ?? "");
}

function accountIdOf(
  extensions: Readonly<Record<string, string>>,
  header: string | undefined,
  http: AskedHttp,
): string {
  const { account_id: fixed } = extensions;
  if ((fixed === undefined) === (header === undefined))
    throw invalid("context_extensions.account_id", "either this or account_header");
  if (fixed !== undefined) {
    if (isAccountId(fixed)) return fixed;
    throw invalid("context_extensions.account_id", AN_ACCOUNT_ID);
  }
  if (header === undefined || !HEADER_NAME.test(header))
    throw invalid("context_extensions.account_header", "a header's name");
  if (FENCES.every((name) => extensions[name] === undefined))
    throw invalid("context_extensions.account_header", `needs at least one of ${FENCES.join(", ")}`);
  const [named, ...more] = headerValues(http, header);
  // Envoy joins the values of a doubled header with a comma, which no id has.
  if (named !== undefined && more.length === 0 && isAccountId(named)) return named;
  throw invalid(`header ${header}`, `once, naming an account: ${AN_ACCOUNT_ID}`);
}

/** With `encode_raw_headers` Envoy sends a list instead of a map. */
function headerValues(http: AskedHttp, name: string): readonly string[] {
  const { headers, headerMap } = http;
  const inMap = Object.hasOwn(headers, name) ? [headers[name] ?? ""] : [];
  const inList = (headerMap?.headers ?? []).filter(({ key }) => key.toLowerCase() === name);
  return [
    ...inMap,
    ...inList.map(({ value, rawValue }) => (value === "" ? Buffer.from(rawValue).toString("latin1") : value)),
  ];
}
