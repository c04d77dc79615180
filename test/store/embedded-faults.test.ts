import { statSync } from "node:fs";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { describe, expect, it } from "vitest";
import { systemClock } from "../../src/clock.ts";
import { isReason, KeyturnError } from "../../src/errors.ts";
import type { StoredEvent } from "../../src/tokens/events.ts";
import { key } from "../../src/tokens/records.ts";
import { tempFolder } from "../fakes/temp-folder.ts";
import { commitGate, storeIn } from "./embedded-setup.ts";
import { ManualClock } from "./manual-clock.ts";
import { account, event, transaction } from "./samples.ts";

const START = { storeRevision: 0, index: 0 };
const ALL = ["lifecycle", "refreshed", "feed"] as const;
const created = (id: string, change = {}) =>
  transaction({
    expect: [{ key: key("account", id), revision: 0 }],
    writes: [{ put: key("account", id), value: account(id, change) }],
    events: [event("integrated_account:created", { accountId: id })],
    reads: [key("account", id)],
  });
/** What a caller does while the next worker opens the file. */
async function patiently<T>(call: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await call();
    } catch (error) {
      if (!isReason(error, "STORE_UNAVAILABLE")) throw error;
    }
  }
}

const AMBIGUOUS = { reason: "STORE_UNAVAILABLE", metadata: { ambiguous: "true" } };

describe("a store whose worker dies", () => {
  it.each([
    ["before", "dieBeforeCommit", 0],
    ["after", "dieAfterCommit", 1],
  ] as const)(
    "%s a commit calls the transaction ambiguous; sent again, it lands once",
    async (_, fate, landed) => {
      const { gate, set } = commitGate();
      const reported: unknown[] = [];
      const { store, events } = await storeIn(tempFolder(), {
        gate,
        report: (error) => reported.push(error),
      });
      const told: StoredEvent[] = [];
      events.follow((some) => told.push(...some));
      const tx = created("acme");
      set(fate);
      await expect(store.write(tx)).rejects.toMatchObject(AMBIGUOUS);
      set("open");
      const between = await patiently(() => store.read([key("account", "acme")]));
      expect(between.storeRevision).toBe(landed);
      const again = await store.write(tx);
      expect(again.applied).toBe(true);
      expect(again.view.get(key("account", "acme"))).toMatchObject({ createRevision: 1, revision: 1 });
      expect(await store.write(tx)).toMatchObject({ applied: true });
      expect(await events.read(START, ALL, 10)).toHaveLength(1);
      expect(told.map(({ accountId }) => accountId)).toEqual(["acme"]);
      expect(reported).toHaveLength(1);
    },
  );

  it("keeps the leases and locks of the living process", async () => {
    const { gate, set } = commitGate();
    const { store } = await storeIn(tempFolder(), { gate });
    const lock = key("lock", "acme", "default");
    const value = { lockId: "l", instance: "one", notAfterMs: 0 };
    await store.write(transaction({ writes: [{ put: lock, value, ttlMs: 35_000 }] }));
    set("dieBeforeCommit");
    await expect(store.write(created("acme"))).rejects.toMatchObject(AMBIGUOUS);
    set("open");
    expect((await patiently(() => store.read([lock]))).get(lock)?.value.lockId).toBe("l");
  });

  it("does not call a read ambiguous", async () => {
    const { gate, set } = commitGate();
    const { store } = await storeIn(tempFolder(), { gate });
    set("wait");
    const write = store.write(created("acme"));
    await new Promise((resolve) => setTimeout(resolve, 50));
    const read = store.read([key("account", "acme")]);
    set("dieBeforeCommit");
    await expect(write).rejects.toMatchObject(AMBIGUOUS);
    const refused: unknown = await read.catch((error: unknown) => error);
    expect(refused).toMatchObject({ reason: "STORE_UNAVAILABLE" });
    expect(refused instanceof KeyturnError && refused.metadata).not.toHaveProperty("ambiguous");
  });
});

describe("a store whose disk stalls", () => {
  it("leaves the main thread free, and answers when the disk does", async () => {
    const { gate, set } = commitGate();
    const { store } = await storeIn(tempFolder(), { gate, clock: systemClock(), deadlineMs: 10_000 });
    set("wait");
    let settled = 0;
    const calls = [
      ...Array.from({ length: 100 }, (_, n) => store.write(created(`a-${n}`))),
      store.read([key("account", "a-0")]),
    ].map((call) => call.finally(() => (settled += 1)));
    const loop = monitorEventLoopDelay({ resolution: 1 });
    loop.enable();
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    loop.disable();
    expect(settled).toBeLessThanOrEqual(1);
    expect(loop.max / 1e6).toBeLessThan(1_000);
    set("open");
    const results = await Promise.all(calls);
    expect(results.slice(0, 100).every((result) => "applied" in result && result.applied)).toBe(true);
  });

  it("gives up at the deadline: writes are ambiguous, reads are not", async () => {
    const { gate, set } = commitGate();
    const clock = new ManualClock();
    const { store } = await storeIn(tempFolder(), { gate, clock, deadlineMs: 5_000 });
    set("wait");
    const tx = created("acme");
    const write = store.write(tx);
    await new Promise((resolve) => setTimeout(resolve, 50));
    const read = store.read([key("account", "acme")]);
    const refused = Promise.all([
      expect(write).rejects.toMatchObject({
        ...AMBIGUOUS,
        metadata: { cause: "store_stalled", ambiguous: "true" },
      }),
      expect(read).rejects.toMatchObject({ metadata: { cause: "store_stalled" } }),
    ]);
    clock.advance(4_999);
    const pending = Promise.race([write, read, new Promise((resolve) => setTimeout(resolve, 20, "pending"))]);
    expect(await pending).toBe("pending");
    clock.advance(1);
    await refused;
    set("open");
    expect(await store.write(tx)).toMatchObject({ applied: true });
    expect((await store.read([key("account", "acme")])).storeRevision).toBe(1);
  });

  it("does not execute what nobody waits for any more", async () => {
    const { gate, set } = commitGate();
    const clock = new ManualClock();
    const { store } = await storeIn(tempFolder(), { gate, clock, deadlineMs: 5_000 });
    set("wait");
    const first = store.write(created("first"));
    await new Promise((resolve) => setTimeout(resolve, 50));
    const stale = store.write(created("stale"));
    const refused = Promise.all([first, stale].map((call) => expect(call).rejects.toMatchObject(AMBIGUOUS)));
    clock.advance(5_001);
    await refused;
    const fresh = store.write(created("fresh"));
    set("open");
    await fresh;
    const { entries } = await store.scan("account", "", 10);
    expect(entries.map(({ value }) => value.id).sort()).toEqual(["first", "fresh"]);
  });
});

describe("many transactions at once", () => {
  it("are made durable together", async () => {
    const directory = tempFolder();
    const { gate, set } = commitGate();
    const { store } = await storeIn(directory, { gate });
    const tiny = (n: number) =>
      transaction({ writes: [{ put: key("hold", "a", `s-${n}`), value: { attemptId: "t" } }] });
    const walBytes = () => statSync(join(directory, "store.sqlite-wal")).size;
    await store.write(tiny(0));
    const before = walBytes();
    set("wait");
    const all = Array.from({ length: 200 }, (_, n) => store.write(tiny(n)));
    set("open");
    await Promise.all(all);
    // Each commit of its own writes at least two pages of 4 KiB.
    expect(walBytes() - before).toBeLessThan(200 * 4_096);
    expect((await store.read([key("hold", "a", "s-199")])).storeRevision).toBe(201);
  });
});

describe("a store whose disk is full", () => {
  it("is STATE_DISK_FULL, nothing of the transaction landed, and what needs no room goes on", async () => {
    const directory = tempFolder();
    const { store, events, close } = await storeIn(directory, { maxPages: 60 });
    let stored = 0;
    let refused: unknown;
    for (; refused === undefined; stored += 1) {
      const labels = { filler: "x".repeat(2_000) };
      refused = await store.write(created(`a-${stored}`, { labels })).then(
        () => undefined,
        (error: unknown) => error,
      );
    }
    stored -= 1;
    expect(refused).toMatchObject({ reason: "STATE_DISK_FULL" });
    expect(refused instanceof KeyturnError && refused.metadata).not.toHaveProperty("ambiguous");
    const state = async (from: Awaited<ReturnType<typeof storeIn>>) => ({
      accounts: (await from.store.scan("account", "", 1_000)).entries.length,
      events: (await from.events.read(START, ALL, 1_000)).length,
      revision: (await from.store.read([])).storeRevision,
    });
    const landed = { accounts: stored, events: stored, revision: stored };
    expect(await state({ store, events } as Awaited<ReturnType<typeof storeIn>>)).toEqual(landed);
    const big = created("big", { labels: { filler: "x".repeat(50_000) } });
    const [one, two] = await Promise.allSettled([
      store.write(big),
      store.write(transaction({ writes: [{ remove: key("account", "a-0") }] })),
    ]);
    expect(one).toMatchObject({ status: "rejected", reason: { reason: "STATE_DISK_FULL" } });
    expect(two).toMatchObject({ status: "fulfilled", value: { applied: true } });
    await close();
    const again = await storeIn(directory);
    expect(await state(again)).toEqual({ accounts: stored - 1, events: stored, revision: stored + 1 });
    expect((await again.store.write(big)).applied).toBe(true);
  });
});
