import type { JsonObject, JsonValue, OAuthCredential } from "../tokens/credential.ts";
import { Secret } from "../tokens/secret.ts";
import { isArray, isObject, type Value } from "./expression/values.ts";
import type { ResponsePlan, TokenPlan } from "./provider.ts";

/** A token answer as the file reads it, before it meets what is stored. */
export interface Grant {
  readonly accessToken: string;
  readonly refreshToken: string | undefined;
  readonly tokenType: string | undefined;
  readonly scope: Value;
  /** All members of the answer's token object. */
  readonly members: { readonly [name: string]: Value };
  readonly issuedAtMs: number;
  /** Undefined: it does not expire. */
  readonly expiresAtMs: number | undefined;
  /** As the answer said it; undefined: it did not. */
  readonly refreshTokenExpiresAtMs: number | undefined;
}

/** `{...existing, ...new}`: what the provider omits stays, unless the file says otherwise. */
export function mergeGrant(
  response: ResponsePlan,
  token: Pick<TokenPlan, "scopes" | "scopeSeparator">,
  existing: OAuthCredential | undefined,
  grant: Grant,
): OAuthCredential {
  const { keep, forget } = response;
  const old: JsonObject = existing?.members.reveal() ?? {};
  const fresh = presentMembers(grant);
  const kept = Object.entries(old).filter(
    ([name]) => keep.includes(name) || !(forget.includes(name) && fresh[name] === undefined),
  );
  const renewed = Object.entries(fresh).filter(
    ([name]) => !(keep.includes(name) && Object.hasOwn(old, name)),
  );
  const members = Object.fromEntries([...kept, ...renewed]);

  const oldRefresh = existing?.refreshToken?.reveal();
  const keepsOld = keep.includes("refresh_token") && oldRefresh !== undefined;
  const inherited = forget.includes("refresh_token") ? undefined : oldRefresh;
  const refreshToken = keepsOld ? oldRefresh : (grant.refreshToken ?? inherited);
  return {
    kind: "oauth",
    accessToken:
      keep.includes("access_token") && existing ? existing.accessToken : new Secret(grant.accessToken),
    tokenType: normalTokenType(grant.tokenType) ?? existing?.tokenType ?? "Bearer",
    issuedAtMs: grant.issuedAtMs,
    expiresAtMs: grant.expiresAtMs,
    refreshToken: refreshToken === undefined ? undefined : new Secret(refreshToken),
    refreshTokenExpiresAtMs:
      refreshToken === undefined ? undefined : refreshExpiry(response, existing, grant, refreshToken),
    scopes: scopesOf(token.scopeSeparator, grant.scope) ?? existing?.scopes ?? token.scopes,
    members: new Secret(members),
  };
}

/** The token object under the standard's names as well, so that `authorization` reads renamed answers the same way. */
function presentMembers(grant: Grant): Record<string, JsonValue> {
  const { accessToken, refreshToken, tokenType } = grant;
  const named = { access_token: accessToken, refresh_token: refreshToken, token_type: tokenType };
  const all = Object.entries({ ...grant.members, ...named });
  // An empty or null member is one that the provider left out.
  return Object.fromEntries(
    all.flatMap(([name, value]) =>
      value === undefined || value === null || value === "" ? [] : [[name, json(value)]],
    ),
  );
}

function json(value: Value): JsonValue {
  if (isArray(value)) return value.map(json);
  if (isObject(value))
    return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, json(member)]));
  return value ?? null;
}

/** RFC 6749 §5.1: the type is case-insensitive. */
function normalTokenType(type: string | undefined): string | undefined {
  if (type === undefined || !/^[A-Za-z0-9._-]{1,64}$/.test(type)) return undefined;
  return type.toLowerCase() === "bearer" ? "Bearer" : type;
}

function scopesOf(separator: string, scope: Value): readonly string[] | undefined {
  const texts = typeof scope === "string" ? scope.split(separator) : isArray(scope) ? scope : [];
  const scopes = texts.flatMap((each) =>
    typeof each === "string" && each.trim() !== "" ? [each.trim()] : [],
  );
  return scopes.length > 0 ? scopes : undefined;
}

function refreshExpiry(
  response: ResponsePlan,
  existing: OAuthCredential | undefined,
  grant: Grant,
  refreshToken: string,
): number | undefined {
  const lifetime = response.refreshLifetime;
  if (lifetime?.kind === "none") return undefined;
  if (grant.refreshTokenExpiresAtMs !== undefined) return grant.refreshTokenExpiresAtMs;
  const isSame = existing?.refreshToken?.reveal() === refreshToken;
  if (isSame && lifetime?.kind !== "sliding") return existing.refreshTokenExpiresAtMs;
  return lifetime?.ms === undefined ? undefined : grant.issuedAtMs + lifetime.ms;
}
