import { describe, expect, it } from "vitest";
import { Rates } from "../../src/rpc/rates.ts";

const APP = { name: "app", requestsPerSecond: undefined };
const BATCH = { name: "batch", requestsPerSecond: 2 };

function spent(rates: Rates, caller: typeof APP | typeof BATCH, nowMs: number, calls: number): number {
  let allowed = 0;
  for (let call = 0; call < calls; call += 1) {
    try {
      rates.spend(caller, nowMs);
      allowed += 1;
    } catch {
      // refused
    }
  }
  return allowed;
}

describe("the rate of a caller", () => {
  it("is not limited unless somebody says so", () => {
    expect(spent(new Rates(undefined), APP, 0, 10_000)).toBe(10_000);
  });

  it("lets a second's worth come at once, then comes back evenly and never beyond that", () => {
    const rates = new Rates(10);
    expect(spent(rates, APP, 0, 100)).toBe(10);
    expect(spent(rates, APP, 99, 100)).toBe(0);
    expect(spent(rates, APP, 100, 100)).toBe(1);
    expect(spent(rates, APP, 60_000, 100)).toBe(10);
  });

  it("is each caller's own", () => {
    const rates = new Rates(10);
    expect(spent(rates, APP, 0, 100)).toBe(10);
    expect(spent(rates, BATCH, 0, 100)).toBe(2);
  });

  it("says when to come back", () => {
    const rates = new Rates(undefined);
    expect(spent(rates, BATCH, 0, 2)).toBe(2);
    expect(() => rates.spend(BATCH, 100)).toThrow(
      expect.objectContaining({
        reason: "CALLER_RATE_LIMITED",
        retryAfterMs: 400,
        rateLimit: { limit: 2, remaining: 0, resetAfterMs: 1_000, retryAfterMs: undefined },
      }),
    );
    expect(spent(rates, BATCH, 500, 2)).toBe(1);
  });
});
