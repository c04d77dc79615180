import { describe, expect, it } from "vitest";
import { REAUTH, type Reply } from "../fakes/vendors.ts";
import { HOUR_MS, MINUTE_MS, SECOND_MS, Stage } from "./stage.ts";

const LOST: readonly Reply[] = [{ kind: "reset" }, { kind: "silence" }, { kind: "unknown" }];

describe("an exchange whose outcome is not known", () => {
  it.each(LOST)("serves the old token to its end and then tries once ($kind)", async (lost) => {
    const stage = await Stage.open();
    await stage.connect("a", 5 * MINUTE_MS);
    stage.vendors.next.push(lost);
    const pressing = { minValidityMs: 10 * MINUTE_MS, deadlineMs: 2 * MINUTE_MS };
    expect(await stage.ask("a", pressing)).toMatchObject({ token: "at-a" });
    await stage.pass(MINUTE_MS);
    while (stage.time.nowMs < 5 * MINUTE_MS - 2_000) {
      expect(await stage.ask("a", pressing)).toMatchObject({ token: "at-a" });
      await stage.pass(1_000);
    }
    expect(stage.vendors.sent).toHaveLength(1);
    await stage.pass(5 * MINUTE_MS - stage.time.nowMs);
    expect(await stage.ask("a")).toMatchObject({ token: "at-1" });
    expect(stage.vendors.sent).toHaveLength(2);
    expect(stage.count("integrated_account:authentication_error")).toBe(0);
  });

  it("is tried by the scheduler as soon as the token has ended, without a caller", async () => {
    const stage = await Stage.open();
    await stage.connect("a", 5 * MINUTE_MS);
    stage.vendors.next.push({ kind: "reset" });
    await stage.start();
    await stage.pass(5 * MINUTE_MS - 1);
    expect(stage.vendors.sent).toHaveLength(1);
    await stage.pass(SECOND_MS);
    expect(stage.vendors.sent).toHaveLength(2);
    expect(await stage.ask("a")).toMatchObject({ token: "at-1" });
  });

  it.each(LOST)("backs off, and never flags, when the second try is lost as well ($kind)", async (lost) => {
    const stage = await Stage.open();
    await stage.connect("a");
    stage.vendors.next.push(lost, lost);
    await stage.ask("a", { deadlineMs: 2 * MINUTE_MS });
    await stage.pass(MINUTE_MS);
    await stage.ask("a", { deadlineMs: 2 * MINUTE_MS });
    await stage.pass(MINUTE_MS);
    expect(stage.vendors.sent).toHaveLength(2);
    expect(stage.slot("a")).toMatchObject({ state: "active", failures: 2 });
    expect(stage.count("integrated_account:authentication_error")).toBe(0);
    await stage.pass(HOUR_MS);
    expect(await stage.ask("a")).toMatchObject({ token: "at-1" });
  });

  it("flags once, with one event, when the second try is answered as refused", async () => {
    const stage = await Stage.open();
    await stage.connect("a");
    stage.vendors.next.push({ kind: "reset" }, REAUTH);
    expect(await stage.ask("a")).toMatchObject({ reason: "PROVIDER_UNAVAILABLE" });
    await stage.pass(SECOND_MS);
    for (let i = 0; i < 3; i += 1)
      expect(await stage.ask("a")).toMatchObject({ reason: "REAUTHORIZATION_REQUIRED", cause: "refused" });
    expect(stage.vendors.sent).toHaveLength(2);
    expect(stage.count("integrated_account:authentication_error", "a")).toBe(1);
  });

  it("is sent again at once where the file says that a resend does no harm", async () => {
    const stage = await Stage.open();
    const rules = stage.vendors.rulesNow;
    stage.vendors.rulesNow = rules === undefined ? rules : { ...rules, resendSafe: true };
    await stage.connect("a", 5 * MINUTE_MS);
    stage.vendors.next.push({ kind: "reset" });
    const pressing = { minValidityMs: 10 * MINUTE_MS };
    expect(await stage.ask("a", pressing)).toMatchObject({ token: "at-a" });
    await stage.pass(SECOND_MS);
    expect(await stage.ask("a", pressing)).toMatchObject({ token: "at-1" });
  });

  it("is no doubt when nothing was sent: the next try comes after the back-off, the old token still valid", async () => {
    const stage = await Stage.open();
    await stage.connect("a", 5 * MINUTE_MS);
    stage.vendors.next.push({ kind: "unreachable" });
    const pressing = { minValidityMs: 10 * MINUTE_MS };
    expect(await stage.ask("a", pressing)).toMatchObject({ token: "at-a" });
    await stage.pass(SECOND_MS);
    expect(await stage.ask("a", pressing)).toMatchObject({ token: "at-1" });
  });

  it("after a kill serves the token to its end and then sends once more", async () => {
    const stage = await Stage.open();
    await stage.connect("a", 5 * MINUTE_MS);
    void stage.get("a", { minValidityMs: 10 * MINUTE_MS });
    await stage.pass(20);
    expect(stage.vendors.sent).toHaveLength(1);
    stage.kill();
    stage.revive();
    await stage.start();
    await stage.pass(SECOND_MS);
    expect(stage.leftovers("a")).not.toContain("attempt");
    expect(await stage.ask("a", { minValidityMs: 10 * MINUTE_MS })).toMatchObject({ token: "at-a" });
    expect(stage.vendors.sent).toHaveLength(1);
    await stage.pass(5 * MINUTE_MS);
    expect(await stage.ask("a")).toMatchObject({ token: "at-2" });
    expect(stage.vendors.sent).toHaveLength(2);
  });
});

describe("a transient failure", () => {
  it("is retried by the scheduler 3 h later, doubling to 24 h, each within 20 %", async () => {
    const stage = await Stage.open();
    await stage.connect("a", HOUR_MS);
    stage.vendors.always = { kind: "refuse", class: "transient" };
    await stage.start();
    await stage.pass(120 * HOUR_MS);
    const at = stage.vendors.sent.map(({ atMs }) => atMs);
    const pausesH = at.slice(1).map((atMs, i) => (atMs - (at[i] ?? 0)) / HOUR_MS);
    expect(pausesH.length).toBeGreaterThanOrEqual(5);
    for (const [i, pauseH] of pausesH.entries()) {
      const meantH = Math.min(24, 3 * 2 ** i);
      expect(pauseH).toBeGreaterThan(meantH * 0.79);
      expect(pauseH).toBeLessThan(meantH * 1.22);
    }
    expect(stage.slot("a").state).toBe("active");
    expect(stage.count("integrated_account:refresh_failed", "a")).toBe(at.length);
  });

  it("lets callers try again after 1 s, 2 s, 4 s … up to 60 s, and serves the valid token meanwhile", async () => {
    const stage = await Stage.open();
    await stage.connect("a", 10 * MINUTE_MS);
    stage.vendors.always = { kind: "refuse", class: "transient", afterMs: 0 };
    while (stage.time.nowMs < 9 * MINUTE_MS) {
      expect(await stage.ask("a", { minValidityMs: HOUR_MS })).toMatchObject({ token: "at-a" });
      await stage.pass(500);
    }
    const at = stage.vendors.sent.map(({ atMs }) => atMs);
    const pauses = at.slice(1).map((atMs, i) => atMs - (at[i] ?? 0));
    expect(pauses).toEqual([
      1_000,
      2_000,
      4_000,
      8_000,
      16_000,
      32_000,
      ...pauses.slice(6).map(() => 60_000),
    ]);
    expect(pauses.length).toBeGreaterThan(8);
  });
});
