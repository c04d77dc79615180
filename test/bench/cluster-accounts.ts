import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { systemClock } from "../../src/clock.ts";
import { openEtcdStore } from "../../src/store/etcd/open.ts";
import type { Etcd } from "../backends/etcd.ts";
import type { Benchmark } from "./bench.ts";
import { clusterOf, cpuMsOf, rssOf } from "./cluster-stage.ts";
import { seedAccounts } from "./seed.ts";
import { ServerProcess } from "./server-process.ts";

const ACCOUNTS = 100_000;
/** The tokens end one after the other over so long. */
const WITHIN_MS = 600_000;
/** What storing an account takes at the most; no token ends before all are stored. */
const SEEDING_MS = 4;
const CAP = 64;
const MIB = 2 ** 20;

/** A whole fleet's tokens in ten minutes. */
export const clusterAccountsBenchmark: Benchmark = {
  name: "cluster-accounts",
  what: `${ACCOUNTS} accounts in etcd whose tokens all end inside ${WITHIN_MS / 60_000} minutes, kept fresh by three sidecars.`,
  async run(bench) {
    const { etcd, sidecars, set } = await clusterOf(bench, 1);
    const [seeder] = sidecars;
    await seeder?.process.stop();
    const vendor = new ServerProcess([join(import.meta.dirname, "any-vendor.ts")], { isProbed: false });
    bench.endsWith(() => vendor.stop());
    const port = /\d+/.exec(await vendor.says(/port \d+(?=\n)/))?.[0] ?? "";
    const firstEndMs = Date.now() + 120_000 + ACCOUNTS * SEEDING_MS;
    const endsAtMs = (n: number) => firstEndMs + (n / ACCOUNTS) * WITHIN_MS;
    await seedAccounts(bench.folder(), ACCOUNTS, { set, port, endsAtMs, batch: 25 });

    const startMs = performance.now();
    const fleet = [await bench.sidecar({ set })];
    const readyMs = performance.now() - startMs;
    while (fleet.length < 3) fleet.push(await bench.sidecar({ set }));
    const pids = [...fleet.map(({ process }) => process.pid), etcd.only.pid];
    const cpuMs = pids.map(cpuMsOf);
    const sinceMs = performance.now();
    const stats = async () => {
      const answer = await fetch(`http://127.0.0.1:${port}/`);
      return (await answer.json()) as { readonly requests: number; readonly mostAtOnce: number };
    };
    const untilMs = firstEndMs + WITHIN_MS + 60_000;
    while ((await stats()).requests < ACCOUNTS && Date.now() < untilMs) await delay(1_000);
    const tookMs = performance.now() - sinceMs;
    const shares = pids.map((pid, n) => (cpuMsOf(pid) - (cpuMs[n] ?? 0)) / tookMs);
    const { requests, mostAtOnce } = await stats();
    const text = (of: readonly number[], digits: number) => of.map((one) => one.toFixed(digits)).join(", ");
    const memory = pids.map((pid) => rssOf(pid) / MIB);
    return [
      {
        name: "tokens that ended before their successor came",
        value: await lateIn(etcd, endsAtMs),
        unit: "",
        aim: { atMost: 0 },
      },
      { name: "token requests", value: requests, unit: "", note: `in ${(tookMs / 1_000).toFixed(0)} s` },
      { name: "most at once", value: mostAtOnce, unit: "", aim: { atMost: CAP } },
      { name: "start to ready", value: readyMs, unit: "ms", note: `with ${ACCOUNTS} accounts stored` },
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

/** Read from what is stored: the accounts whose token of today is younger than the end of the one before. */
async function lateIn(etcd: Etcd, endsAtMs: (n: number) => number): Promise<number> {
  const access = { endpoints: etcd.urls, tls: undefined, login: undefined };
  const opened = await openEtcdStore({ access, environment: "development", clock: systemClock() });
  try {
    let late = 0;
    for (let after: string | undefined = ""; after !== undefined; ) {
      const page: Awaited<ReturnType<typeof opened.store.scan<"account">>> = await opened.store.scan(
        "account",
        after,
        500,
      );
      for (const { value } of page.entries) {
        const slot = value.slots["default"];
        const isFresh =
          slot !== undefined && slot.generation > 1 && slot.issuedAtMs <= endsAtMs(Number(value.id.slice(5)));
        if (!isFresh) late += 1;
      }
      after = page.next;
    }
    return late;
  } finally {
    await opened.close();
  }
}

async function sizeOf(etcd: Etcd): Promise<number> {
  return Number((await etcd.call("maintenance/status", {}))["dbSize"]);
}
