import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Secret } from "../../src/tokens/secret.ts";
import { answerOf, contextOf, NOW_MS, oauthCredential, SHIPPED_NAMES, shipped, vendorsOf } from "./stage.ts";

describe("arbitrary answers", () => {
  it("are always one of four readings, in every shipped file, without a secret and without throwing", async () => {
    const planted = "planted-5ecret/+=%41";
    const credential = oauthCredential({
      refreshToken: new Secret(planted),
      accessToken: new Secret(`${planted}-2`),
    });
    const text = fc.oneof(
      fc.string(),
      fc.constantFrom(
        "invalid_grant",
        "invalid_client",
        planted,
        `x ${planted} y`,
        encodeURIComponent(planted),
        "BAD_HUB",
        "invalid_rapt",
        "AADSTS700082: x",
      ),
    );
    const member = fc.oneof(text, fc.jsonValue(), fc.double(), fc.integer());
    const names = fc.constantFrom(
      "access_token",
      "refresh_token",
      "expires_in",
      "error",
      "error_description",
      "scope",
      "token_type",
      "ok",
      "status",
      "message",
      "reason",
      "error_codes",
      "instance_url",
      "api_domain",
      "__proto__",
    );
    const object = fc
      .array(fc.tuple(names, member), { maxLength: 8 })
      .map(
        (pairs) =>
          `{${pairs.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`).join(",")}}`,
      );
    const body = fc.oneof(
      object,
      fc.json(),
      fc.string({ unit: "binary" }),
      object.map((json) => json.slice(0, -3)),
      fc.tuple(names, text).map(([n, v]) => `${n}=${v}`),
    );
    const headers = fc.dictionary(
      fc.constantFrom(
        "date",
        "retry-after",
        "ratelimit",
        "ratelimit-policy",
        "x-ratelimit-reset",
        "x-ratelimit-remaining",
        "x-daylimit-remaining",
        "x-shopify-shop-api-call-limit",
        "sforce-limit-info",
        "location",
        "content-type",
      ),
      text,
    );
    const providers = SHIPPED_NAMES.filter((name) => name !== "bamboohr").map(shipped);
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...providers),
        fc.oneof(fc.constantFrom(200, 400, 401, 403, 429, 500, 502, 503), fc.integer({ min: 100, max: 599 })),
        body,
        headers,
        async (provider, status, content, named) => {
          const context = contextOf(provider.name, { port: "4000" }, credential, `${planted}-3`);
          const read = await vendorsOf(provider).vendors.interpret(context, answerOf(status, content, named));
          expect(["granted", "refused", "unknown", "unmapped"]).toContain(read.kind);
          if (read.kind === "refused") {
            expect(JSON.stringify(read)).not.toContain(planted);
            expect(read.message).toMatch(/^[\x20-\x7e]{0,200}$/);
            expect(read.code ?? "").toMatch(/^[\x20-\x7e]{0,64}$/);
            expect(read.retryAfterMs ?? 0).toBeGreaterThanOrEqual(0);
          }
          if (read.kind === "granted" && read.credential.kind === "oauth") {
            expect(read.credential.expiresAtMs ?? NOW_MS + 1).toBeGreaterThan(NOW_MS);
            expect(read.credential.accessToken.reveal()).not.toBe("");
          }
        },
      ),
      { numRuns: 1_000 },
    );
  });
});
