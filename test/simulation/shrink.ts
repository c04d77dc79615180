import type { Mutant } from "./mutants.ts";
import type { Plan, Shape } from "./plan.ts";
import { type Result, simulate } from "./simulation.ts";

const MOST_RUNS = 400;

/** The smallest plan found that still breaks the same promise. */
export interface Shrunk {
  readonly plan: Plan;
  readonly result: Result;
}

/** Leaves out steps, first many at once and then one by one, then sidecars and accounts, while it still fails. */
export async function shrink(plan: Plan, result: Result, mutant?: Mutant): Promise<Shrunk> {
  const broken = result.violation?.invariant;
  let best: Shrunk = { plan, result };
  let runs = 0;
  const tried = async (candidate: Plan): Promise<boolean> => {
    if (runs >= MOST_RUNS) return false;
    runs += 1;
    const next = await simulate(candidate, mutant);
    if (next.violation?.invariant !== broken) return false;
    best = { plan: candidate, result: next };
    return true;
  };
  for (let size = Math.ceil(plan.steps.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let at = 0; at < best.plan.steps.length; ) {
      const steps = best.plan.steps.filter((_, n) => n < at || n >= at + size);
      if (!(await tried({ ...best.plan, steps }))) at += size;
    }
  }
  for (const smaller of smallerShapes(best.plan.shape))
    await tried({ ...best.plan, shape: smaller(best.plan.shape) });
  return best;
}

function smallerShapes(shape: Shape): readonly ((of: Shape) => Shape)[] {
  const fewerSidecars = (of: Shape): Shape => ({ ...of, sidecars: Math.max(1, of.sidecars - 1) });
  const fewerAccounts = (of: Shape): Shape => ({ ...of, accounts: Math.max(1, of.accounts - 1) });
  return [
    ...Array.from({ length: shape.accounts - 1 }, () => fewerAccounts),
    ...Array.from({ length: shape.sidecars - 1 }, () => fewerSidecars),
  ];
}

/** What a person reads first: what was broken, what it took, and what happened. */
export function storyOf({ plan, result }: Shrunk, lines: number): string {
  return [
    `seed ${plan.seed} breaks: ${result.violation?.message ?? "nothing"}`,
    `shape ${JSON.stringify(plan.shape)}`,
    ...plan.steps.map(({ atMs, ...step }) => `  at ${(atMs / 1000).toFixed(3)} s ${JSON.stringify(step)}`),
    "what happened last:",
    ...result.story.slice(-lines),
  ].join("\n");
}
