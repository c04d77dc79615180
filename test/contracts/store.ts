import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { StoredEvent } from "../../src/tokens/events.ts";
import { type Key, type Kind, key } from "../../src/tokens/records.ts";
import { shardOf } from "../../src/tokens/shard.ts";
import type { EventLog, Store } from "../../src/tokens/store.ts";
import { ManualClock } from "../store/manual-clock.ts";
import { account, event, SAMPLES, transaction } from "../store/samples.ts";

export interface StoreUnderTest {
  readonly store: Store;
  readonly events: EventLog;
  /** A lease as short as this store has them, and by how much it may end late; 1 s and exactly unless given. */
  readonly lease?: { readonly ttlMs: number; readonly lateMs: number };
  /** Lets time pass for leases; where that is not given, the manual clock's time is theirs. */
  pass?(ms: number): Promise<void>;
  /** Runs the janitor once. */
  sweep(): Promise<unknown>;
  close(): Promise<void>;
}

const ID = key("account", "acme");
const LOCK = key("lock", "acme", "default");
const lock = (lockId: string) => ({ lockId, instance: "one", notAfterMs: 0 });
const ALL = ["lifecycle", "refreshed", "feed"] as const;
const START = { storeRevision: 0, index: 0 };
const MINUTE_MS = 60_000;

/** What every store does, whatever it is made of. */
export function describeStore(name: string, open: (clock: ManualClock) => Promise<StoreUnderTest>): void {
  describe(`the store contract on ${name}`, () => {
    let clock: ManualClock;
    let under: StoreUnderTest;
    let store: Store;
    let events: EventLog;
    /** The store's revision before the test. */
    let base: number;
    /** A position as the test counts them. */
    const at = (storeRevision: number, index: number) => ({ storeRevision: base + storeRevision, index });

    beforeEach(async () => {
      clock = new ManualClock();
      under = await open(clock);
      ({ store, events } = under);
      base = (await store.read([])).storeRevision;
    });

    afterEach(() => under.close());

    const write = (of: Parameters<typeof transaction>[0]) => store.write(transaction(of));
    const put = (id: string) => write({ writes: [{ put: key("account", id), value: account(id) }] });
    const follow = () => {
      const told: StoredEvent[][] = [];
      const stop = events.follow((some) => told.push([...some]));
      return { told, stop };
    };
    /** Feeds may be told a little later. */
    const until = async (holds: () => boolean) => {
      for (let turns = 0; turns < 400 && !holds(); turns += 1) await delay(5);
    };

    describe("records", () => {
      it.each(Object.keys(SAMPLES) as Kind[])("gives a %s back as it was put", async (kind) => {
        const at = { kind, parts: SAMPLES[kind].parts } as Key;
        const { view } = await write({ writes: [{ put: at, value: SAMPLES[kind].value }], reads: [at] });
        expect(view.get(at)?.value).toEqual(SAMPLES[kind].value);
        const [entry] = (await store.scan(kind, "", 10)).entries;
        expect(entry?.key).toEqual(at);
        expect(entry?.value).toEqual(SAMPLES[kind].value);
      });

      it("reads an absent key as undefined, and the store's revision beside it", async () => {
        const view = await store.read([ID]);
        expect(view.get(ID)).toBeUndefined();
        expect(view.storeRevision).toBe(base);
      });

      it("moves the revision with every write and keeps the one of the creation", async () => {
        await put("acme");
        await put("other");
        await put("acme");
        const view = await store.read([ID]);
        expect(view.get(ID)).toMatchObject({ createRevision: base + 1, revision: base + 3 });
        expect(view.storeRevision).toBe(base + 3);
      });

      it("does not move the revision for a transaction that changes nothing", async () => {
        await write({ writes: [{ remove: ID }], reads: [ID] });
        expect((await write({ reads: [ID] })).view.storeRevision).toBe(base);
      });

      it("creates anew after a removal", async () => {
        await put("acme");
        await write({ writes: [{ remove: ID }] });
        expect((await store.read([ID])).get(ID)).toBeUndefined();
        await put("acme");
        expect((await store.read([ID])).get(ID)).toMatchObject({
          createRevision: base + 3,
          revision: base + 3,
        });
      });

      it("lets the last write of a key in a transaction count", async () => {
        const value = account("acme");
        const { view } = await write({
          writes: [{ put: ID, value }, { remove: ID }, { put: ID, value: { ...value, tenant: "last" } }],
          reads: [ID],
        });
        expect(view.get(ID)?.value.tenant).toBe("last");
        expect(
          (await write({ writes: [{ put: ID, value }, { remove: ID }], reads: [ID] })).view.get(ID),
        ).toBe(undefined);
      });

      it("reads all records of a client, and of nobody whose name only starts the same", async () => {
        const permit = (client: string, n: string) => ({
          put: key("permit", "hubspot", client, n),
          value: { attemptId: n, instance: "one" },
        });
        await write({
          writes: [permit("main", "2"), permit("main", "10"), permit("main2", "0"), permit("mai", "0")],
        });
        const view = await store.read([{ under: "permit", parts: ["hubspot", "main"] }]);
        expect(view.all("permit").map((entry) => entry.key.parts)).toEqual([
          ["hubspot", "main", "10"],
          ["hubspot", "main", "2"],
        ]);
        expect(view.all("budget")).toEqual([]);
        expect(view.get(key("permit", "hubspot", "main", "2"))?.value.attemptId).toBe("2");
      });

      it("reads an account's slots, whatever is in their names", async () => {
        const at = key("credential", "acme", "a/b %2F");
        const { value } = SAMPLES.credential;
        await write({
          writes: [
            { put: at, value },
            { put: key("credential", "acme.", "a"), value },
          ],
        });
        const view = await store.read([{ under: "credential", parts: ["acme"] }]);
        expect(view.all("credential").map((entry) => entry.key)).toEqual([at]);
      });
    });

    describe("expectations", () => {
      it("apply when every revision is the expected one, 0 being absence", async () => {
        await put("acme");
        const result = await write({
          expect: [
            { key: ID, revision: base + 1 },
            { key: LOCK, revision: 0 },
          ],
          writes: [{ put: LOCK, value: lock("l") }],
          reads: [LOCK],
        });
        expect(result.applied).toBe(true);
        expect(result.view.get(LOCK)?.revision).toBe(base + 2);
      });

      it.each([0, 1, 3])("refuse revision %i of a record at 2, and change nothing", async (revision) => {
        await put("acme");
        await put("acme");
        const { told } = follow();
        const result = await write({
          expect: [{ key: ID, revision: revision === 0 ? 0 : base + revision }],
          writes: [{ remove: ID }, { put: LOCK, value: lock("l") }],
          events: [event("integrated_account:deleted")],
          reads: [ID, LOCK],
        });
        expect(result.applied).toBe(false);
        expect(result.view.get(ID)?.revision).toBe(base + 2);
        expect(result.view.get(LOCK)).toBeUndefined();
        expect(result.view.storeRevision).toBe(base + 2);
        expect(await events.read(START, ALL, 10)).toEqual([]);
        expect(told).toEqual([]);
      });

      it("refuse one of two that expect the same", async () => {
        await put("acme");
        const change = (tenant: string) =>
          write({
            expect: [{ key: ID, revision: base + 1 }],
            writes: [{ put: ID, value: account("acme", { tenant }) }],
            reads: [ID],
          });
        const [one, two] = await Promise.all([change("one"), change("two")]);
        expect([one.applied, two.applied].sort()).toEqual([false, true]);
        const winner = one.applied ? "one" : "two";
        expect((await store.read([ID])).get(ID)?.value.tenant).toBe(winner);
      });
    });

    describe("a transaction sent again", () => {
      it("counts as applied by its events, and says them once", async () => {
        await put("acme");
        const { told } = follow();
        const again = transaction({
          expect: [{ key: ID, revision: base + 1 }],
          writes: [{ remove: ID }],
          events: [event("integrated_account:deleted"), event("feed:account_changed")],
          reads: [ID],
        });
        expect((await store.write(again)).applied).toBe(true);
        const second = await store.write(again);
        expect(second).toMatchObject({ applied: true });
        expect(second.view.storeRevision).toBe(base + 2);
        expect(await events.read(START, ALL, 10)).toHaveLength(2);
        await until(() => told.length > 0);
        await put("other");
        expect(told).toHaveLength(1);
      });

      it("counts as applied by its events even when it expected nothing", async () => {
        const again = transaction({
          writes: [{ put: ID, value: account("acme") }],
          events: [event("integrated_account:created")],
          reads: [ID],
        });
        await store.write(again);
        await write({ writes: [{ put: ID, value: account("acme", { tenant: "newer" }) }] });
        const second = await store.write(again);
        expect(second.applied).toBe(true);
        expect(second.view.get(ID)?.value.tenant).toBe("newer");
      });

      it("counts as applied by its nonce on a record it wrote", async () => {
        const again = transaction({
          expect: [{ key: LOCK, revision: 0 }],
          writes: [{ put: LOCK, value: lock("mine"), ttlMs: 35_000 }],
          reads: [LOCK],
        });
        await store.write(again);
        const second = await store.write(again);
        expect(second.applied).toBe(true);
        expect(second.view.get(LOCK)?.revision).toBe(base + 1);
      });

      it("is refused when another won", async () => {
        const take = (lockId: string) =>
          transaction({
            expect: [{ key: LOCK, revision: 0 }],
            writes: [{ put: LOCK, value: lock(lockId) }],
            reads: [LOCK],
          });
        const late = take("late");
        await store.write(take("first"));
        const result = await store.write(late);
        expect(result.applied).toBe(false);
        expect(result.view.get(LOCK)?.value.lockId).toBe("first");
      });
    });

    describe("leases", () => {
      const take = (lockId: string, ttlMs: number) =>
        write({
          expect: [{ key: LOCK, revision: 0 }],
          writes: [{ put: LOCK, value: lock(lockId), ttlMs }],
          reads: [LOCK],
        });
      const lease = () => under.lease ?? { ttlMs: 35_000, lateMs: 0 };
      const pass = async (ms: number) => {
        if (under.pass === undefined) clock.advance(ms);
        else await under.pass(ms);
      };
      /** Where leases take real time a little before is not the last millisecond. */
      const almost = (ms: number) => ms - (under.pass === undefined ? 1 : 300);

      it("end after their time and not before", async () => {
        const { ttlMs, lateMs } = lease();
        await take("a", ttlMs);
        await pass(almost(ttlMs));
        expect((await store.read([LOCK])).get(LOCK)?.value.lockId).toBe("a");
        expect((await take("b", ttlMs)).applied).toBe(false);
        await pass(ttlMs - almost(ttlMs) + lateMs);
        expect((await store.read([LOCK])).get(LOCK)).toBeUndefined();
        expect((await store.read([{ under: "lock", parts: ["acme"] }])).all("lock")).toEqual([]);
        expect((await store.scan("lock", "", 10)).entries).toEqual([]);
      });

      it("count as absent when they are over, and are created anew", async () => {
        const { ttlMs, lateMs } = lease();
        const first = (await take("a", ttlMs)).view.get(LOCK);
        await pass(ttlMs + lateMs);
        const result = await take("b", ttlMs);
        expect(result.applied).toBe(true);
        const second = result.view.get(LOCK);
        expect(second?.createRevision).toBe(second?.revision);
        expect(second?.createRevision).toBeGreaterThan(first?.createRevision ?? 0);
      });

      it("do not follow a jump of the wall clock", async () => {
        const { ttlMs, lateMs } = lease();
        await take("a", ttlMs);
        clock.jump(3_600_000);
        expect((await store.read([LOCK])).get(LOCK)).toBeDefined();
        clock.jump(-7_200_000);
        await pass(ttlMs + lateMs);
        expect((await store.read([LOCK])).get(LOCK)).toBeUndefined();
      });

      it("begin anew with every put, and end when one has none", async () => {
        const { ttlMs, lateMs } = lease();
        await take("a", ttlMs);
        await pass(ttlMs / 2);
        await write({ writes: [{ put: LOCK, value: lock("b"), ttlMs }] });
        await pass(almost(ttlMs));
        await write({ writes: [{ put: LOCK, value: lock("c") }] });
        await pass(ttlMs + lateMs);
        expect((await store.read([LOCK])).get(LOCK)).toMatchObject({
          createRevision: base + 1,
          revision: base + 3,
        });
      });
    });

    describe("scan", () => {
      it("pages through a kind in one order, each once, whatever the page's size", async () => {
        const ids = Array.from({ length: 25 }, (_, n) => `account-${n}`);
        for (const id of ids) await put(id);
        const whole = (await store.scan("account", "", 1_000)).entries.map(({ value }) => value.id);
        expect([...whole].sort()).toEqual([...ids].sort());
        for (const limit of [1, 5, 24, 25, 26]) {
          const seen: string[] = [];
          let pages = 0;
          for (let after: string | undefined = ""; after !== undefined; pages += 1) {
            const page: Awaited<ReturnType<typeof store.scan<"account">>> = await store.scan(
              "account",
              after,
              limit,
            );
            seen.push(...page.entries.map(({ value }) => value.id));
            after = page.next;
          }
          expect(seen).toEqual(whole);
          expect(pages).toBe(Math.ceil(25 / limit));
        }
      });

      it("goes on after a record that has been removed meanwhile", async () => {
        for (const id of ["a", "b", "c"]) await put(id);
        const first = await store.scan("account", "", 1);
        const [entry] = first.entries;
        await write({ writes: entry === undefined ? [] : [{ remove: entry.key }] });
        const rest = await store.scan("account", first.next ?? "", 10);
        expect(rest.entries).toHaveLength(2);
      });

      it("reads one shard's accounts alone, page by page", async () => {
        const ids = Array.from({ length: 40 }, (_, n) => `account-${n}`);
        for (const id of ids) await put(id);
        const shard = shardOf("account-7");
        const seen: string[] = [];
        for (let after: string | undefined = ""; after !== undefined; ) {
          const page: Awaited<ReturnType<typeof store.scan<"account">>> = await store.scan(
            "account",
            after,
            1,
            shard,
          );
          seen.push(...page.entries.map(({ value }) => value.id));
          after = page.next;
        }
        expect(seen.sort()).toEqual(ids.filter((id) => shardOf(id) === shard).sort());
      });

      it("refuses a place of another kind", async () => {
        await put("a");
        await put("b");
        const { next } = await store.scan("account", "", 1);
        await expect(store.scan("lock", next ?? "", 1)).rejects.toMatchObject({ reason: "INVALID_REQUEST" });
      });
    });

    describe("events", () => {
      const say = (...of: Parameters<typeof event>[0][]) => write({ events: of.map((type) => event(type)) });

      it("are kept as written, at their transaction's revision and place", async () => {
        await put("acme");
        const of = transaction({
          events: [
            event("integrated_account:created", { labels: { a: "b" } }),
            event("feed:account_changed"),
          ],
        });
        await store.write(of);
        expect(await events.read(START, ALL, 10)).toEqual([
          {
            ...event("integrated_account:created", { labels: { a: "b" } }),
            id: `${of.nonce}/0`,
            position: at(2, 0),
          },
          { ...event("feed:account_changed"), id: `${of.nonce}/1`, position: at(2, 1) },
        ]);
      });

      it("come in order, of the classes asked for, strictly after the position, at most the limit", async () => {
        await say("integrated_account:created", "feed:account_changed", "integrated_account:token_refreshed");
        await say("integrated_account:token_refreshed");
        await say("feed:client_changed", "integrated_account:deleted");
        const places = async (after: typeof START, classes: readonly (typeof ALL)[number][], limit: number) =>
          (await events.read(after, classes, limit)).map(
            ({ position }) => `${position.storeRevision - base}.${position.index}`,
          );
        expect(await places(START, ALL, 10)).toEqual(["1.0", "1.1", "1.2", "2.0", "3.0", "3.1"]);
        expect(await places(START, ALL, 2)).toEqual(["1.0", "1.1"]);
        expect(await places(at(1, 1), ALL, 2)).toEqual(["1.2", "2.0"]);
        expect(await places(at(1, 0), ["lifecycle", "refreshed"], 10)).toEqual(["1.2", "2.0", "3.1"]);
        expect(await places(at(3, 1), ALL, 10)).toEqual([]);
        expect(await places(START, [], 10)).toEqual([]);
      });

      it("come in order when a transaction has more than ten", async () => {
        await write({
          events: Array.from({ length: 100 }, (_, n) => event("feed:client_changed", { reason: String(n) })),
        });
        const read = await events.read(at(1, 3), ALL, 50);
        expect(read.map(({ reason }) => Number(reason))).toEqual(Array.from({ length: 50 }, (_, n) => n + 4));
      });

      it("are told to every follower in order, each transaction once, feed records included", async () => {
        const one = follow();
        await say("integrated_account:created");
        const two = follow();
        await Promise.all([
          say("feed:client_changed", "integrated_account:deleted"),
          say("feed:slot_changed"),
          put("acme"),
        ]);
        await until(() => one.told.length === 3 && two.told.length >= 2);
        const types = (told: StoredEvent[][]) => told.map((some) => some.map(({ type }) => type));
        // Whichever of those sent at once came first.
        expect(types(one.told).toSorted()).toEqual([
          ["feed:client_changed", "integrated_account:deleted"],
          ["feed:slot_changed"],
          ["integrated_account:created"],
        ]);
        expect(types(one.told)[0]).toEqual(["integrated_account:created"]);
        // The second one may have been told what was on its way when it came.
        expect(two.told.slice(-2)).toEqual(one.told.slice(1));
        expect(one.told.flat()).toEqual(await events.read(START, ALL, 10));
      });

      it("are not told to one who has stopped", async () => {
        const { told, stop } = follow();
        stop();
        await say("feed:client_changed");
        await put("acme");
        expect(told).toEqual([]);
      });

      it("are bounded by the newest position, after which only what comes later is read", async () => {
        await say("feed:client_changed", "feed:client_changed");
        const { newest, oldest } = await events.bounds();
        expect(newest.storeRevision).toBe(base + 1);
        expect(oldest).toEqual({ lifecycle: START, refreshed: START, feed: START });
        expect(await events.read(newest, ALL, 10)).toEqual([]);
        await say("feed:slot_changed");
        expect((await events.read(newest, ALL, 10)).map(({ type }) => type)).toEqual(["feed:slot_changed"]);
      });

      it("are dropped past their class's retention, after the mark of what is gone has moved", async () => {
        const say = (type: Parameters<typeof event>[0]) =>
          write({ events: [event(type, { timeMs: clock.now() })] });
        await say("integrated_account:created");
        await say("integrated_account:token_refreshed");
        await say("feed:client_changed");
        clock.advance(6 * MINUTE_MS);
        await say("feed:client_changed");
        await under.sweep();
        expect(await events.read(START, ALL, 10)).toHaveLength(4);
        clock.advance(15 * MINUTE_MS);
        await under.sweep();
        const left = await events.read(START, ALL, 10);
        expect(left.map(({ position }) => position.storeRevision - base)).toEqual([1, 4]);
        const { oldest } = await events.bounds();
        expect(oldest).toEqual({
          lifecycle: START,
          refreshed: at(2, 0),
          feed: at(3, 0),
        });
        clock.advance(7 * 24 * 60 * MINUTE_MS);
        await under.sweep();
        expect(await events.read(START, ALL, 10)).toEqual([]);
        expect((await events.bounds()).oldest.lifecycle).toEqual(at(1, 0));
      });

      it("are kept for as long as their five minutes hold one within the retention", async () => {
        const timeMs = Math.ceil(clock.now() / (5 * MINUTE_MS)) * 5 * MINUTE_MS;
        clock.advance(timeMs - clock.now());
        await write({ events: [event("feed:client_changed", { timeMs })] });
        clock.advance(20 * MINUTE_MS - 1);
        await under.sweep();
        expect(await events.read(START, ALL, 10)).toHaveLength(1);
        clock.advance(1);
        await under.sweep();
        expect(await events.read(START, ALL, 10)).toEqual([]);
      });

      it("have an identity", () => {
        expect(events.identity).not.toBe("");
      });
    });
  });
}
