import { spawn } from "node:child_process";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { describe, expect, it, type TestContext } from "vitest";
import { systemClock } from "../../src/clock.ts";
import { KeyturnError } from "../../src/errors.ts";
import { type EtcdOptions, openEtcdStore } from "../../src/store/etcd/open.ts";
import type { StoredEvent } from "../../src/tokens/events.ts";
import { key } from "../../src/tokens/records.ts";
import { settle } from "../../src/tokens/settle.ts";
import { startEtcd } from "../backends/etcd.ts";
import { startStallingProxy } from "../backends/stalling-proxy.ts";
import { account, event, transaction } from "./samples.ts";

const START = { storeRevision: 0, index: 0 };
const ALL = ["lifecycle", "refreshed", "feed"] as const;
const ID = key("account", "acme");
const clock = systemClock();

type Finishing = Pick<TestContext, "onTestFinished">;

// Each test has an etcd of its own and mostly waits: they run at the same time.

async function openOn(
  { onTestFinished }: Finishing,
  urls: readonly string[],
  options: Partial<EtcdOptions> = {},
) {
  const opened = await openEtcdStore({
    access: { endpoints: urls, tls: undefined, login: undefined },
    environment: "test",
    clock,
    random: () => 0,
    ...options,
  });
  onTestFinished(() => opened.close());
  const told: StoredEvent[] = [];
  opened.events.follow((events) => told.push(...events));
  return { ...opened, told };
}

const say = (reason: string) => transaction({ events: [event("feed:client_changed", { reason })] });
const put = (id: string) =>
  transaction({
    writes: [{ put: key("account", id), value: account(id) }],
    events: [event("integrated_account:created", { accountId: id })],
  });

async function failureOf(work: Promise<unknown>): Promise<KeyturnError> {
  const error = await work.then(
    () => undefined,
    (failure: unknown) => failure,
  );
  if (error instanceof KeyturnError) return error;
  throw new Error(`expected one of our errors: ${error}`);
}

describe("a member that is cut off from the other two", () => {
  it.concurrent("is not believed to have told everything, though it answers", {
    timeout: 60_000,
  }, async (test) => {
    await using etcd = await startEtcd({ members: 3 });
    const leader = await etcd.leader();
    const lone = etcd.members.find((one) => one !== leader);
    if (lone === undefined) throw new Error("three members have two followers");
    const { events } = await openOn(test, [lone.url]);
    await test.expect.poll(() => events.isCurrent, { timeout: 10_000 }).toBe(true);
    const others = etcd.members.filter((one) => one !== lone);
    for (const other of others) other.freeze();
    await test.expect.poll(() => events.isCurrent, { timeout: 15_000 }).toBe(false);
    await delay(5_000);
    expect(events.isCurrent).toBe(false);
    for (const other of others) other.thaw();
    await test.expect.poll(() => events.isCurrent, { timeout: 20_000 }).toBe(true);
  });
});

describe("an etcd that was restored as another cluster", () => {
  it.concurrent("is known for one, though its revision is higher than before, and its order has begun anew", {
    timeout: 60_000,
  }, async (test) => {
    await using before = await startEtcd();
    await using restored = await startEtcd();
    const other = await openOn(test, restored.urls);
    for (let n = 0; n < 20; n += 1) await other.store.write(say(String(n)));
    const gaps: string[] = [];
    const urls = [...before.urls, ...restored.urls];
    const { store, events, told } = await openOn(test, urls, { onGap: (why) => void gaps.push(why) });
    const { identity, setBacks } = events;
    await store.write(say("before"));
    await before.only.kill();
    let view = await store.read([ID]).catch(() => undefined);
    // Whoever sees the first answer knows already.
    for (; view === undefined; view = await store.read([ID]).catch(() => undefined)) await delay(20);
    expect(gaps).toEqual(["set_back"]);
    expect(events.identity).not.toBe(identity);
    expect(events.setBacks).toBe(setBacks + 1);
    await other.store.write(say("after"));
    await test.expect.poll(() => told.at(-1)?.reason, { timeout: 10_000 }).toBe("after");
    expect(gaps).toEqual(["set_back"]);
  });
});

describe("a frozen etcd", () => {
  it.concurrent("ends every call within its deadline, and says which may have landed", async (test) => {
    await using etcd = await startEtcd();
    const { store } = await openOn(test, etcd.urls);
    etcd.only.freeze();
    const sentAtMs = clock.boot();
    const [read, write] = await Promise.all([
      failureOf(store.read([ID])),
      failureOf(store.write(put("acme"))),
    ]);
    expect(clock.boot() - sentAtMs).toBeLessThan(2_500);
    expect(read).toMatchObject({ reason: "STORE_UNAVAILABLE", metadata: { cause: "etcd_no_answer" } });
    expect(read.metadata["ambiguous"]).toBeUndefined();
    expect(write.metadata["ambiguous"]).toBe("true");
    etcd.only.thaw();
  });

  it.concurrent("writes a transaction once, however often it is sent again, and whenever the first one lands", async (test) => {
    await using etcd = await startEtcd();
    const { store, events } = await openOn(test, etcd.urls);
    etcd.only.freeze();
    const ambiguous = put("acme");
    const settled = settle({ store, clock }, ambiguous, clock.boot() + 15_000);
    await delay(4_000);
    etcd.only.thaw();
    expect((await settled).applied).toBe(true);
    // The first ones, which nobody waits for any more, have landed or been refused by now.
    await delay(500);
    expect(await events.read(START, ALL, 10)).toHaveLength(1);
  });

  it.concurrent("leaves one event when two processes write the same ambiguous transaction", async (test) => {
    await using etcd = await startEtcd();
    const { told } = await openOn(test, etcd.urls);
    const program = join(import.meta.dirname, "settling-process.ts");
    const both = [0, 1].map(() => {
      const child = spawn(process.execPath, [program, etcd.only.url], { stdio: ["pipe", "pipe", "inherit"] });
      test.onTestFinished(() => void child.kill("SIGKILL"));
      let said = "";
      child.stdout.on("data", (chunk: Buffer) => {
        said += chunk;
      });
      return { begin: () => child.stdin.write("go\n"), said: () => said };
    });
    const said = () => both.map((one) => one.said());
    await test.expect.poll(said, { timeout: 15_000 }).toEqual(Array(2).fill("open\n"));
    etcd.only.freeze();
    for (const { begin } of both) begin();
    // Longer than a call may take: what they have sent lands, and nobody tells them.
    await delay(2_500);
    etcd.only.thaw();
    await test.expect.poll(said, { timeout: 15_000 }).toEqual(Array(2).fill("open\ntrue\n"));
    await test.expect.poll(() => told.length).toBeGreaterThan(0);
    await delay(500);
    expect(told).toHaveLength(1);
  });

  it.concurrent("ends the session here before etcd ends it, and a new one takes its place", async (test) => {
    await using etcd = await startEtcd();
    const { store, session } = await openOn(test, etcd.urls);
    const shard = key("shard", "00");
    const claim = () => transaction({ writes: [{ put: shard, value: { instance: "one" } }], reads: [shard] });
    await store.write(claim());
    const { number } = session;
    etcd.only.freeze();
    await test.expect.poll(() => session.isValid, { timeout: 12_000, interval: 100 }).toBe(false);
    expect(await failureOf(store.write(claim()))).toMatchObject({
      metadata: { cause: "etcd_session_lost" },
    });
    // A renewal on its way, asked for while the session was valid, would still prolong it.
    await delay(2_000);
    etcd.only.thaw();
    await test.expect.poll(() => session.isValid, { timeout: 5_000, interval: 50 }).toBe(true);
    expect(session.number).toBeGreaterThan(number);
    expect((await store.write(claim())).applied).toBe(true);
  });
});

describe("an etcd that is killed and comes back", () => {
  it.concurrent("is used again within five seconds, and the feed has lost nothing and said nothing twice", async (test) => {
    await using etcd = await startEtcd();
    const one = await openOn(test, etcd.urls);
    const two = await openOn(test, etcd.urls);
    await one.store.write(say("before"));
    await test.expect.poll(() => two.told.length).toBe(1);
    await etcd.only.kill();
    expect(await failureOf(one.store.read([ID]))).toMatchObject({
      metadata: { cause: "etcd_unreachable" },
    });
    expect(two.events.isCurrent).toBe(false);
    await etcd.only.restart();
    const backAtMs = clock.boot();
    await settle({ store: one.store, clock }, say("after"), clock.boot() + 5_000).catch(async () => {
      await delay(200);
      return one.store.write(say("after"));
    });
    await test.expect.poll(() => two.told.map(({ reason }) => reason), { timeout: 5_000 }).toContain("after");
    expect(clock.boot() - backAtMs).toBeLessThan(5_000);
    expect(two.told.map(({ reason }) => reason)).toEqual(["before", "after"]);
    expect(two.events.isCurrent).toBe(true);
  });

  it.concurrent("goes on at another member when the leader of three is killed", async (test) => {
    await using etcd = await startEtcd({ members: 3 });
    const { store, told } = await openOn(test, etcd.urls);
    await store.write(put("a"));
    await (await etcd.leader()).kill();
    const killedAtMs = clock.boot();
    const again = put("b");
    for (;;) {
      const done = await settle({ store, clock }, again, clock.boot() + 5_000).catch(() => undefined);
      if (done !== undefined) break;
      await delay(50);
    }
    expect(clock.boot() - killedAtMs).toBeLessThan(6_000);
    await test.expect
      .poll(() => told.map(({ accountId }) => accountId), { timeout: 5_000 })
      .toEqual(["a", "b"]);
  });
});

describe("a watch", () => {
  it.concurrent("that resumes at a compacted revision reads on from the events' own keys", async (test) => {
    await using etcd = await startEtcd();
    const writer = await openOn(test, etcd.urls);
    const proxy = await startStallingProxy(etcd.only.port);
    test.onTestFinished(() => proxy.close());
    const reader = await openOn(test, [`http://127.0.0.1:${proxy.port}`]);
    await writer.store.write(say("0"));
    await test.expect.poll(() => reader.told.length).toBe(1);
    proxy.stall();
    let revision = 0;
    for (let n = 1; n <= 2_500; n += 50) {
      const done = await Promise.all(
        Array.from({ length: 50 }, (_, i) => writer.store.write({ ...say(String(n + i)), reads: [] })),
      );
      revision = Math.max(...done.map(({ view }) => view.storeRevision));
    }
    await etcd.call("kv/compaction", { revision: String(revision), physical: true });
    proxy.reset();
    proxy.resume();
    await test.expect.poll(() => reader.told.length, { timeout: 15_000 }).toBe(2_501);
    expect(new Set(reader.told.map(({ reason }) => reason)).size).toBe(2_501);
    const order = reader.told.map(({ position }) => position.storeRevision);
    expect(order).toEqual(order.toSorted((a, b) => a - b));
    await writer.store.write(say("last"));
    await test.expect.poll(() => reader.told.at(-1)?.reason).toBe("last");
  });

  it.concurrent("that dies silently is known not to be current, and is made anew within fifteen seconds", async (test) => {
    await using etcd = await startEtcd();
    const writer = await openOn(test, etcd.urls);
    const proxy = await startStallingProxy(etcd.only.port);
    test.onTestFinished(() => proxy.close());
    const reader = await openOn(test, [`http://127.0.0.1:${proxy.port}`]);
    proxy.stall();
    const stalledAtMs = clock.boot();
    await writer.store.write(say("missed"));
    await test.expect.poll(() => reader.events.isCurrent, { timeout: 12_000, interval: 50 }).toBe(false);
    proxy.reset();
    proxy.resume();
    await test.expect
      .poll(() => reader.told.map(({ reason }) => reason), { timeout: 15_000 })
      .toEqual(["missed"]);
    expect(clock.boot() - stalledAtMs).toBeLessThan(15_000);
  });

  it.concurrent("and calls live through a silence longer than any of their limits: nothing pings etcd so often that it hangs up", async (test) => {
    // Of etcd's own; a ping more often is answered by GOAWAY with too_many_pings.
    await using etcd = await startEtcd({ flags: ["--grpc-keepalive-min-time=5s"] });
    const failures: unknown[] = [];
    const report = (error: unknown) => failures.push(error);
    const { store, told, session } = await openOn(test, etcd.urls, { report });
    const { number } = session;
    await delay(13_000);
    await store.write(say("still"));
    await test.expect.poll(() => told.length).toBe(1);
    expect(session.number).toBe(number);
    expect(session.isValid).toBe(true);
    expect(failures).toEqual([]);
    expect(etcd.only.output()).not.toMatch(/too_many_pings|ENHANCE_YOUR_CALM/);
  });
});

describe("an etcd without room", () => {
  it.concurrent("answers STORE_FULL to what writes and still reads, until it is compacted, defragmented and its alarm is off", async (test) => {
    await using etcd = await startEtcd({ flags: [`--quota-backend-bytes=${4 * 1_048_576}`] });
    const { store, events, session } = await openOn(test, etcd.urls);
    const { number } = session;
    const write = (displayName: string) =>
      store.write(transaction({ writes: [{ put: ID, value: account("acme", { displayName }) }] }));
    const nameNow = async () => (await store.read([ID])).get(ID)?.value.displayName;
    // Of one record, so that there is history to drop.
    const full = await failureOf(
      (async () => {
        for (let n = 0; n < 40; n += 1) await write(`${n} ${"x".repeat(400_000)}`);
      })(),
    );
    const noRoom = { reason: "STORE_FULL", metadata: { cause: "etcd_no_space" } };
    expect(full).toMatchObject(noRoom);
    expect(await failureOf(write("short"))).toMatchObject(noRoom);
    expect(await nameNow()).toContain("xxx");

    const { storeRevision } = await store.read([ID]);
    await etcd.call("kv/compaction", { revision: String(storeRevision), physical: true });
    await etcd.call("maintenance/defragment", {});
    const { alarms } = (await etcd.call("maintenance/alarm", { action: "GET" })) as {
      readonly alarms: readonly object[];
    };
    expect(await failureOf(write("short"))).toMatchObject(noRoom);
    for (const alarm of alarms) await etcd.call("maintenance/alarm", { ...alarm, action: "DEACTIVATE" });
    await write("short");
    expect(await nameNow()).toBe("short");
    await store.write(put("other"));
    // It has been the same session all along, and its feed goes on.
    await test.expect.poll(() => events.isCurrent).toBe(true);
    expect([session.isValid, session.number]).toEqual([true, number]);
  });

  it.concurrent("refuses what is larger than etcd takes, naming the size, before it is sent", async (test) => {
    await using etcd = await startEtcd();
    const { store } = await openOn(test, etcd.urls);
    const displayName = "x".repeat(1_500_000);
    const huge = transaction({ writes: [{ put: ID, value: account("acme", { displayName }) }] });
    expect(await failureOf(store.write(huge))).toMatchObject({
      reason: "INVALID_REQUEST",
      metadata: { cause: "store_request_too_large" },
    });
  });
});
