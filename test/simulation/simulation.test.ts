import { describe, expect, it } from "vitest";
import { planOf } from "./generate.ts";
import { firstBroken } from "./seeds.ts";
import { simulate } from "./simulation.ts";

const SEEDS = 1_500;
const AT_A_TIME = 100;
const TIMEOUT_MS = 120_000;

const slices = Array.from({ length: SEEDS / AT_A_TIME }, (_, n) => ({
  from: n * AT_A_TIME + 1,
  to: (n + 1) * AT_A_TIME,
}));

describe("several sidecars, one store, vendors that lie", () => {
  it.each(slices)(
    "keep every promise in the simulations $from to $to",
    async ({ from, to }) => {
      expect(await firstBroken(from, to)).toBeUndefined();
    },
    TIMEOUT_MS,
  );

  it("live through the same seed in the same way, event by event", async () => {
    for (const seed of ["7", "48", "294"]) {
      const [first, second] = [await simulate(planOf(seed)), await simulate(planOf(seed))];
      expect(second.hash).toBe(first.hash);
      expect(second.steps).toBe(first.steps);
    }
  });

  it("live through different seeds in different ways", async () => {
    const hashes = new Set<string>();
    for (let seed = 1; seed <= 20; seed += 1) hashes.add((await simulate(planOf(String(seed)))).hash);
    expect(hashes.size).toBe(20);
  });
});
