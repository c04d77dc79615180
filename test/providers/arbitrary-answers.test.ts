import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { interpretExchange } from "../../src/providers/interpret.ts";
import { faultText, loadCatalogue } from "../../src/providers/load.ts";
import type { Provider } from "../../src/providers/provider.ts";
import { Secret } from "../../src/tokens/secret.ts";
import type { CodeGrant } from "../../src/tokens/vendor.ts";
import { answerOf, contextOf, NOW_MS, oauthCredential, SHIPPED } from "./stage.ts";

describe("arbitrary answers", () => {
  it("are always one of five readings, whatever file, token and request, without a secret and without throwing", async () => {
    const planted = "planted-5ecret/+=%41";
    const source = Object.fromEntries(
      ["private_key", "username", "password", "api_key"].map((name) => [name, new Secret(planted)]),
    );
    const oauth = oauthCredential({
      refreshToken: new Secret(planted),
      accessToken: new Secret(`${planted}-2`),
      source,
    });
    const code: CodeGrant = {
      code: new Secret(`${planted}-5`),
      redirectUri: "https://app.example/callback",
      codeVerifier: new Secret(`${planted}-6`),
      state: "state",
    };
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
    const outside = {
      send: async () => ({ kind: "not_sent", cause: "nobody_there" }) as const,
      now: () => NOW_MS,
    };
    // Every token of every file, by its code and otherwise, after as many good answers as its requests take.
    const exchanges = loaded().flatMap((provider) =>
      [...provider.tokens].flatMap(([slot, token]) => [
        ...(token.grant === undefined ? [] : [{ provider, slot, steps: token.grant, code }]),
        ...[token.refresh, token.mint].flatMap((steps) =>
          steps === undefined ? [] : [{ provider, slot, steps, code: undefined }],
        ),
      ]),
    );
    expect(exchanges.length).toBeGreaterThan(20);
    await fc.assert(
      fc.asyncProperty(
        fc.nat(exchanges.length - 1),
        fc.array(
          fc.tuple(
            fc.oneof(
              fc.constantFrom(200, 400, 401, 403, 429, 500, 502, 503),
              fc.integer({ min: 100, max: 599 }),
            ),
            body,
            headers,
          ),
          { minLength: 1, maxLength: 3 },
        ),
        fc.constantFrom(oauth, { kind: "unminted", source } as const),
        async (at, said, credential) => {
          const chosen = exchanges[at];
          if (chosen === undefined) return;
          const { provider, slot, steps, ...by } = chosen;
          const context = { ...contextOf(provider.name, { port: "4000" }, credential, `${planted}-3`), slot };
          const answers = said
            .slice(0, steps.length)
            .map(([status, content, named]) => answerOf(status, content, named));
          const read = await interpretExchange(outside, provider, { context, code: by.code, answers });
          expect(["granted", "refused", "unknown", "unmapped", "more"]).toContain(read.kind);
          const failure = read.kind === "granted" ? read.unfinished : read;
          if (failure?.kind === "refused") {
            expect(["reauth", "fix_configuration", "rate_limited", "transient"]).toContain(failure.class);
            expect(JSON.stringify(failure)).not.toContain(planted);
            expect(failure.message).toMatch(/^[\x20-\x7e]{0,200}$/);
            expect(failure.code ?? "").toMatch(/^[\x20-\x7e]{0,64}$/);
            expect(failure.retryAfterMs ?? 0).toBeGreaterThanOrEqual(0);
          }
          if (read.kind === "granted" && read.credential.kind === "oauth" && read.unfinished === undefined) {
            const { accessToken, refreshToken, expiresAtMs } = read.credential;
            // Without an access token there is one to get it with, at once.
            if (accessToken.reveal() === "")
              expect([refreshToken !== undefined, expiresAtMs]).toEqual([true, NOW_MS]);
            else expect(expiresAtMs ?? NOW_MS + 1).toBeGreaterThan(NOW_MS);
          }
        },
      ),
      { numRuns: 2_000 },
    );
  }, 60_000);
});

/** The shipped files, and those that the tests bring for what no shipped one needs. */
function loaded(): readonly Provider[] {
  const rows = join(import.meta.dirname, "rows");
  const read = loadCatalogue([SHIPPED, rows]);
  if (!read.ok) throw new Error(read.faults.map(faultText).join("\n"));
  return read.catalogue.names.flatMap((name) => read.catalogue.get(name) ?? []);
}
