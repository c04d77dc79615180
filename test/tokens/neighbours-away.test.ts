import { describe, expect, it } from "vitest";
import { KeyturnError } from "../../src/errors.ts";
import { HOUR_MS, kekAway, MINUTE_MS, SECOND_MS, Stage, storeAway } from "./stage.ts";

const diskFull = () => new KeyturnError("STATE_DISK_FULL", "no room");

describe("without the KEK", () => {
  it("serves cached valid tokens, and answers the rest KEK_UNAVAILABLE", async () => {
    const stage = await Stage.open();
    await stage.connect("cached", HOUR_MS);
    await stage.connect("closing", 20 * SECOND_MS);
    await stage.connect("cold", HOUR_MS);
    await stage.connect("expired");
    stage.vendors.next.push({ kind: "unreachable" });
    expect(await stage.ask("cached")).toMatchObject({ token: "at-cached" });
    expect(await stage.ask("closing")).toMatchObject({ token: "at-closing" });
    stage.sealer.trouble.fail(kekAway);
    await stage.pass(2 * SECOND_MS);
    expect(await stage.ask("cached")).toMatchObject({ token: "at-cached" });
    expect(await stage.ask("closing")).toMatchObject({ token: "at-closing" });
    expect(await stage.ask("cold")).toMatchObject({ reason: "KEK_UNAVAILABLE" });
    expect(await stage.ask("expired")).toMatchObject({ reason: "KEK_UNAVAILABLE" });
    await stage.pass(20 * SECOND_MS);
    expect(await stage.ask("closing")).toMatchObject({ reason: "KEK_UNAVAILABLE" });
    expect(stage.vendors.sent).toHaveLength(1);
    expect(stage.leftovers("expired")).toEqual([]);
    stage.sealer.trouble.end();
    expect(await stage.ask("cold")).toMatchObject({ token: "at-cold" });
    expect((await stage.ask("expired")).token).toMatch(/^at-\d+$/);
  });

  it("starts no exchange from the schedule either, and goes on when it is back", async () => {
    const stage = await Stage.open();
    await stage.connect("a", 10 * MINUTE_MS, HOUR_MS);
    await stage.start();
    stage.sealer.trouble.fail(kekAway);
    await stage.pass(9 * MINUTE_MS + 50 * SECOND_MS);
    expect(stage.vendors.sent).toHaveLength(0);
    stage.sealer.trouble.end();
    await stage.pass(9 * SECOND_MS);
    expect(stage.vendors.sent).toHaveLength(1);
    expect(stage.sealer.outstanding).toBe(0);
  });
});

describe("without room on the disk", () => {
  it("answers STATE_DISK_FULL before any exchange, still serves what is valid, and writes nothing half", async () => {
    const stage = await Stage.open();
    await stage.connect("expired");
    await stage.connect("valid", 20 * SECOND_MS);
    stage.journal.reserving.fail(diskFull);
    expect(await stage.ask("expired")).toMatchObject({ reason: "STATE_DISK_FULL" });
    expect(await stage.ask("valid")).toMatchObject({ token: "at-valid" });
    expect(stage.vendors.sent).toHaveLength(0);
    expect(stage.leftovers("expired")).toEqual([]);
    expect(stage.sealer.outstanding).toBe(0);
    stage.journal.reserving.end();
    expect(await stage.ask("expired")).toMatchObject({ token: "at-1" });
  });

  it("still commits an answer that could not be kept", async () => {
    const stage = await Stage.open();
    await stage.connect("a");
    stage.journal.keeping.fail(diskFull);
    expect(await stage.ask("a")).toMatchObject({ token: "at-1" });
    expect(stage.reports).toContain("answer not kept");
  });
});

/** The provider answers after 1 s; from half a second on something is broken. */
async function answered(breaks: (stage: Stage) => void): Promise<Stage> {
  const stage = await Stage.open();
  await stage.connect("a");
  stage.vendors.next.push({ kind: "grant", afterMs: SECOND_MS });
  void stage.get("a", { deadlineMs: 5 * SECOND_MS });
  await stage.pass(500);
  breaks(stage);
  await stage.pass(SECOND_MS);
  expect(stage.vendors.sent).toHaveLength(1);
  return stage;
}

/** kill -9, repair, restart: the answer is there and nothing is sent again. */
async function killAndFind(stage: Stage, repair: (stage: Stage) => void): Promise<void> {
  stage.kill();
  repair(stage);
  stage.revive();
  await stage.start();
  expect(await stage.ask("a")).toMatchObject({ token: "at-1", generation: 2 });
  expect(stage.vendors.sent).toHaveLength(1);
  expect(stage.journal.kept.size).toBe(0);
  // The dead one's lock is nobody's and ends by its lease.
  expect(stage.leftovers("a").filter((kind) => kind !== "lock")).toEqual([]);
}

describe("after the provider has answered", () => {
  it("needs no KEK to keep and commit the answer", async () => {
    const stage = await answered(({ sealer }) => sealer.trouble.fail(kekAway));
    expect(await stage.ask("a")).toMatchObject({ token: "at-1" });
    await killAndFind(stage, ({ sealer }) => sealer.trouble.end());
  });

  it("commits after a restart when the KEK came back only after that", async () => {
    const stage = await answered(({ sealer, storeTrouble }) => {
      sealer.trouble.fail(kekAway);
      storeTrouble.fail(storeAway);
    });
    stage.kill();
    stage.storeTrouble.end();
    stage.revive();
    const ready = stage.heart.start();
    await stage.pass(10 * SECOND_MS);
    expect(stage.slot("a").generation).toBe(1);
    stage.sealer.trouble.end();
    await stage.within(5 * SECOND_MS, ready);
    expect(await stage.ask("a")).toMatchObject({ token: "at-1", generation: 2 });
    expect(stage.vendors.sent).toHaveLength(1);
  });

  it.each([true, false])(
    "serves the kept answer while the store is dead, and commits it (ambiguous: %s)",
    async (is) => {
      const stage = await answered(({ storeTrouble }) => storeTrouble.fail(() => storeAway(is)));
      await stage.pass(10 * SECOND_MS);
      expect(await stage.ask("a")).toMatchObject({ token: "at-1" });
      expect(stage.slot("a").generation).toBe(1);
      expect(stage.journal.kept.size).toBe(1);
      stage.storeTrouble.end();
      await stage.pass(2 * SECOND_MS);
      expect(stage.slot("a").generation).toBe(2);
      expect(stage.journal.kept.size).toBe(0);
      expect(stage.vendors.sent).toHaveLength(1);
    },
  );

  it("finds the answer after a kill -9 when the store was dead", async () => {
    const stage = await answered(({ storeTrouble }) => storeTrouble.fail(storeAway));
    expect(stage.journal.kept.size).toBe(1);
    await killAndFind(stage, ({ storeTrouble }) => storeTrouble.end());
  });

  it("finds the answer after a kill -9 when the store was hung", async () => {
    const stage = await answered(({ storeTrouble }) => storeTrouble.hang());
    expect(stage.journal.kept.size).toBe(1);
    await killAndFind(stage, ({ storeTrouble }) => storeTrouble.end());
  });

  it("keeps an answer whose mapping throws, resends nothing, and takes it in after a restart", async () => {
    const bug = new TypeError("mapping");
    const stage = await answered(({ vendors }) => {
      vendors.reading = () => Promise.reject(bug);
    });
    expect(await stage.ask("a")).toMatchObject({
      reason: "PROVIDER_UNAVAILABLE",
      cause: "answer_not_mapped",
    });
    await stage.pass(30 * MINUTE_MS);
    expect(await stage.ask("a")).toMatchObject({ cause: "answer_not_mapped" });
    expect(stage.slot("a").state).toBe("active");
    expect(stage.faults).toEqual([bug]);
    await killAndFind(stage, ({ vendors }) => {
      vendors.reading = async () => undefined;
    });
  });

  it("takes a kept answer in by remap, without a restart", async () => {
    const stage = await answered(({ vendors }) => {
      vendors.reading = () => Promise.reject(new TypeError("mapping"));
    });
    stage.vendors.reading = async () => undefined;
    const actor = { caller: "operator", purpose: "remap" };
    expect(await stage.heart.replay.remap({ accountId: "a", slot: "default" }, actor)).toBe("settled");
    expect(await stage.ask("a")).toMatchObject({ token: "at-1" });
    expect(stage.vendors.sent).toHaveLength(1);
  });

  it("has the answer on the disk while an introspection hangs: it survives a kill -9", async () => {
    const stage = await answered(({ vendors }) => {
      vendors.reading = () => new Promise(() => undefined);
    });
    expect(stage.journal.kept.size).toBe(1);
    expect(stage.slot("a").generation).toBe(1);
    await killAndFind(stage, ({ vendors }) => {
      vendors.reading = async () => undefined;
    });
  });
});

it("commits an answer that the disk does not take in time, and leaves nothing on the disk when it takes it late", async () => {
  const stage = await Stage.open();
  await stage.connect("a");
  stage.vendors.next.push({ kind: "grant", afterMs: SECOND_MS });
  const asked = stage.get("a", { deadlineMs: MINUTE_MS });
  await stage.pass(500);
  stage.journal.keeping.hang();
  const got = await stage.within(15 * SECOND_MS, asked);
  expect(got).toMatchObject({ token: "at-1", generation: 2 });
  expect(stage.slot("a").generation).toBe(2);
  expect(stage.leftovers("a")).toEqual([]);
  stage.journal.keeping.end();
  await stage.pass(SECOND_MS);
  expect(stage.journal.kept.size).toBe(0);
  expect(stage.reports).toContain("answer not kept");
});

it("starts although a kept answer does not open: it stays on the disk, and the others are taken in", async () => {
  const stage = await Stage.open();
  for (const id of ["a", "b"]) {
    await stage.connect(id);
    stage.vendors.next.push({ kind: "grant", afterMs: SECOND_MS });
    void stage.get(id);
  }
  await stage.pass(500);
  stage.storeTrouble.fail(storeAway);
  await stage.pass(2 * SECOND_MS);
  stage.kill();
  stage.storeTrouble.end();
  const [name, entry] = [...stage.journal.kept].find(([, { accountId }]) => accountId === "a") ?? [];
  if (name === undefined || entry === undefined) throw new Error("no answer was kept");
  stage.journal.kept.set(name, { ...entry, sealed: { ...entry.sealed, tag: new Uint8Array(16) } });
  stage.revive();
  await stage.start();
  expect([stage.slot("a").generation, stage.slot("b").generation]).toEqual([1, 2]);
  expect([...stage.journal.kept.values()].map(({ accountId }) => accountId)).toEqual(["a"]);
  expect(stage.reports).toContain("kept answer not settled: it stays in the journal");
  expect(stage.leftovers("a")).toContain("attempt");

  stage.journal.kept.set(name, entry);
  await stage.within(MINUTE_MS, stage.heart.replay.all({ caller: "operator", purpose: "replay" }));
  expect(stage.slot("a").generation).toBe(2);
  expect(stage.vendors.sent).toHaveLength(2);
});

describe("SIGTERM during an exchange", () => {
  it("saves the running one's answer if it comes in time, and starts no other", async () => {
    const stage = await Stage.open();
    await stage.connect("a");
    await stage.connect("b");
    stage.vendors.next.push({ kind: "grant", afterMs: 5 * SECOND_MS });
    const running = stage.get("a");
    await stage.pass(SECOND_MS);
    const stopped = stage.heart.stop(10 * SECOND_MS);
    expect(await stage.ask("b")).toMatchObject({ reason: "SHUTTING_DOWN" });
    const beganMs = stage.time.nowMs;
    expect(await stage.within(20 * SECOND_MS, stopped)).toEqual([]);
    expect(stage.time.nowMs - beganMs).toBeLessThanOrEqual(4 * SECOND_MS);
    expect(await running).toMatchObject({ token: "at-1" });
    expect(stage.slot("a").generation).toBe(2);
    expect(stage.vendors.sent).toHaveLength(1);
    expect(stage.leftovers("a")).toEqual([]);
  });

  it("leaves its attempt open when the answer does not come within the limit; the next start settles it", async () => {
    const stage = await Stage.open();
    await stage.connect("a", 20 * SECOND_MS);
    stage.vendors.next.push({ kind: "grant", afterMs: 50 * SECOND_MS });
    void stage.get("a", { deadlineMs: 60_000 });
    await stage.pass(SECOND_MS);
    const stopped = stage.heart.stop(10 * SECOND_MS);
    const left = await stage.within(10_001, stopped);
    expect(left).toHaveLength(1);
    expect(stage.time.nowMs).toBe(11 * SECOND_MS);
    expect(stage.leftovers("a")).toContain("attempt");
    stage.kill();
    stage.revive();
    await stage.start();
    expect(stage.leftovers("a")).not.toContain("attempt");
    expect(await stage.ask("a")).toMatchObject({ token: "at-a" });
    expect(stage.vendors.sent).toHaveLength(1);
    await stage.pass(10 * SECOND_MS);
    expect((await stage.ask("a")).token).toMatch(/^at-\d$/);
    expect(stage.vendors.sent).toHaveLength(2);
  });

  it("keeps an answer on the disk that came in time when the store does not take it any more", async () => {
    const stage = await Stage.open();
    await stage.connect("a");
    stage.vendors.next.push({ kind: "grant", afterMs: 2 * SECOND_MS });
    void stage.get("a");
    await stage.pass(SECOND_MS);
    stage.storeTrouble.fail(storeAway);
    const left = await stage.within(11 * SECOND_MS, stage.heart.stop(10 * SECOND_MS));
    expect(left).toHaveLength(1);
    await killAndFind(stage, ({ storeTrouble }) => storeTrouble.end());
  });
});
