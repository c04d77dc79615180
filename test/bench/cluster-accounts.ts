import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { systemClock } from "../../src/clock.ts";
import { openEtcdStore } from "../../src/store/etcd/open.ts";
import type { Page } from "../../src/tokens/store.ts";
import type { Etcd } from "../backends/etcd.ts";
import type { Seen } from "./any-vendor.ts";
import type { Benchmark } from "./bench.ts";
import { clusterOf, cpuMsOf, rssOf } from "./cluster-stage.ts";
import { median, quantile } from "./rounds.ts";
import { seedAccounts } from "./seed.ts";
import { ServerProcess } from "./server-process.ts";

const ACCOUNTS = 100_000;
const WITHIN_MS = 600_000;
/** What storing an account takes at the most; no token ends before all are stored. */
const SEEDING_MS = 4;
const CAP = 64;
/** How long the provider takes to answer. */
const ANSWER_MS = 50;
const MIB = 2 ** 20;

/** A whole fleet's tokens in ten minutes; `--accounts` and `--within` make it another fleet. */
export const clusterAccountsBenchmark: Benchmark = {
  name: "cluster-accounts",
  what: `Three sidecars keep accounts in etcd (fsync off) fresh: ${ACCOUNTS} whose tokens all end inside ${WITHIN_MS / 1_000} s, unless told another size.`,
  async run(bench) {
    const { accounts = ACCOUNTS, withinMs = WITHIN_MS } = bench.size;
    const { etcd, sidecars, set } = await clusterOf(bench, 1);
    const [seeder] = sidecars;
    await seeder?.process.stop();
    const program = [join(import.meta.dirname, "any-vendor.ts"), String(ANSWER_MS)];
    const vendor = new ServerProcess(program, { isProbed: false });
    bench.endsWith(() => vendor.stop());
    const port = /\d+/.exec(await vendor.says(/port \d+(?=\n)/))?.[0] ?? "";
    // The tokens end one after the other.
    const firstEndMs = Date.now() + 120_000 + accounts * SEEDING_MS;
    const endsAtMs = (n: number) => firstEndMs + (n / accounts) * withinMs;
    await seedAccounts(bench.folder(), accounts, { set, port, endsAtMs, batch: 25 });

    const startMs = performance.now();
    const fleet = [await bench.sidecar({ set })];
    const readyMs = performance.now() - startMs;
    while (fleet.length < 3) fleet.push(await bench.sidecar({ set }));
    const pids = [...fleet.map(({ process }) => process.pid), etcd.only.pid];
    const seen = async () => (await (await fetch(`http://127.0.0.1:${port}/`)).json()) as Seen;
    while ((await seen()).requests === 0 && Date.now() < firstEndMs) await delay(100);
    const cpuMs = pids.map(cpuMsOf);
    const sinceMs = performance.now();
    const untilMs = firstEndMs + withinMs + 60_000;
    while ((await seen()).requests < accounts && Date.now() < untilMs) await delay(1_000);
    const tookMs = performance.now() - sinceMs;
    const shares = pids.map((pid, n) => (cpuMsOf(pid) - (cpuMs[n] ?? 0)) / tookMs);
    // The last ones are being written down.
    await delay(2_000);
    const { requests, mostAtOnce, reused, busyMs } = await seen();
    const { late, leftMs } = await margins(etcd, endsAtMs);
    const text = (of: readonly number[], digits: number) => of.map((one) => one.toFixed(digits)).join(", ");
    const memory = pids.map((pid) => rssOf(pid) / MIB);
    return [
      {
        name: "tokens that ended before their successor came",
        value: late,
        unit: "",
        aim: { atMost: 0 },
        note: `of ${accounts}; every one had ${(quantile(leftMs, 0) / 1_000).toFixed(1)} s left at least, half of them ${(median(leftMs) / 1_000).toFixed(0)} s`,
      },
      {
        name: "refreshes per second",
        value: (requests * 1_000) / busyMs,
        unit: "",
        note: `${requests} in ${(busyMs / 1_000).toFixed(0)} s; ${((accounts * 1_000) / withinMs).toFixed(0)} tokens end in a second`,
      },
      { name: "refresh tokens sent twice", value: reused, unit: "", aim: { atMost: 0 } },
      {
        name: "most at once",
        value: mostAtOnce,
        unit: "",
        aim: { atMost: CAP },
        note: `the provider takes ${ANSWER_MS} ms`,
      },
      { name: "start to ready", value: readyMs, unit: "ms", note: `with ${accounts} accounts stored` },
      {
        name: "etcd's share of a core",
        value: shares.at(-1) ?? 0,
        unit: "",
        note: `the sidecars' ${text(shares.slice(0, -1), 2)}`,
      },
      {
        name: "etcd's memory",
        value: memory.at(-1) ?? 0,
        unit: "MiB",
        note: `the sidecars' ${text(memory.slice(0, -1), 0)} MiB`,
      },
      { name: "etcd's database", value: (await sizeOf(etcd)) / MIB, unit: "MiB" },
    ];
  },
};

/** Read from what is stored: what was left of each token when its successor was issued; late ones had nothing. */
async function margins(etcd: Etcd, endsAtMs: (n: number) => number) {
  const access = { endpoints: etcd.urls, tls: undefined, login: undefined };
  const opened = await openEtcdStore({ access, environment: "development", clock: systemClock() });
  try {
    let late = 0;
    const leftMs: number[] = [];
    for (let after: string | undefined = ""; after !== undefined; ) {
      const page: Page<"account"> = await opened.store.scan("account", after, 500);
      for (const { value } of page.entries) {
        const slot = value.slots["default"];
        const isRefreshed = slot !== undefined && slot.generation > 1;
        const left = isRefreshed ? endsAtMs(Number(value.id.slice(5))) - slot.issuedAtMs : 0;
        if (left > 0) leftMs.push(left);
        else late += 1;
      }
      after = page.next;
    }
    return { late, leftMs };
  } finally {
    await opened.close();
  }
}

async function sizeOf(etcd: Etcd): Promise<number> {
  return Number((await etcd.call("maintenance/status", {}))["dbSize"]);
}
