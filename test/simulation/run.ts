import { parseArgs } from "node:util";
import { planOf } from "./generate.ts";
import { MUTANTS } from "./mutants.ts";
import { shrink, storyOf } from "./shrink.ts";
import { simulate } from "./simulation.ts";

const USAGE = `npm run simulation -- [--from SEED] [--seeds N] [--mutant "the hold"] [--story LINES]
Runs seed after seed until it is told to stop (Ctrl-C), N have run, or one breaks a promise.
--mutant takes a precaution away first; --story prints what happened even when all went well.`;

const { values } = parseArgs({
  options: {
    from: { type: "string", default: "1" },
    seeds: { type: "string", default: "Infinity" },
    mutant: { type: "string" },
    story: { type: "string", default: "0" },
    help: { type: "boolean", default: false },
  },
});

let told = false;
process.once("SIGINT", () => {
  told = true;
});

const coverage = new Map<string, { seeds: number; times: number }>();
let runs = 0;
let steps = 0;
let virtualMs = 0;
const startedAtMs = performance.now();

function cover(of: ReadonlyMap<string, number>): void {
  for (const [what, times] of of) {
    const sum = coverage.get(what) ?? { seeds: 0, times: 0 };
    coverage.set(what, { seeds: sum.seeds + 1, times: sum.times + times });
  }
}

function report(): string {
  const lines = [...coverage]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([what, { seeds, times }]) => `${String(seeds).padStart(8)} ${String(times).padStart(9)}  ${what}`);
  return ["   seeds     times  what was seen", ...lines].join("\n");
}

function progress(): string {
  const seconds = (performance.now() - startedAtMs) / 1000;
  const hours = virtualMs / 3_600_000;
  return `${runs} seeds, ${steps} events, ${hours.toFixed(0)} virtual hours in ${seconds.toFixed(0)} s`;
}

async function main(): Promise<number> {
  const mutant = values.mutant === undefined ? undefined : MUTANTS[values.mutant];
  if (values.help || (values.mutant !== undefined && mutant === undefined)) {
    console.log(`${USAGE}\nmutants: ${Object.keys(MUTANTS).join(", ")}`);
    return values.help ? 0 : 2;
  }
  const from = Number(values.from);
  const lines = Number(values.story);
  let saidAtMs = startedAtMs;
  for (let seed = from; seed < from + Number(values.seeds) && !told; seed += 1) {
    const plan = planOf(String(seed));
    const result = await simulate(plan, mutant);
    runs += 1;
    steps += result.steps;
    virtualMs += result.virtualMs;
    cover(result.coverage);
    if (result.violation !== undefined) {
      console.log(`seed ${seed} fails; shrinking`);
      console.log(storyOf(await shrink(plan, result, mutant), Math.max(lines, 80)));
      return 1;
    }
    if (lines > 0) console.log(storyOf({ plan, result }, lines));
    if (performance.now() - saidAtMs < 10_000) continue;
    saidAtMs = performance.now();
    console.log(progress());
  }
  console.log(`${report()}\n${progress()}, none broke a promise`);
  return 0;
}

process.exitCode = await main();
