import { mkdirSync } from "node:fs";
import type { Bench, Benchmark, Sidecar } from "./bench.ts";
import { answered, frameOf, type Line, load } from "./load.ts";
import { alternate, median, ratios, spread } from "./rounds.ts";
import { seedAccounts } from "./seed.ts";

const FEW = 1_000;
const MANY = 100_000;
const ASKED = 1_000;
const ROUNDS = 12;
const SLICE_MS = 500;
const MIB = 2 ** 20;

interface Loaded {
  readonly sidecar: Sidecar;
  readonly readyMs: number;
  readonly firstTokenMs: number;
  readonly scheduleMs: number;
  readonly heapBytes: number;
  readonly loopMaxMs: number;
}

/** What it costs to have accounts that nobody asks for. */
export const accountsBenchmark: Benchmark = {
  name: "accounts",
  what: `${MANY} stored accounts against ${FEW}: start, memory of the schedule, and GetToken of ${ASKED} of them.`,
  async run(bench) {
    const few = await loaded(bench, FEW);
    const many = await loaded(bench, MANY);
    const contestant = ({ sidecar }: Loaded, count: number) => {
      const lines = bench.lines(sidecar.data, 4);
      const frames = Array.from({ length: ASKED }, (_, n) =>
        frameOf({ accountId: `acct-${n * (count / ASKED)}` }),
      );
      return () => slice(sidecar, lines, frames);
    };
    const results = await alternate(ROUNDS, { few: contestant(few, FEW), many: contestant(many, MANY) });
    const byRate = ratios(results.few, results.many, ({ perSecond }) => perSecond);
    const byCpu = ratios(results.many, results.few, ({ cpuMicros }) => cpuMicros);
    const aim = { atMost: 1.1 };
    return [
      { name: "GetToken time, many / few", value: median(byRate), unit: "", aim, note: spread(byRate) },
      { name: "GetToken CPU, many / few", value: median(byCpu), unit: "", aim, note: spread(byCpu) },
      {
        name: "schedule memory per account",
        value: (many.heapBytes - few.heapBytes) / (MANY - FEW),
        unit: "bytes",
        note: `heap ${(few.heapBytes / MIB).toFixed(0)} → ${(many.heapBytes / MIB).toFixed(0)} MiB after a collection`,
      },
      {
        name: "start to ready",
        value: many.readyMs,
        unit: "ms",
        note: `${few.readyMs.toFixed(0)} ms with ${FEW}`,
      },
      {
        name: "start to first GetToken",
        value: many.firstTokenMs,
        unit: "ms",
        note: `${few.firstTokenMs.toFixed(0)} ms with ${FEW}`,
      },
      {
        name: "start to schedule loaded",
        value: many.scheduleMs,
        unit: "ms",
        note: `longest block ${many.loopMaxMs.toFixed(0)} ms`,
      },
    ];
  },
};

async function loaded(bench: Bench, count: number): Promise<Loaded> {
  const stateDir = bench.folder();
  mkdirSync(stateDir, { recursive: true });
  await seedAccounts(stateDir, count);
  const sidecar = await bench.sidecar({ stateDir, nodeFlags: ["--expose-gc"] });
  const { process } = sidecar;
  const readyMs = performance.now() - process.startedMs;
  await process.ask("watch");
  const [line] = bench.lines(sidecar.data, 1);
  if (line !== undefined) await answered(line, frameOf({ accountId: "acct-0" }));
  const firstTokenMs = performance.now() - process.startedMs;
  const scheduleMs = await idleAtMs(sidecar);
  const { loopMaxMs } = await process.ask("usage");
  const { heapUsedBytes } = await process.ask("collect");
  return { sidecar, readyMs, firstTokenMs, scheduleMs, heapBytes: heapUsedBytes, loopMaxMs };
}

/** When the process began to do next to nothing, in milliseconds since its start. */
async function idleAtMs({ process }: Sidecar): Promise<number> {
  const everyMs = 50;
  let quiet = 0;
  let before = (await process.ask("usage")).cpuMicros;
  while (quiet < 6) {
    await new Promise((resolve) => setTimeout(resolve, everyMs));
    const now = (await process.ask("usage")).cpuMicros;
    quiet = now - before < everyMs * 150 ? quiet + 1 : 0;
    before = now;
  }
  return performance.now() - process.startedMs - quiet * everyMs;
}

async function slice({ process }: Sidecar, lines: readonly Line[], frames: readonly Buffer[]) {
  const before = await process.ask("usage");
  const { requests, elapsedMs } = await load(lines, frames, { inFlight: 64, forMs: SLICE_MS });
  const after = await process.ask("usage");
  return {
    perSecond: (requests * 1_000) / elapsedMs,
    cpuMicros: (after.cpuMicros - before.cpuMicros) / requests,
  };
}
