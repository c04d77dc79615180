import { describe, expect, it } from "vitest";
import { Heart } from "../../src/tokens/heart.ts";
import { key } from "../../src/tokens/records.ts";
import { RestoreWatch } from "../../src/tokens/restore.ts";
import { shardOf } from "../../src/tokens/shard.ts";
import type { Store, View } from "../../src/tokens/store.ts";
import { FakeJournal } from "../fakes/journal.ts";
import { REAUTH } from "../fakes/vendors.ts";
import { HOUR_MS, MINUTE_MS, SECOND_MS, Stage, storeAway } from "./stage.ts";

const ACTOR = { caller: "operator", purpose: "replay" };
const RECORDS = [key("account", "a"), key("credential", "a", "default")] as const;

/** A refresh whose answer is kept while the store is away; then the process dies. */
async function diedWithAnAnswer(stage: Stage): Promise<void> {
  stage.vendors.next.push({ kind: "grant", afterMs: SECOND_MS });
  const slot = stage.slot("a");
  void stage.get("a", {
    rejected: { incarnation: stage.account("a").incarnation, generation: slot.generation },
  });
  await stage.pass(500);
  stage.storeTrouble.fail(storeAway);
  await stage.pass(2 * SECOND_MS);
  expect(stage.journal.kept.size).toBe(1);
  stage.kill();
  stage.storeTrouble.end();
}

/** The account as it stood, put back; what was there of attempts goes with it. */
async function setBack(stage: Stage, view: ReturnType<Stage["store"]["readNow"]>): Promise<void> {
  const { store } = stage.store.client({});
  const writes = RECORDS.flatMap((at) => {
    const entry = view.get(at);
    return entry === undefined ? [] : [{ put: at, value: entry.value }];
  });
  const left = [key("attempt", "a", "default"), key("hold", "a", "default"), key("lock", "a", "default")];
  const removed = left
    .filter((at) => stage.store.readNow([at]).get(at) !== undefined)
    .map((at) => ({ remove: at }));
  await store.write({
    nonce: "set-back",
    expect: [],
    writes: [...writes, ...removed],
    events: [],
    reads: [],
  });
}

async function stageWithA(around?: (stage: () => Stage) => Parameters<typeof Stage.open>[0]) {
  let stage: Stage | undefined;
  const options = around?.(() => stage as Stage) ?? {};
  stage = await Stage.open(options);
  await stage.start();
  await stage.connect("a");
  return stage;
}

describe("a journal's answer", () => {
  it("is stored when the store was set back behind it, however far", async () => {
    const stage = await stageWithA();
    const old = stage.store.readNow(RECORDS);
    for (let n = 0; n < 100; n += 1) {
      await stage.ask("a");
      await stage.pass(2 * HOUR_MS);
    }
    const { generation } = stage.slot("a");
    expect(generation).toBeGreaterThan(100);
    await diedWithAnAnswer(stage);
    const sent = stage.vendors.sent.length;
    await setBack(stage, old);
    expect(stage.slot("a").generation).toBe(1);
    stage.revive();
    await stage.start();
    expect(stage.slot("a")).toMatchObject({ generation: generation + 1, state: "active" });
    expect((await stage.ask("a")).reason).toBeUndefined();
    expect(stage.vendors.sent).toHaveLength(sent);
    expect(stage.journal.kept.size).toBe(0);
  });

  it("flags nobody when it is a refusal of bytes that the store does not know any more", async () => {
    const stage = await stageWithA();
    const old = stage.store.readNow(RECORDS);
    await stage.ask("a");
    stage.vendors.always = { ...REAUTH, afterMs: SECOND_MS };
    await diedWithAnAnswer(stage);
    stage.vendors.always = { kind: "grant" };
    await setBack(stage, old);
    stage.revive();
    await stage.start();
    expect(stage.count("integrated_account:authentication_error")).toBe(0);
    expect(stage.slot("a").state).toBe("active");
  });
});

describe("another instance's journal", () => {
  /** The one that died, and one beside it with a disk of its own. */
  async function beside(isGone: () => Promise<boolean>) {
    const stage = await stageWithA();
    await diedWithAnAnswer(stage);
    stage.revive();
    const world = { ...stage.world, instance: "there", journal: new FakeJournal(), isGone };
    return { stage, there: new Heart(world), gone: { journal: stage.journal, instance: "here" } };
  }

  it("is settled by whoever is given it: its answer stored, its attempt ended, nothing sent again", async () => {
    const { stage, there, gone } = await beside(async () => true);
    expect(await stage.within(MINUTE_MS, there.replay.adopt(gone, ACTOR))).toEqual(["settled"]);
    expect(stage.slot("a").generation).toBe(2);
    expect(stage.leftovers("a").filter((kind) => kind !== "lock")).toEqual([]);
    expect([stage.journal.kept.size, stage.vendors.sent.length]).toEqual([0, 1]);
    expect(await there.replay.adopt(gone, ACTOR)).toEqual([]);
  });

  it("ends attempts that it keeps no answer to: nobody waits for them any more", async () => {
    const { stage, there, gone } = await beside(async () => true);
    stage.journal.kept.clear();
    await stage.within(MINUTE_MS, there.replay.adopt(gone, ACTOR));
    expect(stage.leftovers("a").filter((kind) => kind !== "lock")).toEqual([]);
  });

  it("is left alone while its instance lives, and when it is this one's own", async () => {
    const { stage, there, gone } = await beside(async () => false);
    await expect(there.replay.adopt(gone, ACTOR)).rejects.toMatchObject({ reason: "INVALID_REQUEST" });
    const own = { journal: stage.journal, instance: "there" };
    await expect(there.replay.adopt(own, ACTOR)).rejects.toMatchObject({ reason: "INVALID_REQUEST" });
    expect(stage.journal.kept.size).toBe(1);
  });
});

describe("a store that was set back", () => {
  /** A sidecar's watch over a store whose revision can be made to lie. */
  async function watched(known = 0, afterRestore = false) {
    let watch: RestoreWatch | undefined;
    let back = 0;
    let refusesHolds = false;
    const stage = await Stage.open({
      around: (world) => {
        const older = (view: View): View => ({
          get: view.get.bind(view),
          all: view.all.bind(view),
          storeRevision: view.storeRevision - back,
        });
        const lying: Store = {
          ...world.store,
          read: async (reads) => older(await world.store.read(reads)),
          write: async (transaction) => {
            const isHold = transaction.writes.some((one) => "put" in one && one.put.kind === "restore_hold");
            if (isHold && refusesHolds) throw storeAway();
            const { applied, view } = await world.store.write(transaction);
            return { applied, view: older(view) };
          },
        };
        const made = new RestoreWatch({ ...world, store: lying });
        watch = made;
        return { ...world, store: made.store, isHeld: () => made.isHeld };
      },
    });
    if (watch === undefined) throw new Error("no watch");
    await stage.connect("a");
    await stage.connect("fresh", HOUR_MS);
    const stop = new AbortController();
    await watch.start({ known, isOther: false, afterRestore }, stop.signal);
    const setBackBy = (revisions: number) => (back = revisions);
    return { stage, watch, stop, setBackBy, refuseHolds: (are: boolean) => (refusesHolds = are) };
  }

  it("is noticed by a running sidecar, which serves what is valid and sends no refresh until that is accepted", async () => {
    const { stage, watch, setBackBy } = await watched();
    await stage.within(MINUTE_MS, stage.get("fresh"));
    setBackBy(30);
    await stage.start();
    await stage.pass(SECOND_MS);
    const refused = await stage.ask("a");
    expect(refused).toMatchObject({ reason: "REFRESH_UNCERTAIN", cause: "store_set_back" });
    expect((await stage.ask("fresh")).token).toBe("at-fresh");
    expect(await watch.held()).toMatchObject({ why: "set_back", instance: "here" });
    await stage.pass(HOUR_MS);
    expect(stage.vendors.sent).toEqual([]);
    expect(stage.count("integrated_account:authentication_error")).toBe(0);
    await watch.accept();
    await stage.pass(2 * MINUTE_MS);
    expect(stage.vendors.sent.length).toBeGreaterThan(0);
  });

  it("is noticed at a start by the disk's memory, or said by the operator of a fresh one", async () => {
    const known = await watched(1_000_000);
    expect(known.watch.isHeld).toBe(true);
    const told = await watched(0, true);
    expect(await told.watch.held()).toMatchObject({ why: "after_restore" });
    expect((await watched(0, false)).watch.isHeld).toBe(false);
  });

  it("holds every sidecar that starts meanwhile, and each hears the operator's word", async () => {
    const { stage, watch } = await watched(0, true);
    const other = new RestoreWatch({ ...stage.world, instance: "there" });
    await other.start({ known: 0, isOther: false, afterRestore: false }, new AbortController().signal);
    expect(other.isHeld).toBe(true);
    await watch.accept();
    await stage.pass(5 * SECOND_MS);
    expect(other.isHeld).toBe(false);
  });

  it("is held until an operator accepts also when the hold could not be written down at first", async () => {
    const { stage, watch, setBackBy, refuseHolds } = await watched();
    refuseHolds(true);
    setBackBy(30);
    await stage.ask("a");
    await stage.pass(10 * SECOND_MS);
    expect(watch.isHeld).toBe(true);
    expect(await watch.held()).toBeUndefined();
    refuseHolds(false);
    await stage.pass(5 * SECOND_MS);
    expect(await watch.held()).toMatchObject({ why: "set_back" });
    await watch.accept();
    expect(watch.isHeld).toBe(false);
  });

  it("once more while that is held, to a state without the hold, is held on", async () => {
    const { stage, watch } = await watched(0, true);
    const at = key("restore_hold", "current");
    const writes = [{ remove: at }];
    await stage.store.client().store.write({ nonce: "again", expect: [], writes, events: [], reads: [] });
    await stage.within(MINUTE_MS, watch.notice(stage.store.revision));
    await stage.pass(10 * SECOND_MS);
    expect(watch.isHeld).toBe(true);
    expect(await watch.held()).toMatchObject({ why: "set_back" });
  });

  it("is noticed by another word than its revision as well", async () => {
    const { stage, watch, setBackBy } = await watched();
    await stage.within(MINUTE_MS, watch.notice(stage.store.revision));
    expect(await watch.held()).toMatchObject({ why: "set_back" });
    setBackBy(30);
    expect((await stage.ask("a")).cause).toBe("store_set_back");
    // Accepted is its state as it is, with its lower revision.
    await watch.accept();
    await stage.ask("fresh", { minValidityMs: 2 * HOUR_MS });
    expect(watch.isHeld).toBe(false);
  });

  it("is not taken for one when two answers come in the other order", async () => {
    const { stage, watch } = await watched();
    const slow = watch.store.read(RECORDS);
    await stage.putCredential("fresh", "at-2", "rt-2");
    await slow;
    await stage.ask("a");
    expect(watch.isHeld).toBe(false);
  });

  it("does not stop refreshes that may be sent twice", async () => {
    const { stage } = await watched(0, true);
    if (stage.vendors.rulesNow === undefined) throw new Error("no rules");
    stage.vendors.rulesNow = { ...stage.vendors.rulesNow, resendSafe: true };
    expect((await stage.ask("a")).reason).toBeUndefined();
  });
});

it("watches a store without asking more of it: one shard's accounts are read alone", async () => {
  const stage = await Stage.open();
  for (let n = 0; n < 20; n += 1) await stage.connect(`a-${n}`, HOUR_MS);
  const { clock, newId, report } = stage.world;
  const watch = new RestoreWatch({ store: stage.world.store, clock, newId, instance: "here", report });
  const { entries } = await stage.within(SECOND_MS, watch.store.scan("account", "", 100, shardOf("a-7")));
  const ids = Array.from({ length: 20 }, (_, n) => `a-${n}`).filter((id) => shardOf(id) === shardOf("a-7"));
  expect(entries.map(({ value }) => value.id).sort()).toEqual(ids.sort());
});
