import { describe, expect, it } from "vitest";
import { REAUTH } from "../fakes/vendors.ts";
import { HOUR_MS, MINUTE_MS, SECOND_MS, Stage } from "./stage.ts";

const ids = (count: number) => Array.from({ length: count }, (_, n) => `a-${n}`);

function flagged(stage: Stage, count: number): readonly string[] {
  return ids(count).filter((id) => stage.slot(id).state === "needs_reauth");
}

/** 40 accounts of one client, of which the provider refuses all but the last ten. */
async function outage(): Promise<Stage> {
  const stage = await Stage.open();
  for (const id of ids(40)) await stage.connect(id);
  stage.vendors.always = ({ accountId }) => (Number(accountId.slice(2)) < 30 ? REAUTH : { kind: "grant" });
  return stage;
}

describe("30 of 40 accounts refused within a minute", () => {
  it("flags three at most and says that the provider is suspect", async () => {
    const stage = await outage();
    for (const id of ids(30)) {
      await stage.ask(id, { deadlineMs: SECOND_MS });
      await stage.pass(SECOND_MS);
    }
    expect(flagged(stage, 40)).toEqual(["a-0", "a-1", "a-2"]);
    expect(stage.count("integrated_account:authentication_error")).toBe(3);
    expect(stage.count("provider:outage_suspected")).toBe(1);
    expect(await stage.ask("a-20")).toMatchObject({
      reason: "PROVIDER_UNAVAILABLE",
      cause: "outage_suspected",
    });
  });

  it("flags three at most when all are asked for at once", async () => {
    const stage = await outage();
    await stage.within(MINUTE_MS, Promise.all(ids(30).map((id) => stage.get(id))));
    expect(flagged(stage, 40)).toHaveLength(3);
    expect(stage.count("provider:outage_suspected")).toBe(1);
  });

  it("sends one probe a minute, and takes the three flags back when one gets through", async () => {
    const stage = await outage();
    for (const id of ids(30)) await stage.ask(id, { deadlineMs: SECOND_MS });
    const before = stage.vendors.sent.length;
    const from = stage.time.nowMs;
    const poll = async () => {
      for (const id of ids(30)) await stage.ask(id, { deadlineMs: SECOND_MS });
      await stage.pass(SECOND_MS);
    };
    while (stage.time.nowMs < from + 10 * MINUTE_MS) await poll();
    const probes = stage.vendors.sent.slice(before).map(({ atMs }) => atMs);
    expect(probes.length).toBeGreaterThanOrEqual(9);
    expect(probes.length).toBeLessThanOrEqual(10);
    for (const [i, atMs] of probes.slice(1).entries())
      expect(atMs - (probes[i] ?? 0)).toBeGreaterThanOrEqual(60_000);
    stage.vendors.always = { kind: "grant" };
    const recovered = stage.time.nowMs;
    while (stage.time.nowMs < recovered + 2 * MINUTE_MS) await poll();
    expect(flagged(stage, 40)).toEqual([]);
    expect(stage.count("integrated_account:reactivated")).toBe(3);
    expect(stage.count("provider:outage_cleared")).toBe(1);
    expect(stage.events.find(({ type }) => type === "provider:outage_cleared")?.reason).toBe("recovered");
    for (const id of ids(30)) expect((await stage.ask(id)).token).toMatch(/^at-\d+$/);
  });

  it("serves valid tokens of the same client all the while", async () => {
    const stage = await outage();
    await stage.connect("fresh", HOUR_MS);
    for (const id of ids(30)) await stage.ask(id, { deadlineMs: SECOND_MS });
    expect(await stage.ask("fresh")).toMatchObject({ token: "at-fresh" });
  });

  it("believes the refusals after half an hour of refused probes, and flags all who are still refused", async () => {
    const stage = await outage();
    for (const id of ids(30)) await stage.ask(id, { deadlineMs: SECOND_MS });
    const from = stage.time.nowMs;
    while (stage.time.nowMs < from + 45 * MINUTE_MS) {
      for (const id of ids(30)) await stage.ask(id, { deadlineMs: SECOND_MS });
      await stage.pass(5 * SECOND_MS);
    }
    expect(flagged(stage, 40)).toEqual(ids(30));
    const cleared = stage.events.filter(({ type }) => type === "provider:outage_cleared");
    expect(cleared.map(({ reason }) => reason)).toEqual(["refusals_confirmed"]);
    // Every flip has its event, and every account has flipped back exactly as often as it was taken back.
    for (const id of ids(30)) {
      const flips = stage.count("integrated_account:authentication_error", id);
      expect(flips - stage.count("integrated_account:reactivated", id)).toBe(1);
    }
  });
});

describe("one account refused alone", () => {
  it("is flagged with its event at once, whatever the others of its client do", async () => {
    const stage = await Stage.open();
    for (const id of ids(10)) await stage.connect(id);
    for (const id of ids(10).slice(1)) await stage.ask(id);
    stage.vendors.next.push({ ...REAUTH, afterMs: 100 });
    const askedAtMs = stage.nowMs;
    expect(await stage.ask("a-0")).toMatchObject({ reason: "REAUTHORIZATION_REQUIRED" });
    const [event] = stage.events.filter(({ type }) => type === "integrated_account:authentication_error");
    expect(event).toMatchObject({
      accountId: "a-0",
      reason: "refused",
      detail: { provider_code: "invalid_grant" },
    });
    expect((event?.timeMs ?? 0) - askedAtMs).toBeLessThan(SECOND_MS);
    expect(stage.count("provider:outage_suspected")).toBe(0);
  });

  it("is flagged even when three others were a minute and more ago", async () => {
    const stage = await Stage.open();
    for (const id of ids(9)) await stage.connect(id);
    stage.vendors.always = REAUTH;
    for (const id of ids(9)) {
      await stage.ask(id);
      await stage.pass(20_001);
    }
    expect(flagged(stage, 9)).toEqual(ids(9));
    expect(stage.count("provider:outage_suspected")).toBe(0);
  });
});
