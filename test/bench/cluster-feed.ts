import { spawn } from "node:child_process";
import { join } from "node:path";
import { Etcd3 } from "etcd3";
import { startEtcd } from "../backends/etcd.ts";
import type { Benchmark } from "./bench.ts";
import { cpuMsOf } from "./cluster-stage.ts";
import { quantile } from "./rounds.ts";

const WATCHERS = 200;
const EVENTS_PER_SECOND = 200;
const SECONDS = 10;
const EVENT_BYTES = 300;
const PREFIX = "/bench/events/";
/** The watchers' processes: one alone would measure itself. */
const PROCESSES = 4;

/** What etcd has to do so that every sidecar hears of everything. */
export const clusterFeedBenchmark: Benchmark = {
  name: "cluster-feed",
  what: `${WATCHERS} clients watch the feed while ${EVENTS_PER_SECOND} events a second are written, for ${SECONDS} s.`,
  async run(bench) {
    const etcd = await startEtcd();
    bench.endsWith(() => etcd.stop());
    const program = join(import.meta.dirname, "feed-watchers.ts");
    const args = [program, etcd.only.url, PREFIX, String(WATCHERS / PROCESSES)];
    const delays: number[] = [];
    const watching = Array.from({ length: PROCESSES }, () => {
      const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
      bench.endsWith(() => void child.kill("SIGKILL"));
      return new Promise<void>((ready) => {
        child.stdout.on("data", (chunk: Buffer) => {
          for (const line of chunk.toString().trim().split("\n")) {
            if (line === "ready") ready();
            else delays.push(Number(line));
          }
        });
      });
    });
    await Promise.all(watching);
    const writer = new Etcd3({ hosts: etcd.only.url });
    bench.endsWith(() => writer.close());
    const cpuMs = cpuMsOf(etcd.only.pid);
    const startMs = performance.now();
    const writes: Promise<unknown>[] = [];
    for (let n = 0; n < EVENTS_PER_SECOND * SECONDS; n += 1) {
      const dueMs = startMs + (n * 1_000) / EVENTS_PER_SECOND - performance.now();
      if (dueMs > 0) await new Promise((resolve) => setTimeout(resolve, dueMs));
      writes.push(
        writer
          .put(PREFIX + n)
          .value(String(Date.now()).padEnd(EVENT_BYTES, "x"))
          .exec(),
      );
    }
    await Promise.all(writes);
    const tookMs = performance.now() - startMs;
    const busyMs = cpuMsOf(etcd.only.pid) - cpuMs;
    const wanted = writes.length * PROCESSES;
    for (let waits = 0; delays.length < wanted && waits < 100; waits += 1) {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    if (delays.length !== wanted) throw new Error(`${delays.length} of ${wanted} events reached everybody`);
    return [
      { name: "etcd's share of a core", value: busyMs / tookMs, unit: "" },
      { name: "delay to the last watcher, p50", value: quantile(delays, 0.5), unit: "ms" },
      { name: "delay to the last watcher, p99", value: quantile(delays, 0.99), unit: "ms" },
    ];
  },
};
