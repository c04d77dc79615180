import { describe, expect, it } from "vitest";
import { OwnJournalMark } from "../../src/tokens/journal-mark.ts";
import { Keys } from "../../src/tokens/keys.ts";
import { key } from "../../src/tokens/records.ts";
import type { World } from "../../src/tokens/world.ts";
import { HOUR_MS, MINUTE_MS, SECOND_MS, Stage, storeAway } from "./stage.ts";

const VERSIONS = [1, 2].map((version) => ({ version, createdAtMs: 0, state: "active" as const }));

const OPERATOR = { caller: "operator", purpose: "test" };

/** A sidecar under version 1 of its KEK, which has a version 2 since. */
async function rotated(isGone?: (instance: string) => Promise<boolean>) {
  const stage = await Stage.open({
    around: (world) => (isGone === undefined ? world : { ...world, isGone }),
  });
  await stage.start();
  await stage.connect("acme", HOUR_MS);
  const retired: number[] = [];
  const kek = {
    id: "fake:/",
    versions: async () => ({ newest: stage.sealer.kekVersion, versions: VERSIONS }),
    rotate: async () => 2,
    retire: async (version: number) => void retired.push(version),
  };
  const keys = new Keys(stage.world, kek, stage.sealer);
  const rewrap = async () => {
    for await (const _ of keys.rewrap(OPERATOR, 0, new AbortController().signal));
  };
  const refusal = (options = {}) =>
    keys.retire(1, options).then(
      () => "",
      (error: Error) => error.message,
    );
  /** Another instance's word of its journal. */
  const tell = (instance: string) =>
    new OwnJournalMark(
      { ...stage.world, instance, journal: { ...stage.world.journal, entries: async () => [] } } as World,
      kek,
      "pod-7",
    ).tell();
  return { stage, keys, kek, rewrap, refusal, retired, tell };
}

describe("retiring a KEK version", () => {
  it("is refused while a credential is under it, and done when everything has been rewrapped", async () => {
    const { stage, rewrap, refusal, retired } = await rotated();
    stage.sealer.kekVersion = 2;
    expect(await refusal()).toContain("1 credentials under version 1");
    await rewrap();
    expect(await refusal()).toBe("");
    expect(retired).toEqual([1]);
  });

  it("is refused while a refresh is on its way whose answer will be sealed under it", async () => {
    const { stage, rewrap, refusal } = await rotated();
    await stage.connect("slow");
    stage.vendors.next.push({ kind: "grant", afterMs: 20 * SECOND_MS });
    const asked = stage.get("slow", { deadlineMs: MINUTE_MS });
    await stage.pass(SECOND_MS);
    stage.sealer.kekVersion = 2;
    await rewrap();
    expect(await refusal()).toContain("1 open attempts of instance here under version 1");
    await stage.within(MINUTE_MS, asked);
    // Committed under the version it was prepared with.
    expect(await refusal()).toContain("1 credentials under version 1");
    await rewrap();
    expect(await refusal()).toBe("");
  });

  it("is refused while an answer under it lies in this sidecar's journal", async () => {
    const { stage, rewrap, refusal } = await rotated();
    await stage.connect("kept");
    stage.vendors.next.push({ kind: "unmapped" });
    await stage.ask("kept");
    stage.sealer.kekVersion = 2;
    await rewrap();
    expect(await refusal()).toContain("1 kept answers of instance here under version 1");
  });

  it("is refused while a live instance has not said that its journal is past it", async () => {
    const { stage, rewrap, refusal, tell } = await rotated(async () => false);
    await tell("there");
    stage.sealer.kekVersion = 2;
    await rewrap();
    expect(await refusal()).toContain("journal of instance there");
    await tell("there");
    expect(await refusal()).toBe("");
  });

  it("is refused while a live instance has kept an answer since it last told of its journal", async () => {
    const { stage, rewrap, refusal, tell } = await rotated(async () => false);
    stage.sealer.kekVersion = 2;
    await tell("there");
    await stage.pass(SECOND_MS);
    const account = stage.account("acme");
    const unmapped = { attemptId: "t", instance: "there", atMs: stage.nowMs };
    const put = {
      put: key("account", "acme"),
      value: { ...account, slots: { default: { ...stage.slot("acme"), unmapped } } },
    };
    stage.store.writeNow({ nonce: "kept", expect: [], writes: [put], events: [], reads: [] });
    await rewrap();
    expect(await refusal()).toContain("journal of instance there may hold answers under version unknown");
    await stage.pass(SECOND_MS);
    await tell("there");
    expect(await refusal()).toBe("");
  });

  it("names an instance that is gone without having said that its journal is empty, until that is accepted", async () => {
    const { stage, rewrap, refusal, tell, retired } = await rotated(async (instance) => instance === "gone");
    await tell("gone");
    stage.sealer.kekVersion = 2;
    await rewrap();
    expect(await refusal()).toContain("gone (pod-7)");
    expect(retired).toEqual([]);
    expect(await refusal({ acceptUnseen: true })).toBe("");
    expect(retired).toEqual([1]);
  });

  it("is refused by its number when there is none of it yet", async () => {
    const { stage, keys, rewrap } = await rotated();
    stage.sealer.kekVersion = 2;
    await rewrap();
    await expect(keys.retire(3)).rejects.toThrow("there is none of this number; the newest is 2");
  });

  it("asks for no disk of an instance that stopped with an empty journal", async () => {
    const { stage, kek, rewrap, refusal } = await rotated(async () => true);
    const mark = new OwnJournalMark({ ...stage.world, instance: "left" }, kek, "pod-8");
    await mark.tell();
    await mark.withdraw();
    stage.sealer.kekVersion = 2;
    await rewrap();
    expect(await refusal()).toBe("");
  });
});

it("stops a rewrap when the store goes away, and goes on at the page where it stopped", async () => {
  const { stage, keys, rewrap } = await rotated();
  for (let n = 0; n < 450; n += 1) await stage.connect(`a-${n}`, HOUR_MS);
  stage.sealer.kekVersion = 2;
  let calls = 0;
  stage.sealer.trouble.pass = async () => {
    calls += 1;
    if (calls === 300) throw storeAway();
  };
  await expect(rewrap()).rejects.toMatchObject({ reason: "STORE_UNAVAILABLE" });
  const before = calls;
  const progress: number[] = [];
  for await (const { done } of keys.rewrap(OPERATOR, 0, new AbortController().signal)) progress.push(done);
  expect(progress[0]).toBe(200);
  // What had been moved costs no call; the sample is opened at the end.
  expect(calls - before).toBeLessThan(452 - 200 + 110);
});
