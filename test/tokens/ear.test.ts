import { expect, it } from "vitest";
import { openEar } from "../../src/tokens/ear.ts";

/** Each sleep lasts until `wake`. */
function sleeper() {
  const sleeps: { readonly ms: number; readonly wake: () => void }[] = [];
  const sleep = (ms: number, signal?: AbortSignal) =>
    new Promise<void>((resolve, reject) => {
      sleeps.push({ ms, wake: resolve });
      signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
    });
  return { sleeps, clock: { now: () => 0, boot: () => 0, sleep } };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

it("listens for one more turn when its time is up, so that what arrived while the process stood still is heard", async () => {
  const { sleeps, clock } = sleeper();
  const ear = openEar(clock);
  sleeps[0]?.wake();
  await turn();
  expect(ear.signal.aborted).toBe(false);
  sleeps[1]?.wake();
  await turn();
  expect([ear.signal.aborted, sleeps.map(({ ms }) => ms)]).toEqual([true, [60_000, 1]]);
});

it("is closed without a word once it has heard", async () => {
  const { sleeps, clock } = sleeper();
  const ear = openEar(clock);
  ear.close();
  await turn();
  expect([ear.signal.aborted, sleeps.length]).toEqual([false, 1]);
});
