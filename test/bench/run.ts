import { cpus, release, totalmem } from "node:os";
import { parseArgs } from "node:util";
import { accountsBenchmark } from "./accounts.ts";
import { Bench, type Benchmark, type Size } from "./bench.ts";
import { buildBundles } from "./bundles.ts";
import { checkBenchmark } from "./check.ts";
import { clusterBenchmark } from "./cluster.ts";
import { clusterAccountsBenchmark } from "./cluster-accounts.ts";
import { coldStartBenchmark } from "./cold-start.ts";
import { envoyBenchmark } from "./envoy.ts";
import { eventLoopBenchmark } from "./event-loop.ts";
import { type Results, table } from "./figure.ts";
import { getTokenBenchmark } from "./get-token.ts";
import { httpBenchmark } from "./http.ts";
import { importBenchmark } from "./import.ts";
import { kekBenchmark } from "./kek.ts";
import { memoryBenchmark } from "./memory.ts";
import { providerFilesBenchmark } from "./provider-files.ts";
import { proxyBenchmark } from "./proxy.ts";
import { readingsBenchmark } from "./readings.ts";
import { refreshesBenchmark } from "./refreshes.ts";
import { waitersBenchmark } from "./waiters.ts";
import { watchersBenchmark } from "./watchers.ts";

const ALL: readonly Benchmark[] = [
  getTokenBenchmark,
  checkBenchmark,
  envoyBenchmark,
  httpBenchmark,
  waitersBenchmark,
  eventLoopBenchmark,
  coldStartBenchmark,
  memoryBenchmark,
  accountsBenchmark,
  refreshesBenchmark,
  clusterBenchmark,
  clusterAccountsBenchmark,
  importBenchmark,
  watchersBenchmark,
  kekBenchmark,
  providerFilesBenchmark,
  readingsBenchmark,
  proxyBenchmark,
];

const { values } = parseArgs({
  options: {
    only: { type: "string", multiple: true },
    json: { type: "boolean", default: false },
    accounts: { type: "string" },
    within: { type: "string" },
  },
});
const size: Size = {
  ...(values.accounts === undefined ? {} : { accounts: Number(values.accounts) }),
  ...(values.within === undefined ? {} : { withinMs: Number(values.within) * 1_000 }),
};
const { json, only = ALL.map(({ name }) => name) } = values;
const unknown = only.filter((name) => ALL.every((each) => each.name !== name));
if (unknown.length > 0) {
  process.stderr.write(
    `no benchmark ${unknown.join(", ")}; there are ${ALL.map(({ name }) => name).join(", ")}\n`,
  );
  process.exit(2);
}

const machine = [
  `${cpus().length} × ${cpus()[0]?.model.trim() ?? "unknown processor"}`,
  `${Math.round(totalmem() / 2 ** 30)} GiB`,
  `${process.platform} ${release()}`,
  `Node ${process.version}`,
].join(", ");
if (!json) process.stdout.write(`${machine}\n`);

const bundles = await buildBundles();
try {
  for (const benchmark of ALL.filter(({ name }) => only.includes(name))) {
    const results = await once(benchmark);
    process.stdout.write(json ? `${JSON.stringify({ machine, ...results })}\n` : text(results));
  }
} finally {
  bundles.remove();
}

async function once({ name, what, run }: Benchmark): Promise<Results> {
  const startMs = performance.now();
  const bench = new Bench(bundles, size);
  try {
    const figures = await run(bench);
    return { benchmark: name, what, seconds: Math.round((performance.now() - startMs) / 1_000), figures };
  } finally {
    await bench.end();
  }
}

function text({ benchmark, what, seconds, figures }: Results): string {
  return `\n## ${benchmark}\n\n${what} (${seconds} s)\n\n${table(figures)}\n`;
}
