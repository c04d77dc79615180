import { describe, expect, it } from "vitest";
import { HOUR_MS, kekAway, MINUTE_MS, SECOND_MS, Stage } from "./stage.ts";

/** 30 s of lock against a provider that takes 45 s. */
const HANG_MS = 45 * SECOND_MS;

describe("the 30 s mutex", () => {
  it("lets the next caller ask a provider again at 30 s when that is safe", async () => {
    const stage = await Stage.open();
    stage.vendors.rulesNow = { ...safe(stage), resendSafe: true };
    await stage.connect("a");
    stage.vendors.next.push({ kind: "grant", afterMs: HANG_MS });
    const first = stage.get("a", { deadlineMs: MINUTE_MS });
    await stage.pass(29_999);
    expect(stage.vendors.sent).toHaveLength(1);
    await stage.pass(1);
    expect(await first).toMatchObject({ reason: "REFRESH_UNCERTAIN", atMs: 30_000 });
    expect((await stage.ask("a")).token).toBe("at-2");
    expect(stage.vendors.sent.map(({ atMs }) => atMs)).toEqual([0, 30_000]);
    await stage.pass(MINUTE_MS);
    expect(stage.slot("a").generation).toBe(2);
    expect(await stage.ask("a")).toMatchObject({ token: "at-2" });
    expect(stage.leftovers("a")).toEqual([]);
  });

  it("listens to a rotating provider beyond 30 s and commits its late answer, asking nobody meanwhile", async () => {
    const stage = await Stage.open();
    await stage.connect("a");
    stage.vendors.next.push({ kind: "grant", afterMs: HANG_MS });
    const first = stage.get("a", { deadlineMs: MINUTE_MS });
    await stage.pass(30_000);
    expect(await first).toMatchObject({ reason: "REFRESH_UNCERTAIN", atMs: 30_000 });
    await stage.pass(10_000);
    expect(await stage.ask("a")).toMatchObject({ reason: "REFRESH_UNCERTAIN", retryAfterMs: 5_000 });
    await stage.pass(5_100);
    expect(await stage.ask("a")).toMatchObject({ token: "at-1", generation: 2 });
    expect(stage.vendors.sent).toHaveLength(1);
    expect(stage.leftovers("a")).toEqual([]);
    expect(stage.journal.kept.size).toBe(0);
  });

  it("keeps serving the token that is still valid while a rotating provider hangs", async () => {
    const stage = await Stage.open();
    await stage.connect("a", 25 * SECOND_MS);
    stage.vendors.next.push({ kind: "grant", afterMs: HANG_MS });
    const first = stage.get("a", { deadlineMs: MINUTE_MS });
    await stage.pass(20_000);
    expect(stage.vendors.sent).toHaveLength(1);
    await stage.pass(26_000);
    expect((await first).atMs).toBe(30_000);
    expect(await stage.ask("a")).toMatchObject({ token: "at-1" });
    expect(stage.vendors.sent).toHaveLength(1);
  });

  it("serves a token valid for an hour to all callers at 30 s of a forced refresh that hangs", async () => {
    const stage = await Stage.open();
    await stage.connect("a", HOUR_MS);
    stage.vendors.next.push({ kind: "grant", afterMs: HANG_MS });
    const { generation, incarnation } = await stage.ask("a");
    const rejecting = stage.get("a", { rejected: { generation, incarnation }, deadlineMs: MINUTE_MS });
    await stage.pass(10_000);
    expect(await stage.ask("a")).toMatchObject({ token: "at-a" });
    await stage.pass(20_000);
    expect(await rejecting).toMatchObject({ token: "at-a", atMs: 30_000 });
    await stage.pass(16_000);
    expect(await stage.ask("a")).toMatchObject({ token: "at-1" });
  });

  it("stops listening at 60 s, and the next try goes out once the hold and the token have passed", async () => {
    const stage = await Stage.open();
    await stage.connect("a");
    stage.vendors.next.push({ kind: "silence" });
    void stage.get("a", { deadlineMs: MINUTE_MS });
    await stage.pass(61_000);
    expect(stage.vendors.inFlight).toBe(0);
    expect(stage.slot("a")).toMatchObject({ state: "active", failures: 1 });
    await stage.pass(1_000);
    expect(await stage.ask("a")).toMatchObject({ token: "at-1" });
    expect(stage.vendors.sent.map(({ refreshToken }) => refreshToken)).toEqual(["rt-a", "rt-a"]);
  });

  it("frees callers when the KEK hangs, and sends nothing", async () => {
    const stage = await Stage.open();
    await stage.connect("a");
    stage.sealer.trouble.hang();
    const first = stage.get("a", { deadlineMs: MINUTE_MS });
    await stage.pass(30_000);
    expect(await first).toMatchObject({ reason: "REFRESH_UNCERTAIN", atMs: 30_000 });
    stage.sealer.trouble.end();
    expect(await stage.ask("a")).toMatchObject({ token: "at-1" });
    await stage.pass(MINUTE_MS);
    expect(stage.vendors.sent).toHaveLength(1);
    expect(stage.sealer.outstanding).toBe(0);
  });

  it("frees callers when the store hangs, and sends nothing after it has woken up", async () => {
    const stage = await Stage.open();
    await stage.connect("a");
    stage.sealer.trouble.hang();
    const first = stage.get("a", { deadlineMs: MINUTE_MS });
    await stage.pass(1_000);
    // The lock is had; what hangs now is the transaction of the attempt.
    stage.storeTrouble.hang();
    stage.sealer.trouble.end();
    await stage.pass(29_000);
    expect(await first).toMatchObject({ reason: expect.any(String), atMs: 30_000 });
    expect(stage.vendors.sent).toHaveLength(0);
    stage.storeTrouble.end();
    await stage.pass(2 * MINUTE_MS);
    expect(await stage.ask("a")).toMatchObject({ token: "at-1" });
    expect(stage.vendors.sent).toHaveLength(1);
    expect(stage.sealer.outstanding).toBe(0);
    expect(stage.leftovers("a")).toEqual([]);
  });

  it("gives the lock back at once when the KEK fails", async () => {
    const stage = await Stage.open();
    await stage.connect("a");
    stage.sealer.trouble.fail(kekAway);
    expect(await stage.ask("a")).toMatchObject({ reason: "KEK_UNAVAILABLE" });
    expect(stage.leftovers("a")).toEqual([]);
    stage.sealer.trouble.end();
    expect(await stage.ask("a")).toMatchObject({ token: "at-1" });
  });

  it("makes 10 callers share one request and one answer, and two accounts refresh side by side", async () => {
    const stage = await Stage.open();
    await stage.connect("a");
    await stage.connect("b");
    stage.vendors.always = { kind: "grant", afterMs: 500 };
    const callers = ["a", "b"].flatMap((id) => Array.from({ length: 10 }, () => stage.get(id)));
    await stage.pass(500);
    const answers = await Promise.all(callers);
    expect(new Set(answers.slice(0, 10).map(({ token }) => token)).size).toBe(1);
    expect(new Set(answers.map(({ atMs }) => atMs))).toEqual(new Set([500]));
    expect(stage.vendors.sent).toHaveLength(2);
    expect(stage.vendors.mostInFlight).toBe(2);
  });

  it("goes on with the refresh when its only caller gives up", async () => {
    const stage = await Stage.open();
    await stage.connect("a");
    stage.vendors.next.push({ kind: "grant", afterMs: 5_000 });
    expect(await stage.ask("a", { deadlineMs: 1_000 })).toMatchObject({
      reason: "WAIT_TIMED_OUT",
      atMs: 1_000,
    });
    await stage.pass(5_000);
    expect(await stage.ask("a")).toMatchObject({ token: "at-1" });
    expect(stage.vendors.sent).toHaveLength(1);
  });
});

function safe(stage: Stage) {
  const rules = stage.vendors.rulesNow;
  if (rules === undefined) throw new Error("no rules");
  return rules;
}
