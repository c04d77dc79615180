import { CREDENTIAL_HEADERS, OVERRIDE_HEADERS } from "../../tokens/forwarding.ts";
import { Memo } from "../memo.ts";
import { delimited, text } from "../message-bytes.ts";
import type { Asked } from "./asked.ts";
import type { Opened } from "./wire.ts";

// Field numbers of envoy.service.auth.v3 and envoy.config.core.v3.
const STATUS = 1;
const OK_RESPONSE = 3;
const HEADERS = 2;
const HEADERS_TO_REMOVE = 5;
const QUERY_PARAMETERS_TO_SET = 7;
const QUERY_PARAMETERS_TO_REMOVE = 8;
const KEY = 1;
const VALUE = 2;

/** Said although its code is the default: an answer without a status must not be one that allows. */
const ALLOWS = delimited(STATUS, []);
/** Both spellings of "replace", for the Envoys that know only one of them: `append: false`, OVERWRITE_IF_EXISTS_OR_ADD. */
const REPLACES = Uint8Array.from([0x12, 0x00, 0x18, 0x02]);

/**
 * The bytes of a CheckResponse that lets the request through, with the account's credential in the client's place.
 * `isRestricted`: the caller's policy limits methods or paths.
 */
export function allowed(
  { headers, queryParameters }: Opened,
  asked: Asked,
  isRestricted: boolean,
): Uint8Array {
  const parameters = queryParameters.map(
    ([key, value]) => [encodeURIComponent(key), encodeURIComponent(value)] as const,
  );
  const disguised = asked.queryNames.filter((name) => parameters.some(([key]) => isDisguise(name, key)));
  const response = delimited(OK_RESPONSE, [
    ...headers.map(([key, value]) =>
      delimited(HEADERS, [delimited(1, [text(KEY, key), delimited(VALUE, [value])]), REPLACES]),
    ),
    removals(
      headers.map(([key]) => key),
      asked.accountHeader,
      isRestricted,
    ),
    ...parameters.map(([key, value]) =>
      delimited(QUERY_PARAMETERS_TO_SET, [text(KEY, key), text(VALUE, value)]),
    ),
    ...disguised.map((name) => text(QUERY_PARAMETERS_TO_REMOVE, name)),
  ]);
  return Buffer.concat([ALLOWS, response]);
}

/** What is removed is the same for every request of a route. */
const encodedRemovals = new Memo<Uint8Array>(1_000);

/** The headers that do not go upstream, encoded. */
function removals(
  injected: readonly string[],
  accountHeader: string | undefined,
  isRestricted: boolean,
): Uint8Array {
  return encodedRemovals.get(`${injected.join()} ${accountHeader} ${isRestricted}`, () => {
    const removed = [
      ...CREDENTIAL_HEADERS,
      ...(accountHeader === undefined ? [] : [accountHeader]),
      ...(isRestricted ? OVERRIDE_HEADERS : []),
      // Many servers read `x_api_key` as `x-api-key` (RFC 3875 §4.1.18).
      ...injected.map((key) => key.replaceAll("-", "_")),
    ].filter((name) => !injected.includes(name));
    return Buffer.concat(removed.map((name) => text(HEADERS_TO_REMOVE, name)));
  });
}

/** Envoy replaces a parameter that is written as ours is; the provider may read `api%5fkey` as `api_key` too. */
function isDisguise(name: string, ours: string): boolean {
  return name !== ours && decoded(name) === decoded(ours);
}

function decoded(name: string): string {
  try {
    return decodeURIComponent(name.replaceAll("+", " "));
  } catch {
    return name;
  }
}
