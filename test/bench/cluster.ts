import { join } from "node:path";
import { systemClock } from "../../src/clock.ts";
import { OAuthClientService } from "../../src/gen/keyturn/v1/oauth_client_service_pb.js";
import { openEtcdStore } from "../../src/store/etcd/open.ts";
import { type Key, key } from "../../src/tokens/records.ts";
import { capsReads, snapshotReads, standingReads } from "../../src/tokens/snapshot.ts";
import type { Store, Transaction } from "../../src/tokens/store.ts";
import { type Etcd, startEtcd } from "../backends/etcd.ts";
import { account, event, SAMPLES, transaction } from "../store/samples.ts";
import type { Bench, Benchmark } from "./bench.ts";
import { toFirstAnswer } from "./cold-start.ts";
import { frameOf, type Line } from "./load.ts";
import { asked, rejecting } from "./refreshes.ts";
import { alternate, median, quantile, ratios, spread } from "./rounds.ts";
import type { Vendor } from "./vendor.ts";

const IN_FLIGHT = 32;
const REFRESHES = 320;
const ROUNDS = 5;
const WAITS = 200;
const STARTS = 7;

/** Sidecars over etcd, each figure beside what that very etcd does bare. */
export const clusterBenchmark: Benchmark = {
  name: "cluster",
  what: "Sidecars over one etcd (fsync on): refreshes beside bare transactions of the same shape, waiters on another process, start.",
  async run(bench) {
    await using etcd = await startEtcd({ isDurable: true });
    const folder = bench.folder();
    const set = {
      "store.backend": "etcd",
      "store.endpoints": etcd.urls.join(","),
      "kek.keyring_file": join(folder, "keyring.json"),
      roles: "serve",
    };
    const one = await bench.sidecarWithClient({ set });
    const two = await bench.sidecar({ set });
    const vendor = await bench.vendor();
    await one.admin.call(OAuthClientService.method.putClient, {
      provider: "simulator",
      name: "main",
      clientId: "demo-client",
      caps: { maxConcurrent: IN_FLIGHT },
    });
    const lines = bench.lines(one.data, 8);
    const refreshes = await refreshesBesideBare(etcd, one, vendor, lines);
    const waits = await waitsElsewhere(one, vendor, [
      bench.lines(one.data, 1)[0],
      bench.lines(two.data, 1)[0],
    ]);
    return [...refreshes, ...waits, await coldStart(bench, one.stateDir, set, one.process)];
  },
};

type Sidecar = Awaited<ReturnType<Bench["sidecar"]>>;

async function refreshesBesideBare(etcd: Etcd, sidecar: Sidecar, vendor: Vendor, lines: readonly Line[]) {
  const access = { endpoints: etcd.urls, tls: undefined, login: undefined };
  const bare = await openEtcdStore({ access, environment: "bare", clock: systemClock() });
  let batch = 0;
  const results = await alternate(ROUNDS, {
    ours: async () => {
      batch += 1;
      const ids = Array.from({ length: REFRESHES }, (_, n) => `acct-${batch}-${n}`);
      const frames = await inLanes(ids, async (id) => {
        await vendor.connect(sidecar, id);
        return rejecting(lines[0], id);
      });
      return perSecond(REFRESHES, () =>
        Promise.all(frames.map((frame, n) => asked(lines[n % lines.length], frame))),
      );
    },
    bare: async () => {
      batch += 1;
      const ids = Array.from({ length: REFRESHES }, (_, n) => `bare-${batch}-${n}`);
      return perSecond(REFRESHES, () => inLanes(ids, (id, lane) => bareRefresh(bare.store, id, lane)));
    },
  });
  await bare.close();
  const ratio = ratios(results.ours, results.bare, (rate) => rate);
  return [
    {
      name: "refreshes per second, one sidecar",
      value: median(results.ours),
      unit: "refreshes/s",
      note: spread(results.ours, 0),
    },
    {
      name: "the same transactions bare",
      value: median(results.bare),
      unit: "refreshes/s",
      note: `one client, ${IN_FLIGHT} in flight; ${spread(results.bare, 0)}`,
    },
    { name: "ratio", value: median(ratio), unit: "", aim: { atLeast: 0.5 }, note: spread(ratio) },
  ];
}

/** The three transactions of a refresh, with records of the usual size; `place` is its own among those of the cap. */
async function bareRefresh(store: Store, id: string, place: number): Promise<void> {
  const slot = { accountId: id, slot: "default" };
  const client = { provider: "hubspot", client: "main" };
  const permit = key("permit", client.provider, client.client, String(place));
  const at = {
    lock: key("lock", id, "default"),
    attempt: key("attempt", id, "default"),
    hold: key("hold", id, "default"),
    account: key("account", id),
    credential: key("credential", id, "default"),
  };
  const write = (of: Partial<Transaction>) => store.write(transaction(of));
  const absent = (...keys: readonly Key[]) => keys.map((of) => ({ key: of, revision: 0 }));
  const { lock, attempt, hold, credential } = SAMPLES;
  await write({
    reads: [...snapshotReads(slot, client), ...capsReads(client)],
    expect: absent(at.lock),
    writes: [{ put: at.lock, value: lock.value, ttlMs: 35_000 }],
  });
  await write({
    reads: [at.attempt, at.hold, key("cooldown", client.provider, client.client), permit],
    expect: absent(at.account, at.credential, at.attempt, at.hold, permit),
    writes: [
      { put: at.attempt, value: attempt.value },
      { put: at.hold, value: hold.value, ttlMs: 90_000 },
      { put: permit, value: SAMPLES.permit.value, ttlMs: 65_000 },
    ],
  });
  await write({
    reads: standingReads(slot, client),
    expect: absent(at.account, at.credential),
    writes: [
      { put: at.account, value: account(id) },
      { put: at.credential, value: credential.value },
      { remove: at.lock },
      { remove: at.attempt },
      { remove: at.hold },
      { remove: permit },
    ],
    events: [event("integrated_account:token_refreshed", { accountId: id })],
  });
}

/** Both are asked at once; one of them asks the vendor, and the other hears of the commit. */
async function waitsElsewhere(sidecar: Sidecar, vendor: Vendor, lines: readonly (Line | undefined)[]) {
  await vendor.fault({ kind: "hang", ms: 50, endpoint: "token" });
  const laterMs: number[] = [];
  for (let round = 0; round <= WAITS; round += 1) {
    const accountId = `wait-${round}`;
    await vendor.connect(sidecar, accountId, { expired: true });
    const frame = frameOf({ accountId });
    const atMs = await Promise.all(
      lines.map(async (line) => {
        await asked(line, frame);
        return performance.now();
      }),
    );
    if (round > 0) laterMs.push(Math.max(...atMs) - Math.min(...atMs));
  }
  await vendor.clearFaults();
  return [
    {
      name: "a waiter on another process, after the holder's own, p99",
      value: quantile(laterMs, 0.99),
      unit: "ms",
      aim: { atMost: 10 },
      note: `median ${median(laterMs).toFixed(1)}; its own opening of the token included`,
    },
  ];
}

async function coldStart(
  bench: Bench,
  stateDir: string,
  set: Readonly<Record<string, string>>,
  running: Sidecar["process"],
) {
  await running.stop();
  const startMs: number[] = [];
  for (let n = 0; n <= STARTS; n += 1) {
    const tookMs = await toFirstAnswer(bench.bundles, stateDir, { id: "wait-0", set });
    if (n > 0) startMs.push(tookMs);
  }
  return {
    name: "cold start to first GetToken",
    value: median(startMs),
    unit: "ms",
    aim: { atMost: 450 },
    note: spread(startMs, 0),
  };
}

/** As many at a time as the client's cap permits. */
async function inLanes<T>(
  ids: readonly string[],
  work: (id: string, lane: number) => Promise<T>,
): Promise<readonly T[]> {
  const results: T[] = [];
  let next = 0;
  const run = async (lane: number) => {
    for (let id = ids[next++]; id !== undefined; id = ids[next++]) results.push(await work(id, lane));
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, (_, lane) => run(lane)));
  return results;
}

async function perSecond(count: number, work: () => Promise<unknown>): Promise<number> {
  const startMs = performance.now();
  await work();
  return (count * 1_000) / (performance.now() - startMs);
}
