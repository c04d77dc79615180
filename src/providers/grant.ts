import { type ReadAnswer, runOver } from "./answer.ts";
import { expiresAtMs } from "./expiry.ts";
import { isObject, type Value } from "./expression/values.ts";
import type { Expression } from "./fence.ts";
import type { Grant } from "./merge.ts";
import type { Provider, ResponsePlan } from "./provider.ts";

/** RFC 6749 appendix A.12: what a token is made of, and the only thing that can stand in a header. */
const TOKEN = /^[\x20-\x7e]+$/;
const MAX_TOKEN_LENGTH = 65_536;
const MAX_FIELD_LENGTH = 1_024;

/** A grant whose expiry is as the answer said it. */
export type ReadGrant = Grant & {
  /** Non-secret account fields of the answer that their rules accept. */
  readonly fields: Readonly<Record<string, string>>;
};

/** The token that stays when an answer has none of its own. */
export type TokenBefore = Pick<ReadGrant, "accessToken" | "tokenType">;

/**
 * The grant in a success; a string says why there is none. One that has a token `before` it need not have its own.
 */
export function readGrant(
  provider: Provider,
  response: ResponsePlan,
  answer: ReadAnswer,
  before?: TokenBefore,
): ReadGrant | string {
  const token =
    response.token === undefined
      ? { ok: true as const, value: answer.body }
      : runOver(response.token, answer);
  if (!token.ok) return `the file's token expression failed: ${token.why}`;
  const members = isObject(token.value) ? token.value : {};
  const of = (name: string) => mapped(response, answer, members, name);
  return grantOf(provider, response, answer, members, of, before);
}

/**
 * One of several tokens that an answer gives: `inGrant` names the object that holds its members, under the standard's
 * names. One that is only a refresh token has ended already, so that whoever asks first has it renewed.
 */
export function readTokenInGrant(
  provider: Provider,
  response: ResponsePlan,
  answer: ReadAnswer,
  inGrant: Expression,
): ReadGrant | string {
  const found = runOver(inGrant, answer);
  if (!found.ok) return `the file's token expression failed: ${found.why}`;
  const members = isObject(found.value) ? found.value : {};
  const of = (name: string) => (Object.hasOwn(members, name) ? members[name] : undefined);
  const refreshOnly = of("access_token") === undefined && tokenText(of("refresh_token")) !== undefined;
  if (!refreshOnly) return grantOf(provider, response, answer, members, of);
  const grant = grantOf(provider, response, answer, members, (name) =>
    name === "access_token" ? "none" : of(name),
  );
  return typeof grant === "string" ? grant : { ...grant, accessToken: "", expiresAtMs: grant.issuedAtMs };
}

function grantOf(
  provider: Provider,
  response: ResponsePlan,
  answer: ReadAnswer,
  members: { readonly [name: string]: Value },
  of: (name: string) => Value,
  before?: TokenBefore,
): ReadGrant | string {
  const absent = response.required.find((name) => typeof of(name) !== "string");
  if (absent !== undefined) return `no ${absent}`;
  const own = of("access_token");
  const mayLack = before !== undefined && own === undefined && !Object.hasOwn(response.map, "access_token");
  const accessToken = mayLack ? before.accessToken : tokenText(own);
  if (accessToken === undefined) return "no access_token that is a text of printable characters";
  const refresh = of("refresh_token");
  const refreshToken = tokenText(refresh);
  const isAbsent = refresh === undefined || refresh === null || refresh === "";
  if (refreshToken === undefined && !isAbsent)
    return "a refresh_token that is not a text of printable characters";
  const tokenType = of("token_type");
  return {
    accessToken,
    refreshToken,
    tokenType: typeof tokenType === "string" ? tokenType : mayLack ? before.tokenType : undefined,
    scope: of("scope"),
    members,
    issuedAtMs: answer.requestedAtMs,
    expiresAtMs: expiresAtMs(of("expires_in"), response.expiresIn, answer),
    refreshTokenExpiresAtMs: expiresAtMs(of("refresh_token_expires_in"), response.expiresIn, answer),
    fields: fieldsOf(provider, response, answer, [accessToken, refreshToken]),
  };
}

function mapped(
  response: ResponsePlan,
  answer: ReadAnswer,
  members: { readonly [name: string]: Value },
  name: string,
): Value {
  const expression = Object.hasOwn(response.map, name) ? response.map[name] : undefined;
  if (expression === undefined) return Object.hasOwn(members, name) ? members[name] : undefined;
  const outcome = runOver(expression, answer);
  return outcome.ok ? outcome.value : undefined;
}

function tokenText(value: Value): string | undefined {
  return typeof value === "string" && value.length <= MAX_TOKEN_LENGTH && TOKEN.test(value)
    ? value
    : undefined;
}

function fieldsOf(
  provider: Provider,
  response: ResponsePlan,
  answer: ReadAnswer,
  secrets: readonly (string | undefined)[],
): Readonly<Record<string, string>> {
  const found = response.fields.flatMap(([name, expression]) => {
    const outcome = runOver(expression, answer);
    const value =
      outcome.ok && typeof outcome.value === "number"
        ? String(outcome.value)
        : outcome.ok
          ? outcome.value
          : undefined;
    const isFit =
      typeof value === "string" &&
      value.length <= MAX_FIELD_LENGTH &&
      provider.fields.get(name)?.accepts(value);
    const isSecret = secrets.some(
      (secret) => secret !== undefined && typeof value === "string" && shows(value, secret),
    );
    return isFit && !isSecret ? [[name, value] as const] : [];
  });
  return Object.fromEntries(found);
}

/** A short token, as tests have them, may stand in an innocent text by chance. */
function shows(value: string, secret: string): boolean {
  return secret.length < 8 ? value === secret : value.includes(secret);
}
