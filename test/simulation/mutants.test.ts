import { describe, expect, it } from "vitest";
import { planOf } from "./generate.ts";
import { MUTANTS } from "./mutants.ts";
import { firstCaught } from "./seeds.ts";
import { shrink, storyOf } from "./shrink.ts";
import { simulate } from "./simulation.ts";

/** The table in README.md says how many it took. */
const MOST_SEEDS = 300;
const TIMEOUT_MS = 120_000;

describe("the simulation", () => {
  it.each(Object.entries(MUTANTS))(
    "notices that %s is missing",
    async (_name, mutant) => {
      expect(await firstCaught(mutant, MOST_SEEDS)).toBeDefined();
    },
    TIMEOUT_MS,
  );

  it(
    "tells a failing seed's story without the steps that it did not take",
    async () => {
      const mutant = MUTANTS["the hold"];
      const caught = mutant === undefined ? undefined : await firstCaught(mutant, MOST_SEEDS);
      const plan = planOf(String(caught?.seed));
      const shrunk = await shrink(plan, await simulate(plan, mutant), mutant);
      expect(shrunk.result.violation?.invariant).toBe(caught?.invariant);
      expect(shrunk.plan.steps.length).toBeLessThan(plan.steps.length / 2);
      expect(storyOf(shrunk, 10)).toContain(`seed ${caught?.seed} breaks: ${caught?.invariant}`);
    },
    TIMEOUT_MS,
  );
});
