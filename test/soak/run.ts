import { parseArgs } from "node:util";
import { Random } from "../simulation/random.ts";
import { MUTANTS } from "./mutants.ts";
import { soak } from "./soak.ts";

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "300" },
    sidecars: { type: "string", default: "10" },
    accounts: { type: "string", default: "200" },
    seed: { type: "string", default: String(Date.now()) },
    mutant: { type: "string" },
  },
});
const { mutant, seed } = values;
if (mutant !== undefined && MUTANTS[mutant] === undefined) {
  process.stderr.write(`no mutant ${mutant}; there are ${Object.keys(MUTANTS).join(", ")}\n`);
  process.exit(2);
}

const say = (line: string) => process.stdout.write(`${line}\n`);
say(`seed ${seed}`);
const random = new Random(seed);
const { violations, lostFamilies, mostUsed, troubles, figures, answers, lastAnswers } = await soak({
  runMs: Number(values.seconds) * 1_000,
  sidecars: Number(values.sidecars),
  accounts: Number(values.accounts),
  lifetimeMs: 10_000,
  callsPerSecond: 40,
  freezeMs: 45_000,
  faults: 1,
  random: () => random.next(),
  ...(mutant === undefined ? {} : { mutant }),
  say,
});
const inTheEnd = Object.fromEntries(
  [...Map.groupBy(lastAnswers, ({ answer }) => answer)].map(([answer, all]) => [answer, all.length]),
);
say(JSON.stringify({ figures, troubles, mostUsed, answers, inTheEnd }, undefined, 2));
say(
  `${lostFamilies.length} grants lost to answers that nobody could keep: ${lostFamilies.map(({ accountId }) => accountId).join(", ")}`,
);
for (const violation of violations) say(`BROKEN ${violation}`);
say(violations.length === 0 ? "Every promise was kept." : `${violations.length} violations.`);
process.exitCode = violations.length === 0 ? 0 : 1;
