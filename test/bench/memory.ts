import { readFileSync } from "node:fs";
import type { Benchmark } from "./bench.ts";
import { frameOf, load } from "./load.ts";
import { median } from "./rounds.ts";

const ACCOUNTS = 500;
const SETTLE_MS = 3_000;
const LOAD_MS = 10_000;
const SAMPLES = 20;
const MIB = 2 ** 20;

/** As an operator sees it: resident memory of the shipped command, no probe and no flag. */
export const memoryBenchmark: Benchmark = {
  name: "memory",
  what: `Resident memory of the shipped command: idle after a start, then with ${ACCOUNTS} accounts at 64 in flight.`,
  async run(bench) {
    const stateDir = bench.folder();
    const first = await bench.sidecarWithClient({ stateDir, isProbed: false });
    const vendor = await bench.vendor();
    const ids = Array.from({ length: ACCOUNTS }, (_, n) => `acct-${n}`);
    await Promise.all(ids.map((id) => vendor.connect(first, id, { accessTokenLength: 600 })));
    await first.process.stop();

    const sidecar = await bench.sidecar({ stateDir, isProbed: false });
    await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
    const idle = residentMiB(sidecar.process.pid, "VmRSS");
    const frames = ids.map((accountId) => frameOf({ accountId }));
    const samples: number[] = [];
    const timer = setInterval(
      () => samples.push(residentMiB(sidecar.process.pid, "VmRSS")),
      LOAD_MS / SAMPLES,
    );
    await load(bench.lines(sidecar.data, 8), frames, { inFlight: 64, forMs: LOAD_MS });
    clearInterval(timer);
    return [
      { name: "RSS idle", value: idle, unit: "MiB", aim: { atMost: 80 } },
      { name: "RSS loaded, median of 10 s", value: median(samples), unit: "MiB", aim: { atMost: 150 } },
      { name: "RSS peak", value: residentMiB(sidecar.process.pid, "VmHWM"), unit: "MiB" },
    ];
  },
};

function residentMiB(pid: number, field: "VmRSS" | "VmHWM"): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return (Number(new RegExp(`${field}:\\s+(\\d+) kB`).exec(status)?.[1]) * 1_024) / MIB;
}
