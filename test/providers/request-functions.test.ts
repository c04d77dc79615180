import { createHash, createHmac, generateKeyPairSync } from "node:crypto";
import { describe, expect, it } from "vitest";
import type { Value } from "../../src/providers/expression/values.ts";
import { compileExpression, compileRequestExpression, isFault } from "../../src/providers/fence.ts";

const KEY = String(
  generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ type: "pkcs8", format: "pem" }),
);

function outcome(source: string, input: Value = {}) {
  const compiled = compileRequestExpression(source);
  if (isFault(compiled)) throw new Error(compiled.message);
  return compiled.run(input);
}

const partsOf = (jwt: unknown) =>
  String(jwt)
    .split(".")
    .slice(0, 2)
    .map((part) => JSON.parse(Buffer.from(part, "base64url").toString()));

describe("functions of requests", () => {
  it.each(["md5", "sha1", "sha256", "sha384", "sha512"])(
    "hash as %s does, in three encodings",
    (algorithm) => {
      for (const encoding of ["hex", "base64", "base64url"] as const) {
        const expected = createHash(algorithm).update("téxt").digest(encoding);
        expect(outcome(`$hash("${algorithm}", t, "${encoding}")`, { t: "téxt" })).toEqual({
          ok: true,
          value: expected,
        });
        const signed = createHmac(algorithm, "kéy").update("téxt").digest(encoding);
        expect(outcome(`$hmac("${algorithm}", k, t, "${encoding}")`, { k: "kéy", t: "téxt" })).toEqual({
          ok: true,
          value: signed,
        });
      }
    },
  );

  it("sign by a secret or a private key, as header and key say", () => {
    const shared = outcome('$jwt({"iss": "a"}, k, {"alg": "HS256", "kid": "s"})', { k: "secret" });
    expect(shared.ok && partsOf(shared.value)).toEqual([
      { alg: "HS256", kid: "s", typ: "JWT" },
      { iss: "a" },
    ]);
    const own = outcome('$jwt({"iss": "a", "none": nothing}, k, {"typ": "at+jwt"})', { k: KEY });
    expect(own.ok && partsOf(own.value)).toEqual([{ typ: "at+jwt", alg: "ES256" }, { iss: "a" }]);
  });

  it.each([
    ['$jwt({}, k, {"alg": "none"})', KEY],
    ['$jwt({}, k, {"alg": "RS256"})', KEY],
    ["$jwt({}, k)", "not-a-key-7f3a"],
    ["$jwt(k, k)", KEY],
    ['$hash("whirlpool", k)', "not-a-key-7f3a"],
    ['$hash("md5", k, "rot13")', "not-a-key-7f3a"],
    ['$hmac("sha256", nothing, k)', "not-a-key-7f3a"],
    ["$basic(k, 7)", "not-a-key-7f3a"],
  ])("fail in %s without showing what they were given", (source, k) => {
    const failed = outcome(source, { k });
    expect(failed.ok).toBe(false);
    expect(JSON.stringify(failed)).not.toMatch(/7f3a|BEGIN/);
  });

  it("cost what they cost: no expression signs for ever", () => {
    const many = Array.from({ length: 20 }, () => "$jwt({}, k)").join(" & ");
    expect(outcome(many, { k: KEY })).toMatchObject({ ok: false, why: "too many steps" });
  });

  it("read a token's claims anywhere, and sign nowhere but in requests", () => {
    const claims = Buffer.from(JSON.stringify({ exp: 1_800_000_000 })).toString("base64url");
    const compiled = compileExpression("$jwtClaims(body.access_token).exp");
    if (isFault(compiled)) throw new Error(compiled.message);
    expect(compiled.run({ body: { access_token: `e30.${claims}.sig` } })).toEqual({
      ok: true,
      value: 1_800_000_000,
    });
    for (const access_token of ["opaque", "a.b.c", "e30.W10.x", ""])
      expect(compiled.run({ body: { access_token } })).toEqual({ ok: true, value: undefined });
    for (const source of ["$jwt({}, 'k')", "$hmac('md5', 'k', 't')", "$hash('md5', 't')", "$basic('a', 'b')"])
      expect(isFault(compileExpression(source))).toBe(true);
  });
});
