import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { systemClock } from "../../src/clock.ts";
import { EtcdClient } from "../../src/store/etcd/client.ts";
import { Feed } from "../../src/store/etcd/feed.ts";
import { openEtcdStore } from "../../src/store/etcd/open.ts";
import { eventsUnder, rootOf } from "../../src/store/keys.ts";
import { settle } from "../../src/tokens/settle.ts";
import { startEtcd } from "../backends/etcd.ts";
import { event, transaction } from "../store/samples.ts";
import type { Benchmark } from "./bench.ts";
import { median, quantile, spread } from "./rounds.ts";

const WATCHERS = 200;
const PER_SECOND = 200;
const SECONDS = 8;
/** This one process plays all of them, and may itself be late. */
const PATIENCE_MS = 30_000;
const ENVIRONMENT = "bench";
/** Of `/proc/<pid>/stat`, which counts in hundredths of a second. */
const TICK_MS = 10;

/** What the one feed costs etcd, and how late the last sidecar hears. */
export const watchersBenchmark: Benchmark = {
  name: "watchers",
  what: `${WATCHERS} watches of the feed, as of so many sidecars, all in this one process; ${PER_SECOND} events a second for ${SECONDS} s.`,
  async run() {
    const clock = systemClock();
    await using etcd = await startEtcd({ isDurable: true });
    const access = { endpoints: etcd.urls, tls: undefined, login: undefined };
    const writer = await openEtcdStore({ access, environment: ENVIRONMENT, clock });
    const heard = new Map<string, { count: number; lastMs: number }>();
    const log = rootOf(ENVIRONMENT) + eventsUnder();
    const { storeRevision } = await writer.store.read([]);
    const missing = () => Promise.reject(new Error("nothing is compacted here"));
    const watching = await Promise.all(
      Array.from({ length: WATCHERS }, async () => {
        const client = await EtcdClient.load(access, clock, () => 0);
        const deps = {
          client,
          clock,
          log,
          readLog: missing,
          hasDropped: missing,
          tell: (rows: readonly { readonly key: string }[]) => {
            for (const row of rows) {
              const one = heard.get(row.key) ?? { count: 0, lastMs: 0 };
              heard.set(row.key, { count: one.count + 1, lastMs: performance.now() });
            }
          },
          onGap: () => undefined,
          onStands: () => undefined,
          onEnded: () => undefined,
          report: () => undefined,
        };
        const feed = new Feed(deps, storeRevision);
        await feed.open();
        return { client, feed };
      }),
    );
    const sentMs = new Map<string, number>();
    const cpuBefore = cpuMsOf(etcd.only.pid);
    const startMs = performance.now();
    const writes: Promise<unknown>[] = [];
    for (let n = 0; n < PER_SECOND * SECONDS; n += 1) {
      const wait = startMs + (n * 1_000) / PER_SECOND - performance.now();
      if (wait > 0) await delay(wait);
      const of = transaction({ events: [event("feed:slot_changed")] });
      sentMs.set(of.nonce, performance.now());
      writes.push(settle({ store: writer.store, clock }, of, clock.boot() + PATIENCE_MS));
    }
    await Promise.all(writes);
    const tookMs = performance.now() - startMs;
    const cpuMs = cpuMsOf(etcd.only.pid) - cpuBefore;
    await delay(1_000);
    const all = [...heard].filter(([, { count }]) => count === WATCHERS);
    const delays = all.map(([path, { lastMs }]) => lastMs - (sentMs.get(nonceOf(path)) ?? Number.NaN));
    for (const { client, feed } of watching) {
      await feed.close();
      client.close();
    }
    await writer.close();
    return [
      {
        name: "events that every watch heard",
        value: all.length / sentMs.size,
        unit: "",
        aim: { atLeast: 1 },
        note: `${sentMs.size} events in ${(tookMs / 1_000).toFixed(1)} s`,
      },
      {
        name: "from sending to the last watch, median",
        value: median(delays),
        unit: "ms",
        note: `of this process, which hears ${WATCHERS * PER_SECOND} a second; ${spread(delays, 0)}`,
      },
      { name: "from sending to the last watch, p99", value: quantile(delays, 0.99), unit: "ms" },
      { name: "etcd's processor time", value: cpuMs / tookMs, unit: "processors" },
    ];
  },
};

/** `…/<operation>/<index>`. */
function nonceOf(path: string): string {
  return decodeURIComponent(path.split("/").at(-2) ?? "");
}

function cpuMsOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
}
