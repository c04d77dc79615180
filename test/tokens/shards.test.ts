import { describe, expect, it, onTestFinished } from "vitest";
import { Membership, type Role } from "../../src/tokens/membership.ts";
import { key } from "../../src/tokens/records.ts";
import { SHARDS, shardOf, sharesOf } from "../../src/tokens/shard.ts";
import { MemoryStore } from "../fakes/memory-store.ts";
import { ManualClock } from "../store/manual-clock.ts";

const LOOK_MS = 2_000;

describe("the shares of the accounts", () => {
  const before = sharesOf(["a", "b", "c"]);

  it("cover every shard, none of the members being spared", () => {
    expect([...before.keys()]).toEqual(SHARDS);
    const counts = ["a", "b", "c"].map(
      (name) => [...before.values()].filter((owner) => owner === name).length,
    );
    for (const count of counts) expect(count).toBeGreaterThan(50);
  });

  it("move only what a member that left had, or one that came gets", () => {
    const without = sharesOf(["a", "b"]);
    for (const shard of SHARDS)
      if (before.get(shard) !== "c") expect(without.get(shard)).toBe(before.get(shard));
    const withMore = sharesOf(["a", "b", "c", "d"]);
    for (const shard of SHARDS)
      if (withMore.get(shard) !== "d") expect(withMore.get(shard)).toBe(before.get(shard));
  });

  it("are nobody's where nobody schedules", () => {
    expect(sharesOf([]).size).toBe(0);
  });
});

/** Members over one store in memory, whose sessions a test ends. */
function stage() {
  const clock = new ManualClock();
  const memory = new MemoryStore(clock);
  let ids = 0;
  const stop = new AbortController();
  onTestFinished(() => stop.abort());
  const turns = async () => {
    for (let n = 0; n < 200; n += 1) await Promise.resolve();
  };
  const join = async (
    instance: string,
    roles: readonly Role[] = ["serve", "schedule"],
    place = `disk of ${instance}`,
  ) => {
    const session = { number: 1, isValid: true };
    const gained: string[] = [];
    const { store } = memory.client();
    const newId = () => `${instance}-${ids++}`;
    const host = "here";
    const reports: string[] = [];
    const report = (what: string) => void reports.push(what);
    const member = new Membership({ store, clock, session, instance, host, roles, place, newId, report });
    await member.join();
    const life = new AbortController();
    void member.run(AbortSignal.any([stop.signal, life.signal]), (shards) => gained.push(...shards));
    /** It dies, and etcd ends its session. */
    const die = () => {
      life.abort();
      session.isValid = false;
      const entries = memory
        .scanNow("shard", "", 1_000)
        .entries.filter(({ value }) => value.instance === instance);
      const removes = entries.map((entry) => ({ remove: entry.key }));
      const writes = [...removes, { remove: key("member", instance) }];
      memory.writeNow({ nonce: newId(), expect: [], writes, events: [], reads: [] });
    };
    return { member, session, gained, reports, die };
  };
  const pass = async (ms: number) => {
    for (let left = ms; left > 0; left -= 500) {
      clock.advance(500);
      await turns();
    }
  };
  return { join, pass, memory };
}

describe("members", () => {
  it("share all shards, and none is two members'", async () => {
    const { join, pass } = stage();
    const all = [await join("a"), await join("b"), await join("c")];
    await pass(6 * LOOK_MS);
    const owned = all.flatMap(({ member }) => member.shards);
    expect([...owned].sort()).toEqual(SHARDS);
    for (const { member, gained } of all)
      expect(new Set(gained).size).toBeGreaterThanOrEqual(member.shards.length);
    expect(all.filter(({ member }) => member.isFirst)).toHaveLength(1);
    expect(all.filter(({ member }) => member.owns("acme"))).toHaveLength(1);
    const sum = all.reduce((total, { member }) => total + member.share, 0);
    expect(sum).toBeCloseTo(1);
  });

  it("take over what a dead one had, and keep what they have", async () => {
    const { join, pass } = stage();
    const a = await join("a");
    const b = await join("b");
    await pass(6 * LOOK_MS);
    const kept = a.member.shards;
    b.die();
    await pass(3 * LOOK_MS);
    expect(a.member.shards).toEqual(SHARDS);
    expect(a.gained.filter((shard) => kept.includes(shard)).length).toBe(kept.length);
    expect(await a.member.isGone("b")).toBe(true);
    expect(await a.member.isGone("a")).toBe(false);
  });

  it("own nothing from the moment their session ends, and claim anew under the next one", async () => {
    const { join, pass } = stage();
    const { member, session, gained } = await join("a");
    await pass(4 * LOOK_MS);
    expect(member.owns("acme")).toBe(true);
    session.isValid = false;
    expect(member.owns("acme")).toBe(false);
    expect(member.share).toBe(0);
    Object.assign(session, { isValid: true, number: 2 });
    expect(member.owns("acme")).toBe(false);
    const before = gained.length;
    await pass(3 * LOOK_MS);
    expect(member.owns("acme")).toBe(true);
    expect(gained.slice(before)).toContain(shardOf("acme"));
  });

  it("are refused by the name of one that lives on another disk: the state directory is a copy", async () => {
    const { join, pass, memory } = stage();
    await join("a");
    const before = memory.readNow([key("member", "a")]).get(key("member", "a"));
    const copy = join("a", ["serve"], "disk of the copy").catch((error: unknown) => error);
    await pass(25_000);
    expect(await copy).toMatchObject({
      reason: "INVALID_REQUEST",
      violations: [{ field: "state_dir" }],
      message: expect.stringContaining("the sidecar a on here lives"),
    });
    expect(memory.readNow([key("member", "a")]).get(key("member", "a"))).toEqual(before);
  });

  it("take over from a dead one of their name at once on its own disk, and elsewhere when the store has ended it", async () => {
    const { join, pass } = stage();
    const first = await join("a");
    await join("a");
    const moved = join("a", ["serve", "schedule"], "another disk");
    await pass(5_000);
    first.die();
    await pass(5_000);
    expect((await moved).member.shards).toEqual(SHARDS);
  });

  it("start at the same time from two copies of one disk: one of them is a member", async () => {
    const { join, pass } = stage();
    const both = Promise.allSettled([join("a", ["serve"], "one"), join("a", ["serve"], "two")]);
    await pass(25_000);
    expect((await both).map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
  });

  it("are all counted, however many only serve", async () => {
    const { join, pass, memory } = stage();
    const serving = { host: "there", roles: ["serve"], startedAtMs: 0, appliedRevision: 0, place: "" };
    for (let n = 0; n < 1_100; n += 1) {
      const instance = `m-${String(n).padStart(4, "0")}`;
      const put = { put: key("member", instance), value: { ...serving, instance } };
      memory.writeNow({ nonce: instance, expect: [], writes: [put], events: [], reads: [] });
    }
    const last = await join("z");
    await pass(30_000);
    expect(last.member.shards).toEqual(SHARDS);
  });

  it("that only serve are members, and own nothing", async () => {
    const { join, pass, memory } = stage();
    const server = await join("server", ["serve"]);
    const scheduler = await join("scheduler");
    await pass(5 * LOOK_MS);
    expect(server.member.shards).toEqual([]);
    expect(scheduler.member.shards).toEqual(SHARDS);
    expect(memory.scanNow("member", "", 10).entries).toHaveLength(2);
  });
});
