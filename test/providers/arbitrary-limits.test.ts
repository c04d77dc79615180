import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readAnswer } from "../../src/providers/answer.ts";
import { isThrottled, limitHeaders, rateLimitsOf } from "../../src/providers/rate-limit.ts";

import { answerOf, NOW_MS, SHIPPED_NAMES, shipped } from "./stage.ts";

const YEAR_MS = 365 * 86_400_000;
const providers = SHIPPED_NAMES.map(shipped);

/** Every header that some file's dialect reads. */
const names = [
  ...new Set([
    ...["date", "retry-after", "ratelimit", "ratelimit-policy"],
    ...["ratelimit", "x-ratelimit", "x-rate-limit"].flatMap((prefix) =>
      ["limit", "remaining", "reset"].map((what) => `${prefix}-${what}`),
    ),
    ...providers.flatMap(({ file }) =>
      [...JSON.stringify(file.rate_limits ?? {}).matchAll(/[\w-]+/g)]
        .map(([name]) => name.toLowerCase())
        .filter((name) => name.includes("-")),
    ),
  ]),
];

const value = fc.oneof(
  fc.string(),
  fc.integer().map(String),
  fc.double().map(String),
  fc.integer({ min: -1_000, max: 4_000_000_000 }).map(String),
  fc.tuple(fc.nat(), fc.nat()).map(([used, limit]) => `${used}/${limit}`),
  fc.date({ noInvalidDate: true }).map((date) => date.toISOString()),
  fc.date({ noInvalidDate: true }).map((date) => date.toUTCString()),
  fc.nat().map((count) => `{"call_count":${count}}`),
  fc.stringMatching(/^"[a-z"\\]{0,4}";r=\d{1,20};t=-?\d{1,20}$/),
);

/** RFC 9651 §3.1 of what we write: strings with parameters. */
const LIST =
  /^"([\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"(;[a-z]=\d{1,15})+(, "([\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"(;[a-z]=\d{1,15})+)*$/;

describe("arbitrary rate limits", () => {
  it("come out of every shipped file whole, bounded and as valid headers, or not at all", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...providers),
        fc.constantFrom(200, 400, 403, 429, 503),
        fc.dictionary(fc.constantFrom(...names), value),
        fc.oneof(fc.json(), fc.string()),
        (provider, status, headers, body) => {
          const { rateLimits } = provider.response;
          const answer = readAnswer(answerOf(status, body, headers, { receivedAtMs: NOW_MS }));
          const limits = rateLimitsOf(answer, rateLimits);
          const throttled = isThrottled(answer, rateLimits);
          if (status === 429) expect(throttled).toBe(true);
          if (limits === undefined) return;
          for (const ms of [
            limits.resetAfterMs,
            limits.retryAfterMs,
            ...limits.windows.map((w) => w.resetAfterMs),
          ]) {
            expect(ms ?? 0).toBeGreaterThanOrEqual(0);
            expect(ms ?? 0).toBeLessThanOrEqual(YEAR_MS);
          }
          for (const count of limits.windows.flatMap((w) => [w.limit, w.remaining]))
            expect(count === undefined || (Number.isSafeInteger(count) && count >= 0)).toBe(true);
          for (const [name, text] of limitHeaders(limits, throttled))
            expect(text).toMatch(name === "ratelimit" || name === "ratelimit-policy" ? LIST : /^\d{1,16}$/);
        },
      ),
      { numRuns: 3_000 },
    );
  });
});
