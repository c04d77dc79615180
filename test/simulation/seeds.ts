import { planOf } from "./generate.ts";
import type { Mutant } from "./mutants.ts";
import { shrink, storyOf } from "./shrink.ts";
import { simulate } from "./simulation.ts";

const STORY_LINES = 60;

/** Runs seeds `from` to `to`; returns the shrunk story of the first that breaks a promise, or undefined. */
export async function firstBroken(from: number, to: number): Promise<string | undefined> {
  for (let seed = from; seed <= to; seed += 1) {
    const plan = planOf(String(seed));
    const result = await simulate(plan);
    if (result.violation !== undefined) return storyOf(await shrink(plan, result), STORY_LINES);
  }
  return undefined;
}

/** The first seed from 1 to `most` that shows what `mutant` lacks, and the promise it broke; undefined: none. */
export async function firstCaught(
  mutant: Mutant,
  most: number,
): Promise<{ readonly seed: number; readonly invariant: string } | undefined> {
  for (let seed = 1; seed <= most; seed += 1) {
    const { violation } = await simulate(planOf(String(seed)), mutant);
    if (violation !== undefined) return { seed, invariant: violation.invariant };
  }
  return undefined;
}
