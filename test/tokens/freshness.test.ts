import { describe, expect, it } from "vitest";
import { bufferMs, isFresh, isValid } from "../../src/tokens/freshness.ts";

describe("freshness", () => {
  it("calls a token with 25 s left expired and one with 120 s left fresh, under the 30 s buffer", () => {
    const buffer = bufferMs(3_600_000);
    expect(buffer).toBe(30_000);
    expect(isFresh(25_000, 0, buffer)).toBe(false);
    expect(isFresh(29_999, 0, buffer)).toBe(false);
    expect(isFresh(30_000, 0, buffer)).toBe(true);
    expect(isFresh(120_000, 0, buffer)).toBe(true);
  });

  it("takes a quarter of a lifetime shorter than two minutes as the buffer", () => {
    expect(bufferMs(10_000)).toBe(2_500);
    expect(bufferMs(undefined)).toBe(30_000);
  });

  it("never ends a token without an expiry", () => {
    expect(isFresh(undefined, Number.MAX_SAFE_INTEGER, 1)).toBe(true);
    expect(isValid(undefined, 0)).toBe(true);
    expect(isValid(1_000, 1_000)).toBe(false);
  });

  it("calls nothing fresh that has ended, even when no buffer is asked for", () => {
    expect(isFresh(1_000, 1_000, bufferMs(0))).toBe(false);
  });
});
