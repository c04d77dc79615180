import { readFileSync } from "node:fs";
import type { Bench, Benchmark } from "./bench.ts";
import { answered, frameOf, load } from "./load.ts";
import { median } from "./rounds.ts";

const ACCOUNTS = 500;
const SETTLE_MS = 3_000;
const LOAD_MS = 10_000;
const SAMPLES = 20;
const MIB = 2 ** 20;

/** As an operator sees it: resident memory of the shipped command, no probe, and of a server that does nothing. */
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

    const frames = ids.map((accountId) => frameOf({ accountId }));
    const sidecar = await bench.sidecar({ stateDir, isProbed: false });
    const ours = await residents(bench, sidecar.process.pid, sidecar.data, frames);
    const [line] = bench.lines(sidecar.data, 1);
    const [frame] = frames;
    if (line === undefined || frame === undefined) return [];
    const echo = await bench.plainEcho(await answered(line, frame));
    await sidecar.process.stop();
    const bare = await residents(bench, echo.process.pid, echo.data, frames);
    return [
      { name: "RSS idle", value: ours.idle, unit: "MiB", aim: { atMost: 80 } },
      { name: "RSS loaded, median of 10 s", value: ours.loaded, unit: "MiB", aim: { atMost: 150 } },
      { name: "RSS peak", value: ours.peak, unit: "MiB" },
      { name: "bare grpc-js and protobuf-es, idle", value: bare.idle, unit: "MiB" },
      { name: "bare grpc-js and protobuf-es, loaded", value: bare.loaded, unit: "MiB" },
    ];
  },
};

async function residents(bench: Bench, pid: number, data: string, frames: readonly Buffer[]) {
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
  const idle = residentMiB(pid, "VmRSS");
  const samples: number[] = [];
  const timer = setInterval(() => samples.push(residentMiB(pid, "VmRSS")), LOAD_MS / SAMPLES);
  await load(bench.lines(data, 8), frames, { inFlight: 64, forMs: LOAD_MS });
  clearInterval(timer);
  return { idle, loaded: median(samples), peak: residentMiB(pid, "VmHWM") };
}

function residentMiB(pid: number, field: "VmRSS" | "VmHWM"): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return (Number(new RegExp(`${field}:\\s+(\\d+) kB`).exec(status)?.[1]) * 1_024) / MIB;
}
