import { createPrivateKey, type KeyObject, sign } from "node:crypto";

/** A private key that signs assertions (RFC 7515). */
export interface SigningKey {
  readonly key: KeyObject;
  /** What the key itself says, else the usual one of its type: RS256, PS256, ES256 to ES512, EdDSA. */
  readonly algorithm: string;
  /** The `kid` of a JWK. Undefined: it names none. */
  readonly keyId: string | undefined;
}

/** The hash of a JWS algorithm; undefined for EdDSA, which has its own. */
export const HASHES: Readonly<Record<string, string | undefined>> = {
  HS256: "sha256",
  HS384: "sha384",
  HS512: "sha512",
  RS256: "sha256",
  RS384: "sha384",
  RS512: "sha512",
  PS256: "sha256",
  PS384: "sha384",
  PS512: "sha512",
  ES256: "sha256",
  ES384: "sha384",
  ES512: "sha512",
  EdDSA: undefined,
};
const CURVES: Readonly<Record<string, string>> = {
  prime256v1: "ES256",
  secp384r1: "ES384",
  secp521r1: "ES512",
};
const MIN_RSA_BITS = 2_048;

/** The key in a PEM or a JWK. A text says what is wrong with it, and never shows any of it. */
export function signingKeyOf(text: string): SigningKey | string {
  const jwk = jwkOf(text);
  let key: KeyObject;
  try {
    key = jwk === undefined ? createPrivateKey(text) : createPrivateKey({ key: jwk, format: "jwk" });
  } catch {
    return "an unencrypted private key in PEM, or as a JWK";
  }
  const usual = usualAlgorithm(key);
  if (usual === undefined)
    return `a private key of type RSA (${MIN_RSA_BITS} bits or more), EC (P-256, P-384, P-521) or Ed25519`;
  const said = jwk?.["alg"];
  if (typeof said === "string" && !fits(said, key, usual))
    return `a JWK whose alg fits its key, not ${usual}`;
  const keyId = jwk?.["kid"];
  return {
    key,
    algorithm: typeof said === "string" ? said : usual,
    keyId: typeof keyId === "string" && keyId !== "" ? keyId : undefined,
  };
}

/** True when `key` can sign with `algorithm`. */
export function canSign({ key, algorithm }: SigningKey, wanted: string): boolean {
  return wanted === algorithm || fits(wanted, key, usualAlgorithm(key) ?? "");
}

function fits(algorithm: string, key: KeyObject, usual: string): boolean {
  if (!Object.hasOwn(HASHES, algorithm)) return false;
  if (key.asymmetricKeyType === "rsa") return /^[RP]S/.test(algorithm);
  return key.asymmetricKeyType === "rsa-pss" ? algorithm.startsWith("PS") : algorithm === usual;
}

function usualAlgorithm(key: KeyObject): string | undefined {
  const { modulusLength = 0, namedCurve = "" } = key.asymmetricKeyDetails ?? {};
  switch (key.asymmetricKeyType) {
    case "rsa":
      return modulusLength >= MIN_RSA_BITS ? "RS256" : undefined;
    case "rsa-pss":
      return modulusLength >= MIN_RSA_BITS ? "PS256" : undefined;
    case "ec":
      return CURVES[namedCurve];
    case "ed25519":
      return "EdDSA";
    default:
      return undefined;
  }
}

function jwkOf(text: string): JsonWebKey | undefined {
  if (!text.trimStart().startsWith("{")) return undefined;
  try {
    const parsed: unknown = JSON.parse(text);
    return typeof parsed === "object" && parsed !== null && "kty" in parsed ? parsed : undefined;
  } catch {
    return undefined;
  }
}

type JsonWebKey = { readonly [member: string]: unknown };

/** The signature of a JWS signing input by a private key. */
export function signWith({ key }: SigningKey, algorithm: string, input: string): Buffer {
  const hash = HASHES[algorithm];
  const data = Buffer.from(input);
  if (algorithm.startsWith("PS")) return sign(hash, data, { key, padding: 6, saltLength: -1 });
  // RFC 7518 §3.4: R and S side by side, not DER.
  return algorithm.startsWith("ES")
    ? sign(hash, data, { key, dsaEncoding: "ieee-p1363" })
    : sign(hash, data, key);
}
