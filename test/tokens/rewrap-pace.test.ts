import { describe, expect, it } from "vitest";
import { Rewrap, type RewrapProgress, type Rewrapper } from "../../src/tokens/rewrap.ts";
import { HOUR_MS, MINUTE_MS, SECOND_MS, Stage } from "./stage.ts";

const OPERATOR = { caller: "operator", purpose: "test" };
const ACCOUNTS = 300;
// With the client, and the key of content marks.
const SEALED = ACCOUNTS + 2;
const KEK = {
  id: "fake:/",
  versions: async () => ({ newest: 2, versions: [] }),
};

/** Accounts under the old version of a KEK that has a newer one; `calls` are the times at which it was asked to rewrap. */
async function stageOf() {
  const stage = await Stage.open();
  for (let n = 0; n < ACCOUNTS; n += 1) await stage.connect(`a-${n}`, HOUR_MS);
  stage.sealer.kekVersion = 2;
  const calls: number[] = [];
  const rewrapper: Rewrapper = {
    prepare: (context) => stage.sealer.prepare(context),
    open: (context, sealed) => stage.sealer.open(context, sealed),
    rewrap: async (sealed) => {
      calls.push(stage.time.nowMs);
      return stage.sealer.rewrap(sealed);
    },
  };
  const run = async (maxPerSecond: number, signal = new AbortController().signal) => {
    const told: RewrapProgress[] = [];
    const rewrap = new Rewrap(stage.world, KEK, rewrapper);
    for await (const progress of rewrap.run(OPERATOR, maxPerSecond, signal)) told.push(progress);
    return told;
  };
  return { stage, calls, run };
}

/** The most of them in any second, and the fewest in one that ends before the last of them. */
function perSecond(atMs: readonly number[]): { readonly most: number; readonly fewest: number } {
  const last = atMs.at(-1) ?? 0;
  const seconds = atMs.map((fromMs) => ({
    count: atMs.filter((at) => at >= fromMs && at < fromMs + SECOND_MS).length,
    isWhole: fromMs + SECOND_MS <= last,
  }));
  const whole = seconds.filter(({ isWhole }) => isWhole);
  return {
    most: Math.max(...seconds.map(({ count }) => count)),
    fewest: Math.min(...whole.map(({ count }) => count)),
  };
}

describe("a rewrap with a cap", () => {
  it("asks the KEK so many times a second, not one more in any second and no fewer", async () => {
    for (const cap of [7, 50]) {
      const { stage, calls, run } = await stageOf();
      const told = await stage.within(MINUTE_MS, run(cap));
      expect(told.at(-1)).toMatchObject({ finished: true, done: SEALED, total: SEALED });
      expect(calls).toHaveLength(SEALED);
      const { most, fewest } = perSecond(calls);
      expect(most).toBeLessThanOrEqual(cap + 1);
      expect(fewest).toBeGreaterThanOrEqual(cap - 1);
    }
  });

  it("asks as fast as it goes when the cap is 0", async () => {
    const { stage, calls, run } = await stageOf();
    const startedAtMs = stage.time.nowMs;
    await stage.within(MINUTE_MS, run(0));
    expect(calls).toHaveLength(SEALED);
    expect(stage.time.nowMs - startedAtMs).toBeLessThan(SECOND_MS);
  });

  it("keeps to it when it goes on after a stop, and asks for nothing again that is behind it", async () => {
    const { stage, calls, run } = await stageOf();
    const stop = new AbortController();
    const stopped = run(50, stop.signal).catch((error: unknown) => error);
    // Past the first page of 200, in the midst of the second.
    await stage.pass(5 * SECOND_MS);
    stop.abort(new Error("stopped"));
    expect(await stage.within(MINUTE_MS, stopped)).toMatchObject({ message: "stopped" });
    const before = calls.length;
    expect(before).toBeGreaterThan(200);
    expect(before).toBeLessThan(SEALED);

    const told = await stage.within(MINUTE_MS, run(50));
    expect(told[0]).toMatchObject({ done: 200, total: SEALED, finished: false });
    expect(told.at(-1)).toMatchObject({ finished: true, done: SEALED });
    expect(calls).toHaveLength(SEALED);
    expect(perSecond(calls.slice(before)).most).toBeLessThanOrEqual(51);
  });
});
