import { describe, expect, it } from "vitest";
import { KeyturnError } from "../../src/errors.ts";
import { key } from "../../src/tokens/records.ts";
import type { Transaction } from "../../src/tokens/store.ts";
import { HOUR_MS, MINUTE_MS, SECOND_MS, Stage, storeAway } from "./stage.ts";

const LOCK = key("lock", "a", "default");

/** The account `a`, known and expired. While the store is away it takes one write without a word, and nothing else. */
async function stageOf() {
  const taken: Transaction[] = [];
  const weather = { isAway: false };
  const stage = await Stage.open({
    store: (store) => ({
      read: async (reads) => {
        if (weather.isAway) throw storeAway();
        return store.read(reads);
      },
      write: async (transaction) => {
        if (!weather.isAway) return store.write(transaction);
        taken.push(transaction);
        throw storeAway(taken.length === 1);
      },
    }),
  });
  await stage.connect("a", MINUTE_MS);
  expect(await stage.ask("a")).toMatchObject({ token: "at-a" });
  await stage.pass(MINUTE_MS);
  const land = () => {
    const [first] = taken;
    if (first === undefined) throw new Error("nothing was sent");
    expect(stage.store.writeNow(first).applied).toBe(true);
    expect(stage.leftovers("a")).toEqual(["lock"]);
  };
  return { stage, weather, land };
}

/** As `stageOf`, and its lock has been given up: whether it was written nobody has said. */
async function givenUp() {
  const scene = await stageOf();
  scene.weather.isAway = true;
  expect(await scene.stage.ask("a")).toMatchObject({ reason: "STORE_UNAVAILABLE" });
  return scene;
}

describe("a lock that was given up without an answer", () => {
  it("is removed as soon as the store is back, though its writing landed only then", async () => {
    const { stage, weather, land } = await givenUp();
    await stage.pass(20 * SECOND_MS);
    weather.isAway = false;
    land();
    await stage.pass(SECOND_MS);
    expect(stage.leftovers("a")).toEqual([]);
  });

  it("is removed when it lands later than that, and when it lands once more", async () => {
    const { stage, weather, land } = await givenUp();
    weather.isAway = false;
    await stage.pass(2 * SECOND_MS);
    land();
    await stage.pass(2 * SECOND_MS);
    expect(stage.leftovers("a")).toEqual([]);
    land();
    await stage.pass(8 * SECOND_MS);
    expect(stage.leftovers("a")).toEqual([]);
  });

  it("is not taken for another's, which stays", async () => {
    const { stage, weather } = await givenUp();
    weather.isAway = false;
    const value = { lockId: "another", instance: "there", notAfterMs: stage.nowMs + HOUR_MS };
    const writes = [{ put: LOCK, value }];
    stage.store.writeNow({ nonce: "another", expect: [], writes, events: [], reads: [] });
    await stage.pass(2 * MINUTE_MS);
    expect(stage.leftovers("a")).toEqual(["lock"]);
  });

  it("is removed, too, when it was had and could not be given back", async () => {
    const { stage, weather } = await stageOf();
    stage.journal.reserving.fail(() => new KeyturnError("STATE_DISK_FULL", "no room"));
    stage.sealer.trouble.hang();
    const asked = stage.get("a");
    await stage.pass(SECOND_MS);
    weather.isAway = true;
    stage.sealer.trouble.end();
    expect(await stage.within(SECOND_MS, asked)).toMatchObject({ reason: "STATE_DISK_FULL" });
    expect(stage.reports).toContain("lock not released");
    await stage.pass(20 * SECOND_MS);
    expect(stage.leftovers("a")).toEqual(["lock"]);
    weather.isAway = false;
    await stage.pass(SECOND_MS);
    expect(stage.leftovers("a")).toEqual([]);
  });

  it("is looked for no longer than a minute, and not after the end of the sidecar", async () => {
    const { stage, weather } = await givenUp();
    const looks = async (ms: number) => {
      const before = stage.storeCalls.read;
      await stage.pass(ms);
      return stage.storeCalls.read - before;
    };
    weather.isAway = false;
    expect(await looks(MINUTE_MS)).toBeGreaterThan(3);
    expect(await looks(HOUR_MS)).toBe(0);

    const ending = await givenUp();
    await ending.stage.within(SECOND_MS, ending.stage.heart.stop(SECOND_MS));
    ending.weather.isAway = false;
    ending.land();
    await ending.stage.pass(10 * SECOND_MS);
    expect(ending.stage.leftovers("a")).toEqual(["lock"]);
  });
});
