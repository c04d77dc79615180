import { setTimeout as delay } from "node:timers/promises";
import { expect, it, onTestFinished } from "vitest";
import { systemClock } from "../../src/clock.ts";
import { openEtcdStore } from "../../src/store/etcd/open.ts";
import { Heart } from "../../src/tokens/heart.ts";
import { shardOf } from "../../src/tokens/shard.ts";
import type { Store } from "../../src/tokens/store.ts";
import type { World } from "../../src/tokens/world.ts";
import { startEtcd } from "../backends/etcd.ts";
import { FakeConsents } from "../fakes/consents.ts";
import { FakeJournal } from "../fakes/journal.ts";
import { Life } from "../fakes/life.ts";
import { FakeSealer } from "../fakes/sealer.ts";
import { FakeVendors, oauth } from "../fakes/vendors.ts";
import { Random } from "../simulation/random.ts";
import { VirtualTime } from "../simulation/virtual-time.ts";

const ACCOUNTS = 10_000;
const SIDECARS = 3;
const STEP_MS = 1_000;
const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const EPOCH_MS = 1_767_225_600_000;
const OPERATOR = { caller: "operator", purpose: "test" };
const BUDGET = { requests: 600, perMs: MINUTE_MS };

/** Hearts on virtual time over one real etcd, whose leases end by virtual time, too. */
async function fleet() {
  const time = new VirtualTime();
  const vendors = new FakeVendors(time, () => EPOCH_MS + time.nowMs);
  const etcd = await startEtcd();
  const ending: (() => Promise<unknown>)[] = [() => etcd.stop()];
  onTestFinished(async () => {
    for (const end of ending.reverse()) await end();
  });
  const counts = { pending: 0, writes: 0 };

  const counted = <T>(work: Promise<T>): Promise<T> => {
    counts.pending += 1;
    return work.finally(() => {
      counts.pending -= 1;
    });
  };
  const onVirtualTime = (store: Store): Store => ({
    read: (reads) => counted(store.read(reads)),
    scan: (...of) => counted(store.scan(...of)),
    write: async (transaction) => {
      const result = await counted(store.write(transaction));
      if (!result.applied) return result;
      counts.writes += 1;
      const revision = result.view.storeRevision;
      for (const write of transaction.writes) {
        if (!("put" in write) || write.ttlMs === undefined) continue;
        const ended = { nonce: `ended-${revision}`, events: [], reads: [] };
        const { put, ttlMs } = write;
        time.after(ttlMs, () => {
          const expect = [{ key: put, revision }];
          void counted(store.write({ ...ended, expect, writes: [{ remove: put }] }));
        });
      }
      return result;
    },
  });

  const sidecar = async (n: number) => {
    const access = { endpoints: etcd.urls, tls: undefined, login: undefined };
    const opened = await openEtcdStore({ access, environment: "outage", clock: systemClock() });
    const random = new Random(`sidecar-${n}`);
    const life = new Life(time, EPOCH_MS, () => ({ wall: 0, boot: 0 }));
    let ids = 0;
    const world: World = {
      instance: `s${n}`,
      clock: life.clock,
      random: () => random.next(),
      newId: () => {
        ids += 1;
        return `s${n}.${ids}`;
      },
      store: onVirtualTime(opened.store),
      events: opened.events,
      sealer: new FakeSealer(),
      journal: new FakeJournal(),
      vendors,
      consents: new FakeConsents(time, life.clock.now),
      vault: { seal: (answer) => Buffer.from(answer), open: (sealed) => Buffer.from(sealed) },
      render: ({ account }) => Buffer.from(account.id),
      report: () => undefined,
      maxKnownAccounts: ACCOUNTS,
      defaultMaxConcurrent: 8,
    };
    const owns = (id: string) => Number.parseInt(shardOf(id), 16) % SIDECARS === n;
    const heart = new Heart(world, { owns, share: 1 / SIDECARS });
    ending.push(async () => {
      life.kill();
      await opened.close();
    });
    return { heart, events: opened.events, clock: life.clock };
  };
  const sidecars = await Promise.all(Array.from({ length: SIDECARS }, (_, n) => sidecar(n)));

  /** Whatever goes on without time passing has gone on: etcd has answered, and the feed has been heard. */
  const settled = async () => {
    for (let writes = -1; counts.pending > 0 || writes !== counts.writes; ) {
      writes = counts.writes;
      await delay(2);
    }
  };
  const pass = async (ms: number, each: () => void = () => undefined) => {
    for (const untilMs = time.nowMs + ms; time.nowMs < untilMs; ) {
      await time.run(time.nowMs + STEP_MS);
      each();
      await settled();
    }
  };
  return { time, vendors, counts, sidecars, pass };
}

it("10,000 accounts of one client, and the provider down for an hour: nobody is flagged, etcd hears of one probe a minute and not of accounts, and recovery keeps to the budget", async () => {
  const { time, vendors, counts, sidecars, pass } = await fleet();
  const [first] = sidecars;
  if (first === undefined) throw new Error("no sidecar");
  const told: string[] = [];
  onTestFinished(first.events.follow((some) => told.push(...some.map(({ type }) => type))));
  const about = { provider: "vendor", name: "main", clientId: "id", labels: {} };
  const caps = { maxConcurrent: 64, budget: BUDGET };
  await first.heart.clients.put({ ...about, secret: undefined, caps }, OPERATOR);
  const ids = Array.from({ length: ACCOUNTS }, (_, n) => `acct-${n}`);
  for (let n = 0; n < ACCOUNTS; n += 250) {
    await Promise.all(
      ids.slice(n, n + 250).map((id, i) => {
        const endsAtMs = EPOCH_MS + ((n + i) / ACCOUNTS) * HOUR_MS;
        const credential = oauth(`at-${id}`, `rt-${id}`, endsAtMs - HOUR_MS, endsAtMs);
        const of = {
          tenant: "acme",
          provider: "vendor",
          client: "main",
          displayName: "",
          externalSubject: "",
        };
        return first.heart.accounts.create({ id, ...of, labels: {}, fields: {}, credential }, OPERATOR);
      }),
    );
  }
  vendors.always = { kind: "refuse", class: "transient" };
  await Promise.all([...sidecars.map(({ heart }) => heart.start()), pass(5 * STEP_MS)]);
  await pass(5 * MINUTE_MS);

  // It is known to be down by now; callers of every sidecar go on asking.
  const before = { sent: vendors.sent.length, writes: counts.writes };
  let asked = 0;
  await pass(HOUR_MS - 5 * MINUTE_MS, () => {
    const { heart, clock } = sidecars[asked % SIDECARS] ?? first;
    asked += 1;
    const key = { accountId: ids[(asked * 37) % ACCOUNTS] ?? "", slot: "default" };
    const ask = { key, minValidityMs: 0, rejected: undefined, trigger: "demand" } as const;
    const waiting = { untilBootMs: clock.boot() + STEP_MS, actor: OPERATOR };
    void (async () => heart.broker.getToken(ask, waiting))().catch(() => undefined);
  });
  const probes = vendors.sent.length - before.sent;
  expect(probes).toBeGreaterThanOrEqual(50);
  expect(probes).toBeLessThanOrEqual(55);
  // A probe's lock, its attempt, what became of it, and now and then a lock of one who came at the same moment.
  expect(counts.writes - before.writes).toBeLessThanOrEqual(5 * probes);
  expect(told).not.toContain("integrated_account:authentication_error");
  expect(told.filter((type) => type === "provider:outage_suspected")).toHaveLength(1);

  vendors.always = { kind: "grant" };
  vendors.lifetimeMs = 24 * HOUR_MS;
  vendors.mostInFlight = 0;
  const recovering = vendors.sent.length;
  // The probe's minute, then one of the budget, and the beginning of the next.
  await pass(150 * STEP_MS);
  expect(told).toContain("provider:outage_cleared");
  const atMs = vendors.sent.slice(recovering).map((sent) => sent.atMs);
  expect(atMs.length).toBeGreaterThan(BUDGET.requests);
  expect(
    Math.max(...atMs.map((from) => atMs.filter((at) => at >= from && at - from < BUDGET.perMs).length)),
  ).toBeLessThanOrEqual(BUDGET.requests);
  expect(vendors.mostInFlight).toBeLessThanOrEqual(64);
  expect(told).not.toContain("integrated_account:authentication_error");
  expect(time.nowMs).toBeGreaterThan(HOUR_MS);
}, 240_000);
