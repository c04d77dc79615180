import { describe, expect, it } from "vitest";
import { catalogueOf } from "../../src/providers/load.ts";
import type { Send } from "../../src/providers/send.ts";
import { createVendors } from "../../src/providers/vendors.ts";
import { oauthFile, providerOf } from "../providers/stage.ts";
import { DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Stage } from "./stage.ts";

describe("a token on the schedule", () => {
  it("is refreshed between 180 and 60 s before its end, none of 200 earlier or later", async () => {
    const stage = await Stage.open();
    for (let n = 0; n < 200; n += 1) await stage.connect(`a-${n}`, HOUR_MS);
    await stage.start();
    await stage.pass(HOUR_MS - 10);
    const left = stage.vendors.sent.map(({ atMs }) => (HOUR_MS - atMs) / SECOND_MS);
    expect(left).toHaveLength(200);
    expect(Math.min(...left)).toBeGreaterThanOrEqual(59);
    expect(Math.max(...left)).toBeLessThanOrEqual(180);
    expect(Math.max(...left) - Math.min(...left)).toBeGreaterThan(100);
  });

  it("that lives 60 days is not refreshed a day early", async () => {
    const stage = await Stage.open();
    await stage.connect("a", 60 * DAY_MS, 60 * DAY_MS);
    await stage.start();
    await stage.pass(60 * DAY_MS - 180 * SECOND_MS - 1);
    expect(stage.vendors.sent).toHaveLength(0);
    await stage.pass(120 * SECOND_MS + 1_000);
    expect(stage.vendors.sent).toHaveLength(1);
  });

  it("that lives 10 s is refreshed once a life, by scheduler and callers together", async () => {
    const stage = await Stage.open();
    stage.vendors.lifetimeMs = 10 * SECOND_MS;
    await stage.connect("a", 10 * SECOND_MS, 10 * SECOND_MS);
    await stage.start();
    for (let i = 0; i < 600; i += 1) {
      expect((await stage.ask("a")).token).toMatch(/^at-/);
      await stage.pass(100);
    }
    // A life ends 2 to 6 s before its time, so 60 s hold between 8 and 15 of them.
    expect(stage.vendors.sent.length).toBeGreaterThanOrEqual(7);
    expect(stage.vendors.sent.length).toBeLessThanOrEqual(15);
  });

  it("that lives 10 s is refreshed once for many callers and once per life without a schedule", async () => {
    const stage = await Stage.open();
    stage.vendors.lifetimeMs = 10 * SECOND_MS;
    await stage.connect("a");
    const asks = await stage.within(SECOND_MS, Promise.all(Array.from({ length: 50 }, () => stage.get("a"))));
    expect(new Set(asks.map(({ token }) => token))).toEqual(new Set(["at-1"]));
    await stage.pass(7_400);
    expect(await stage.ask("a")).toMatchObject({ token: "at-1" });
    await stage.pass(200);
    expect(await stage.ask("a")).toMatchObject({ token: "at-2" });
    expect(stage.vendors.sent).toHaveLength(2);
  });

  it("of a provider that refuses early refreshes is not asked for before it permits", async () => {
    const stage = await Stage.open({ caps: { budget: { requests: 1, perMs: MINUTE_MS } } });
    const rules = stage.vendors.rulesNow;
    stage.vendors.rulesNow =
      rules === undefined ? rules : { ...rules, earliestBeforeExpiryMs: 30 * SECOND_MS };
    for (let n = 0; n < 10; n += 1) await stage.connect(`a-${n}`, 10 * MINUTE_MS, 10 * MINUTE_MS);
    await stage.start();
    await stage.pass(10 * MINUTE_MS - 30 * SECOND_MS - 1);
    expect(stage.vendors.sent).toHaveLength(0);
    await stage.pass(MINUTE_MS);
    expect(stage.vendors.sent.length).toBeGreaterThan(0);
  });
});

describe("a minimum validity beyond the vendor's lifetime", () => {
  it("costs one refresh per token, then the real expiry is good enough", async () => {
    const stage = await Stage.open();
    await stage.connect("a", HOUR_MS);
    for (let i = 0; i < 100; i += 1)
      expect(await stage.ask("a", { minValidityMs: 2 * HOUR_MS })).toMatchObject({ token: "at-1" });
    expect(stage.vendors.sent).toHaveLength(1);
  });
});

describe.each(["s", "absolute"])(
  "a vendor whose clock is wrong and whose expires_in counts as %s",
  (unit) => {
    it.each([-120, 120])("gets no early and no late refresh at %i s off", async (offsetS) => {
      const provider = providerOf(oauthFile(`response: { expires_in: ${unit} }`), "vendor");
      const sentAtMs: number[] = [];
      const nowMs = () => stage.nowMs;
      const send: Send = async () => {
        sentAtMs.push(stage.time.nowMs);
        const vendorMs = nowMs() + offsetS * SECOND_MS;
        const expires_in = unit === "s" ? 3_600 : Math.floor(vendorMs / 1_000) + 3_600;
        const body = {
          access_token: `at-${sentAtMs.length}`,
          refresh_token: `rt-${sentAtMs.length}`,
          expires_in,
        };
        return {
          kind: "answer",
          status: 200,
          headers: [["date", new Date(vendorMs).toUTCString()]],
          body: Buffer.from(JSON.stringify(body)),
          requestedAtMs: nowMs(),
          receivedAtMs: nowMs(),
        };
      };
      const catalogue = catalogueOf(new Map([["vendor", provider]]));
      const vendors = createVendors({ catalogue: () => catalogue, send, now: nowMs });
      const stage = await Stage.open({ vendors: () => vendors });
      await stage.connect("a");
      await stage.start();
      await stage.pass(10 * HOUR_MS);
      const pauses = sentAtMs.slice(1).map((atMs, i) => (atMs - (sentAtMs[i] ?? 0)) / SECOND_MS);
      expect(pauses.length).toBe(10);
      // An absolute time is told in whole seconds.
      expect(Math.min(...pauses)).toBeGreaterThanOrEqual(3_600 - 181);
      expect(Math.max(...pauses)).toBeLessThanOrEqual(3_600 - 59);
    });
  },
);
