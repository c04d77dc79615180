import { KeyturnError } from "../errors.ts";
import { Secret } from "./secret.ts";

export type JsonValue = string | number | boolean | null | readonly JsonValue[] | JsonObject;
export interface JsonObject {
  readonly [key: string]: JsonValue;
}

/** The customer's lasting secrets, by the provider file's names, that tokens are minted from. */
export type MintingSecrets = Readonly<Record<string, Secret>>;

/** A token set, however it was got. */
export interface OAuthCredential {
  readonly kind: "oauth";
  readonly accessToken: Secret;
  readonly tokenType: string;
  readonly issuedAtMs: number;
  /** Undefined when the provider never expires its tokens. */
  readonly expiresAtMs: number | undefined;
  /** Undefined when the customer must authorize again on expiry, or the OAuth client mints tokens itself. */
  readonly refreshToken: Secret | undefined;
  readonly refreshTokenExpiresAtMs: number | undefined;
  readonly scopes: readonly string[];
  /** All members of all token answers so far, merged: what `authorization.config.path` and file expressions read. */
  readonly members: Secret<JsonObject>;
  /** Absent for tokens that the customer's consent alone gives. */
  readonly source?: MintingSecrets | undefined;
}

/** `next` is ready but not used, `active` is used, `retiring` still works at the vendor. */
export type SecretState = "next" | "active" | "retiring";

export interface SecretVersion {
  readonly version: string;
  readonly state: SecretState;
  readonly createdAtMs: number;
  /** `api_key`; `username` and `password`; `token`; and whatever else the provider file names. */
  readonly values: Readonly<Record<string, Secret>>;
}

/** An API key, a user name with its password, or a fixed bearer token. */
export interface StaticCredential {
  readonly kind: "api_key" | "basic" | "bearer";
  readonly versions: readonly SecretVersion[];
  readonly expiresAtMs: number | undefined;
}

/** Tokens are minted, by the OAuth client itself or from the customer's secrets, and the first one has not been yet. */
export interface UnmintedCredential {
  readonly kind: "unminted";
  /** Absent: the OAuth client mints without the customer. */
  readonly source?: MintingSecrets | undefined;
}

export type Credential = OAuthCredential | StaticCredential | UnmintedCredential;

/** The version in use; a static credential always has one. */
export function activeVersion(credential: StaticCredential): SecretVersion {
  const active = credential.versions.find((version) => version.state === "active");
  if (active === undefined)
    throw new KeyturnError("SEAL_INVALID", "The stored credential has no active version.");
  return active;
}

// The one place where a credential's secrets become plain bytes: on their way into, and out of, the cipher.
const plain = (secret: Secret | undefined) => secret?.reveal();
const secret = (value: string | undefined) => (value === undefined ? undefined : new Secret(value));
const revealed = (secrets: MintingSecrets | undefined) =>
  secrets && Object.fromEntries(Object.entries(secrets).map(([name, value]) => [name, value.reveal()]));
const hidden = (values: Readonly<Record<string, string>>) =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [name, new Secret(value)]));

/** Plain bytes for the cipher; the caller fills them with zero after sealing. */
export function credentialToBytes(credential: Credential): Buffer {
  return Buffer.from(JSON.stringify(toPlain(credential)));
}

function toPlain(credential: Credential): object {
  switch (credential.kind) {
    case "oauth":
      return {
        ...credential,
        accessToken: credential.accessToken.reveal(),
        refreshToken: plain(credential.refreshToken),
        members: credential.members.reveal(),
        source: revealed(credential.source),
      };
    case "unminted":
      return { ...credential, source: revealed(credential.source) };
    default:
      return {
        ...credential,
        versions: credential.versions.map((version) => ({ ...version, values: revealed(version.values) })),
      };
  }
}

type PlainSource = { readonly source?: Record<string, string> };
type PlainOAuth = Omit<OAuthCredential, "accessToken" | "refreshToken" | "members" | "source"> &
  PlainSource & {
    readonly accessToken: string;
    readonly refreshToken?: string;
    readonly members: JsonObject;
  };
type PlainVersion = Omit<SecretVersion, "values"> & { readonly values: Record<string, string> };
type PlainUnminted = Omit<UnmintedCredential, "source"> & PlainSource;
type PlainStatic = Omit<StaticCredential, "versions"> & { readonly versions: readonly PlainVersion[] };

/** Reads what `credentialToBytes` wrote. The bytes were authenticated by the cipher, so their shape is trusted. */
export function credentialFromBytes(bytes: Uint8Array): Credential {
  const value: PlainOAuth | PlainStatic | PlainUnminted = JSON.parse(Buffer.from(bytes).toString("utf8"));
  switch (value.kind) {
    case "oauth":
      return {
        ...value,
        expiresAtMs: value.expiresAtMs,
        refreshTokenExpiresAtMs: value.refreshTokenExpiresAtMs,
        accessToken: new Secret(value.accessToken),
        refreshToken: secret(value.refreshToken),
        members: new Secret(value.members),
        source: value.source && hidden(value.source),
      };
    case "unminted":
      return { kind: "unminted", source: value.source && hidden(value.source) };
    default:
      return {
        ...value,
        expiresAtMs: value.expiresAtMs,
        versions: value.versions.map((version) => ({
          ...version,
          values: hidden(version.values),
        })),
      };
  }
}
