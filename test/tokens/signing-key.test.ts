import { generateKeyPairSync, type KeyObject, verify } from "node:crypto";
import { describe, expect, it } from "vitest";
import { canSign, type SigningKey, signingKeyOf, signWith } from "../../src/tokens/signing-key.ts";

const KEYS = {
  rsa: generateKeyPairSync("rsa", { modulusLength: 2048 }),
  pss: generateKeyPairSync("rsa-pss", { modulusLength: 2048 }),
  p256: generateKeyPairSync("ec", { namedCurve: "P-256" }),
  p384: generateKeyPairSync("ec", { namedCurve: "P-384" }),
  p521: generateKeyPairSync("ec", { namedCurve: "P-521" }),
  ed25519: generateKeyPairSync("ed25519"),
};
const pem = (key: KeyObject) => String(key.export({ type: "pkcs8", format: "pem" }));
const jwk = (key: KeyObject, more: object) => JSON.stringify({ ...key.export({ format: "jwk" }), ...more });

function signing(text: string): SigningKey {
  const key = signingKeyOf(text);
  if (typeof key === "string") throw new Error(key);
  return key;
}

describe("a signing key", () => {
  it.each([
    ["rsa", "RS256"],
    ["pss", "PS256"],
    ["p256", "ES256"],
    ["p384", "ES384"],
    ["p521", "ES512"],
    ["ed25519", "EdDSA"],
  ] as const)("of type %s signs as %s when nothing else is said", (name, algorithm) => {
    const { privateKey, publicKey } = KEYS[name];
    const key = signing(pem(privateKey));
    expect(key).toMatchObject({ algorithm, keyId: undefined });
    const hash = { RS256: "sha256", PS256: "sha256", ES256: "sha256", ES384: "sha384", ES512: "sha512" }[
      algorithm as "RS256"
    ];
    const how = algorithm.startsWith("ES")
      ? { key: publicKey, dsaEncoding: "ieee-p1363" as const }
      : algorithm === "PS256"
        ? { key: publicKey, padding: 6, saltLength: 32 }
        : publicKey;
    const signature = signWith(key, algorithm, "header.payload");
    expect(verify(hash, Buffer.from("header.payload"), how, signature)).toBe(true);
  });

  it("says its algorithm and its name when it is a JWK", () => {
    const key = signing(jwk(KEYS.rsa.privateKey, { alg: "PS384", kid: "k1" }));
    expect(key).toMatchObject({ algorithm: "PS384", keyId: "k1" });
    expect([canSign(key, "RS256"), canSign(key, "ES256"), canSign(key, "HS256")]).toEqual([
      true,
      false,
      false,
    ]);
  });

  it("is refused, without any of it being shown, when it is weak, locked, public, of another kind or none", () => {
    const weak = generateKeyPairSync("rsa", { modulusLength: 1024 }).privateKey;
    const other = generateKeyPairSync("ec", { namedCurve: "secp256k1" }).privateKey;
    const x25519 = generateKeyPairSync("x25519").privateKey;
    const locked = KEYS.p256.privateKey.export({
      type: "pkcs8",
      format: "pem",
      cipher: "aes-256-cbc",
      passphrase: "x",
    });
    const texts = [
      pem(weak),
      pem(other),
      pem(x25519),
      String(locked),
      String(KEYS.rsa.publicKey.export({ type: "spki", format: "pem" })),
      jwk(KEYS.p256.publicKey, {}),
      jwk(KEYS.p256.privateKey, { alg: "RS256" }),
      JSON.stringify({ kty: "oct", k: "c2VjcmV0LXNlY3JldA" }),
      "{",
      "",
    ];
    for (const text of texts) {
      const said = signingKeyOf(text);
      expect(said).toBeTypeOf("string");
      expect(said).not.toMatch(/BEGIN|c2VjcmV0|[A-Za-z0-9+/]{24}/);
    }
  });
});
