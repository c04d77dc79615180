import { invalid } from "../../errors.ts";
import type { Credential as CredentialMessage } from "../../gen/keyturn/v1/account_service_pb.js";
import type { Credential, JsonObject, StaticCredential } from "../../tokens/credential.ts";
import { Secret } from "../../tokens/secret.ts";
import { msOf } from "../wire.ts";

/** A credential as it was handed in. INVALID_REQUEST names the missing member; never what was given. */
export function credentialOf(message: CredentialMessage, nowMs: number): Credential {
  const { kind } = message;
  const expiresAtMs = msOf("credential.expire_time", message.expireTime);
  switch (kind.case) {
    case "oauth":
      return oauth(kind.value, nowMs);
    case "apiKey":
      return fixed(
        "api_key",
        { api_key: required("api_key.api_key", kind.value.apiKey), ...kind.value.extra },
        expiresAtMs,
        nowMs,
      );
    case "basic": {
      const { username, password } = kind.value;
      return fixed("basic", { username: required("basic.username", username), password }, expiresAtMs, nowMs);
    }
    case "bearer":
      return fixed("bearer", { token: required("bearer.token", kind.value.token) }, expiresAtMs, nowMs);
    case "clientCredentials":
      return { kind: "unminted" };
    case "secrets":
      return minting(kind.value.values);
    default:
      throw invalid("credential", "one of oauth, api_key, basic, bearer, client_credentials, secrets");
  }
}

type OAuthMessage = Extract<CredentialMessage["kind"], { case: "oauth" }>["value"];

function oauth(message: OAuthMessage, nowMs: number): Credential {
  const { accessToken, refreshToken, tokenType, scopes, members } = message;
  if (accessToken === "" && refreshToken === "")
    throw invalid("credential.oauth.refresh_token", "a refresh token, an access token, or both");
  const plain = {
    ...(members as JsonObject | undefined),
    access_token: accessToken,
    ...(refreshToken === "" ? {} : { refresh_token: refreshToken }),
    token_type: tokenType === "" ? "Bearer" : tokenType,
  };
  // Of a token whose end is not known the first call gets a fresh one, when there is a way to have it.
  const unknownEnd = refreshToken === "" ? undefined : nowMs;
  return {
    kind: "oauth",
    accessToken: new Secret(accessToken),
    tokenType: plain.token_type,
    issuedAtMs: nowMs,
    expiresAtMs:
      accessToken === "" ? nowMs : (msOf("credential.oauth.expire_time", message.expireTime) ?? unknownEnd),
    refreshToken: refreshToken === "" ? undefined : new Secret(refreshToken),
    refreshTokenExpiresAtMs: msOf(
      "credential.oauth.refresh_token_expire_time",
      message.refreshTokenExpireTime,
    ),
    scopes,
    members: new Secret(plain),
  };
}

function fixed(
  kind: StaticCredential["kind"],
  values: Readonly<Record<string, string>>,
  expiresAtMs: number | undefined,
  nowMs: number,
): StaticCredential {
  const secrets = Object.fromEntries(
    Object.entries(values).map(([name, value]) => [name, new Secret(value)]),
  );
  return {
    kind,
    versions: [{ version: "1", state: "active", createdAtMs: nowMs, values: secrets }],
    expiresAtMs,
  };
}

function minting(values: Readonly<Record<string, string>>): Credential {
  const given = Object.entries(values);
  if (given.length === 0) throw invalid("credential.secrets.values", "the secrets by name");
  return {
    kind: "unminted",
    source: Object.fromEntries(
      given.map(([name, value]) => [name, new Secret(required(`secrets.${name}`, value))]),
    ),
  };
}

function required(field: string, value: string): string {
  if (value !== "") return value;
  throw invalid(`credential.${field}`, "a value");
}
