import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { systemClock } from "../../src/clock.ts";
import { openEtcdStore } from "../../src/store/etcd/open.ts";
import { eventsUnder, rootOf } from "../../src/store/keys.ts";
import { settle } from "../../src/tokens/settle.ts";
import { startEtcd } from "../backends/etcd.ts";
import { event, transaction } from "../store/samples.ts";
import type { Benchmark } from "./bench.ts";
import { cpuMsOf } from "./cluster-stage.ts";
import { median, quantile, spread } from "./rounds.ts";

const WATCHERS = 200;
/** One alone would measure itself. */
const PROCESSES = 4;
const PER_SECOND = 200;
const SECONDS = 10;
const PATIENCE_MS = 30_000;
const ENVIRONMENT = "bench";

/** What the one feed costs etcd, and how late the last sidecar hears. */
export const watchersBenchmark: Benchmark = {
  name: "watchers",
  what: `${WATCHERS} sidecars' watches of the feed, from ${PROCESSES} processes; ${PER_SECOND} events a second for ${SECONDS} s.`,
  async run(bench) {
    const clock = systemClock();
    const etcd = await startEtcd({ isDurable: true });
    bench.endsWith(() => etcd.stop());
    const access = { endpoints: etcd.urls, tls: undefined, login: undefined };
    const writer = await openEtcdStore({ access, environment: ENVIRONMENT, clock });
    bench.endsWith(() => writer.close());
    const log = rootOf(ENVIRONMENT) + eventsUnder();
    const { storeRevision } = await writer.store.read([]);
    const heardAtMs = new Map<string, number[]>();
    const program = join(import.meta.dirname, "feed-watchers.ts");
    const args = [program, etcd.only.url, log, String(storeRevision), String(WATCHERS / PROCESSES)];
    const watching = Array.from({ length: PROCESSES }, () => {
      const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
      bench.endsWith(() => void child.kill("SIGKILL"));
      const ready = Promise.withResolvers<void>();
      createInterface(child.stdout).on("line", (line) => {
        if (line === "ready") return ready.resolve();
        const [key = "", atMs] = line.split(" ");
        heardAtMs.set(key, [...(heardAtMs.get(key) ?? []), Number(atMs)]);
      });
      return ready.promise;
    });
    await Promise.all(watching);

    const sentAtMs = new Map<string, number>();
    const cpuBefore = cpuMsOf(etcd.only.pid);
    const startMs = performance.now();
    const writes: Promise<unknown>[] = [];
    for (let n = 0; n < PER_SECOND * SECONDS; n += 1) {
      const wait = startMs + (n * 1_000) / PER_SECOND - performance.now();
      if (wait > 0) await delay(wait);
      const of = transaction({ events: [event("feed:slot_changed")] });
      sentAtMs.set(of.nonce, Date.now());
      writes.push(settle({ store: writer.store, clock }, of, clock.boot() + PATIENCE_MS));
    }
    await Promise.all(writes);
    const tookMs = performance.now() - startMs;
    const cpuMs = cpuMsOf(etcd.only.pid) - cpuBefore;
    const byAll = () => [...heardAtMs].filter(([, times]) => times.length === PROCESSES);
    const untilMs = performance.now() + PATIENCE_MS;
    while (byAll().length < sentAtMs.size && performance.now() < untilMs) await delay(50);
    const delays = byAll().map(
      ([key, times]) => Math.max(...times) - (sentAtMs.get(nonceOf(key)) ?? Number.NaN),
    );
    return [
      {
        name: "events that every watch heard",
        value: delays.length / sentAtMs.size,
        unit: "",
        aim: { atLeast: 1 },
        note: `${sentAtMs.size} events in ${(tookMs / 1_000).toFixed(1)} s`,
      },
      {
        name: "from sending to the last watch, median",
        value: median(delays),
        unit: "ms",
        note: spread(delays, 0),
      },
      { name: "from sending to the last watch, p99", value: quantile(delays, 0.99), unit: "ms" },
      { name: "etcd's share of a core", value: cpuMs / tookMs, unit: "" },
    ];
  },
};

/** `…/<operation>/<index>`. */
function nonceOf(path: string): string {
  return decodeURIComponent(path.split("/").at(-2) ?? "");
}
