import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readAnswer } from "../../src/providers/answer.ts";
import { rateLimitsOf } from "../../src/providers/rate-limit.ts";
import { STANDARD } from "../../src/providers/rate-limit-plan.ts";
import type { TimeUnit } from "../../src/providers/reset-time.ts";
import { answerOf, NOW_MS } from "./stage.ts";

const of = (headers: Record<string, string>, reset?: TimeUnit) => {
  const limits = rateLimitsOf(readAnswer(answerOf(429, "", headers, { receivedAtMs: NOW_MS })), {
    ...STANDARD,
    reset,
  });
  if (limits === undefined) return undefined;
  const { windows, ...tightest } = limits;
  return tightest;
};
const limit = (over: object) => ({
  limit: undefined,
  remaining: undefined,
  resetAfterMs: undefined,
  retryAfterMs: undefined,
  ...over,
});

describe("a vendor's rate limit", () => {
  it.each([
    ["120", 120_000],
    ["0", 0],
    ["-5", 0],
    ["1.5", 1_500],
    ["999999999999", 365 * 86_400_000],
    ["Thu, 01 Jan 2026 00:02:00 GMT", 120_000],
    ["Wed, 31 Dec 2025 23:00:00 GMT", 0],
  ])("reads Retry-After: %s", (value, retryAfterMs) => {
    expect(of({ "retry-after": value })).toEqual(limit({ retryAfterMs }));
  });

  it.each(["", "soon", "1h", "2026-13-45", "NaN", "1e3", "0x10", "1, 2"])(
    "ignores Retry-After: %j",
    (value) => {
      expect(of({ "retry-after": value })).toBeUndefined();
    },
  );

  it("counts a date from the vendor's own clock", () => {
    const date = "Thu, 01 Jan 2026 00:01:30 GMT";
    expect(of({ "retry-after": "Thu, 01 Jan 2026 00:02:00 GMT", date })?.retryAfterMs).toBe(30_000);
    expect(of({ "x-ratelimit-reset": String(NOW_MS / 1_000 + 120), date })?.resetAfterMs).toBe(30_000);
  });

  it("reads the older trio, plain and with x- before it, its reset told by its size or by the file", () => {
    const expected = limit({ limit: 100, remaining: 0, resetAfterMs: 30_000 });
    for (const prefix of ["ratelimit", "x-ratelimit", "x-rate-limit", "X-RateLimit"]) {
      const trio = (reset: string) => ({
        [`${prefix}-limit`]: "100",
        [`${prefix}-remaining`]: "0",
        [`${prefix}-reset`]: reset,
      });
      expect(of(trio("30"))).toEqual(expected);
      expect(of(trio(String(NOW_MS / 1_000 + 30)))).toEqual(expected);
      expect(of(trio(String(NOW_MS + 30_000)))).toEqual(expected);
      expect(of(trio("30"), "delta")).toEqual(expected);
      expect(of(trio(String(NOW_MS / 1_000 + 30)), "epoch")).toEqual(expected);
      expect(of(trio(String(NOW_MS + 30_000)), "epoch_ms")).toEqual(expected);
      expect(of(trio("-30"))?.resetAfterMs).toBe(0);
    }
    expect(of({ "ratelimit-limit": "100, 100;w=60" })).toEqual(limit({ limit: 100 }));
  });

  it("reads the IETF pair and takes the window with the least left", () => {
    expect(of({ ratelimit: '"default";r=50;t=30', "ratelimit-policy": '"default";q=100;w=60' })).toEqual(
      limit({ limit: 100, remaining: 50, resetAfterMs: 30_000 }),
    );
    const two = {
      ratelimit: '"burst";r=9;t=1, "day" ; r=2 ;t=500',
      "ratelimit-policy": '"burst";q=10;w=1,"day";q=1000;w=86400;qu="requests";pk=:cHNzdA==:',
    };
    expect(of(two)).toEqual(limit({ limit: 1_000, remaining: 2, resetAfterMs: 500_000 }));
    expect(of({ ratelimit: '"default";r=0' })).toEqual(limit({ remaining: 0 }));
    expect(of({ ratelimit: '"default";r=0;t=30', "retry-after": "5" })).toEqual(
      limit({ remaining: 0, resetAfterMs: 30_000, retryAfterMs: 5_000 }),
    );
  });

  it("reads the dictionary form", () => {
    expect(of({ ratelimit: "limit=100, remaining=50, reset=30" })).toEqual(
      limit({ limit: 100, remaining: 50, resetAfterMs: 30_000 }),
    );
  });

  it.each([
    '"default";r=50;t=30,',
    '"default;r=50',
    '"default" r=50',
    "limit=lots",
    '"a";r=x;t=y',
    ",,,",
    ";r=1",
    '"é";r=1',
  ])("ignores a malformed RateLimit: %s", (value) => {
    expect(of({ ratelimit: value })).toBeUndefined();
  });

  it("gives whole, bounded, not negative numbers or nothing, whatever the headers", () => {
    const name = fc.constantFrom(
      "retry-after",
      "ratelimit",
      "ratelimit-policy",
      "x-ratelimit-limit",
      "x-ratelimit-reset",
      "x-ratelimit-remaining",
      "date",
    );
    const value = fc.oneof(
      fc.string(),
      fc.double().map(String),
      fc.integer().map(String),
      fc.date({ noInvalidDate: true }).map((date) => date.toUTCString()),
      fc.stringMatching(/^"a";r=\d{1,20};t=-?\d{1,20}$/),
    );
    fc.assert(
      fc.property(fc.dictionary(name, value), (headers) => {
        for (const number of Object.values(of(headers) ?? {})) {
          if (number === undefined) continue;
          expect(number).toBeGreaterThanOrEqual(0);
          expect(Number.isFinite(number)).toBe(true);
        }
      }),
      { numRuns: 500 },
    );
  });

  it("is not slowed down by a header made to be slow", () => {
    const startedAt = performance.now();
    of({ ratelimit: `${'"a";r=1;'.repeat(450)}!` });
    of({ ratelimit: `"a"${" ;a".repeat(1_300)}` });
    of({ ratelimit: `"${"\\".repeat(4_000)}` });
    expect(performance.now() - startedAt).toBeLessThan(200);
  });
});
