import { createHmac } from "node:crypto";
import { canSign, HASHES, signingKeyOf, signWith } from "../tokens/signing-key.ts";
import type { Value } from "./expression/values.ts";

/** Members in the order they are written; undefined ones are left out. */
export type Claims = Readonly<Record<string, Value>>;

/**
 * A signed JWT (RFC 7519). `key` is a secret for HS algorithms, else a private key in PEM or JWK. `header` may say `alg`,
 * `kid` and more. Throws TypeError when the key is none, or does not fit; never with any of the key.
 */
export function signJwt(claims: Claims, key: string, header: Claims = {}): string {
  const wanted = header["alg"];
  if (typeof wanted === "string" && !Object.hasOwn(HASHES, wanted))
    throw new TypeError(`alg ${wanted} is not known`);
  if (typeof wanted === "string" && wanted.startsWith("HS")) {
    const input = signingInput({ ...header, alg: wanted, typ: header["typ"] ?? "JWT" }, claims);
    return `${input}.${createHmac(HASHES[wanted] ?? "sha256", key)
      .update(input)
      .digest("base64url")}`;
  }
  const signing = signingKeyOf(key);
  if (typeof signing === "string") throw new TypeError(`the key is not ${signing}`);
  const algorithm = typeof wanted === "string" ? wanted : signing.algorithm;
  if (!canSign(signing, algorithm)) throw new TypeError(`the key cannot sign with ${algorithm}`);
  const kid = header["kid"] ?? signing.keyId;
  const input = signingInput({ ...header, alg: algorithm, typ: header["typ"] ?? "JWT", kid }, claims);
  return `${input}.${signWith(signing, algorithm, input).toString("base64url")}`;
}

function signingInput(header: Claims, claims: Claims): string {
  return [header, claims].map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".");
}
