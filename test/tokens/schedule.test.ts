import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Agenda, leadMs } from "../../src/tokens/agenda.ts";
import {
  demandBackoffMs,
  proactiveRetryMs,
  rejectionPauseMs,
  throttledMs,
} from "../../src/tokens/backoff.ts";
import { nextRefreshAtMs } from "../../src/tokens/schedule.ts";

const HOUR_MS = 3_600_000;

describe("the date of a proactive refresh", () => {
  it("lies between 60 and 180 s before expiry", () => {
    const token = { expiresAtMs: HOUR_MS, lifetimeMs: HOUR_MS };
    expect(nextRefreshAtMs(token, undefined, 0)).toBe(HOUR_MS - 60_000);
    expect(nextRefreshAtMs(token, undefined, 1)).toBe(HOUR_MS - 180_000);
  });

  it("scales with a lifetime below 300 s", () => {
    const token = { expiresAtMs: 150_000, lifetimeMs: 150_000 };
    expect(nextRefreshAtMs(token, undefined, 0)).toBe(120_000);
    expect(nextRefreshAtMs(token, undefined, 1)).toBe(60_000);
  });

  it("is never earlier than the provider permits", () => {
    expect(
      nextRefreshAtMs({ expiresAtMs: 600_000, lifetimeMs: 600_000 }, { earliestBeforeExpiryMs: 30_000 }, 0.5),
    ).toBe(570_000);
  });

  it("leaves time for several tries where a refresh needs the living access token, or the file asks for it", () => {
    const token = { expiresAtMs: 60 * HOUR_MS, lifetimeMs: 60 * HOUR_MS };
    const none = { earliestBeforeExpiryMs: undefined };
    expect(nextRefreshAtMs(token, { ...none, refreshesWithAccessToken: true }, 0)).toBe(54 * HOUR_MS);
    expect(nextRefreshAtMs(token, { ...none, leadMs: 10 * HOUR_MS }, 1)).toBe(51 * HOUR_MS);
    expect(nextRefreshAtMs(token, { ...none, leadMs: 100 * HOUR_MS }, 0)).toBe(30 * HOUR_MS);
    expect(nextRefreshAtMs(token, { ...none, leadMs: 1 }, 0)).toBe(60 * HOUR_MS - 60_000);
  });

  it("does not exist for a token that never expires", () => {
    expect(nextRefreshAtMs({ expiresAtMs: undefined, lifetimeMs: undefined }, undefined, 0)).toBeUndefined();
  });
});

describe("back-off", () => {
  it("grows from 1 s to 60 s for callers", () => {
    expect([1, 2, 3, 6, 7, 50].map(demandBackoffMs)).toEqual([1_000, 2_000, 4_000, 32_000, 60_000, 60_000]);
  });

  it("grows from 3 h to 24 h for the scheduler, ±20 %", () => {
    expect(proactiveRetryMs(1, 0.5)).toBe(3 * HOUR_MS);
    expect(proactiveRetryMs(1, 0)).toBeCloseTo(2.4 * HOUR_MS);
    expect(proactiveRetryMs(9, 1)).toBeCloseTo(28.8 * HOUR_MS);
  });

  it("starts at a minute and ends at an hour for throttling and for rejected tokens", () => {
    expect([1, 2, 7, 99].map(throttledMs)).toEqual([60_000, 120_000, HOUR_MS, HOUR_MS]);
    expect([1, 2, 7].map(rejectionPauseMs)).toEqual([60_000, 120_000, HOUR_MS]);
  });
});

describe("an agenda", () => {
  it("gives out what was set last for each slot, earliest first, and nothing before its date", () => {
    const step = fc.record({
      id: fc.integer({ min: 0, max: 20 }),
      dueAtMs: fc.integer({ min: 0, max: 1_000 }),
      gone: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300 }), fc.integer({ min: 0, max: 1_000 }), (steps, nowMs) => {
        const agenda = new Agenda();
        const model = new Map<string, number>();
        for (const { id, dueAtMs, gone } of steps) {
          if (gone) agenda.remove(String(id), "default");
          else agenda.set({ accountId: String(id), slot: "default", dueAtMs });
          if (gone) model.delete(String(id));
          else model.set(String(id), dueAtMs);
        }
        expect(agenda.size).toBe(model.size);
        const taken: number[] = [];
        for (let due = agenda.take(nowMs); due !== undefined; due = agenda.take(nowMs)) {
          expect(model.get(due.accountId)).toBe(due.dueAtMs);
          model.delete(due.accountId);
          taken.push(due.dueAtMs);
        }
        expect(taken).toEqual(taken.toSorted((a, b) => a - b));
        expect([...model.values()].every((dueAtMs) => dueAtMs > nowMs)).toBe(true);
      }),
    );
  });

  it("starts earlier when more is due than the budget lets through, and only then", () => {
    expect(leadMs(Uint32Array.of(1, 1, 1), 10_000, 1 / 10_000)).toBe(10_000);
    expect(leadMs(Uint32Array.of(0, 0, 5), 10_000, 1 / 10_000)).toBe(30_000);
    expect(leadMs(Uint32Array.of(0, 0, 1), 10_000, 1 / 10_000)).toBe(0);
  });
});
