import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { describe, expect, it } from "vitest";
import { type Kind, key } from "../../src/tokens/records.ts";
import { tempFolder } from "../fakes/temp-folder.ts";
import { storeIn } from "./embedded-setup.ts";
import { ManualClock } from "./manual-clock.ts";
import { account, event, SAMPLES, sealed, transaction } from "./samples.ts";

const START = { storeRevision: 0, index: 0 };
const ALL = ["lifecycle", "refreshed", "feed"] as const;
const ACME = key("account", "acme");

/** Another process's machine: the boot clock begins anew, the wall clock has gone on. */
function later(clock: ManualClock, ms: number): ManualClock {
  const next = new ManualClock();
  next.jump(clock.now() - next.now() + ms);
  return next;
}

function rawly<T>(directory: string, work: (db: DatabaseSync) => T): T {
  const db = new DatabaseSync(join(directory, "store.sqlite"));
  try {
    return work(db);
  } finally {
    db.close();
  }
}

const rawValue = (directory: string, like: string) =>
  rawly(directory, (db) => {
    const row = db.prepare("SELECT value FROM kv WHERE key LIKE ?").get(like);
    return Buffer.from(row?.["value"] as Uint8Array);
  });

const setRawValue = (directory: string, like: string, value: Uint8Array) =>
  rawly(directory, (db) => db.prepare("UPDATE kv SET value = ? WHERE key LIKE ?").run(value, like));

describe("a restart of the embedded store", () => {
  it("finds records, revisions, events and the epoch as they were", async () => {
    const directory = tempFolder();
    const first = await storeIn(directory);
    await first.store.write(transaction({ writes: [{ put: ACME, value: account("acme") }] }));
    await first.store.write(
      transaction({
        writes: [{ put: ACME, value: account("acme", { tenant: "second" }) }],
        events: [event("integrated_account:created"), event("feed:client_changed")],
      }),
    );
    const before = await first.events.read(START, ALL, 10);
    await first.close();
    const again = await storeIn(directory);
    const view = await again.store.read([ACME]);
    expect(view.get(ACME)).toMatchObject({ createRevision: 1, revision: 2, value: { tenant: "second" } });
    expect(view.storeRevision).toBe(2);
    expect(await again.events.read(START, ALL, 10)).toEqual(before);
    expect(before).toHaveLength(2);
    expect(again.epoch).toBe(first.epoch);
    expect(again.events.identity).toBe(first.events.identity);
    const next = await again.store.write(transaction({ writes: [{ remove: ACME }] }));
    expect(next.view.storeRevision).toBe(3);
  });

  it("has another epoch when the database is another", async () => {
    const one = await storeIn(tempFolder());
    const two = await storeIn(tempFolder());
    expect(one.epoch).toMatch(/^[0-9a-f-]{36}$/);
    expect(two.epoch).not.toBe(one.epoch);
  });

  it("lets cool-downs, holds and verdicts go on with the time they had left", async () => {
    const directory = tempFolder();
    const clock = new ManualClock();
    const first = await storeIn(directory, { clock });
    const at = key("cooldown", ...SAMPLES.cooldown.parts);
    const hold = key("hold", ...SAMPLES.hold.parts);
    await first.store.write(
      transaction({
        writes: [
          { put: at, value: SAMPLES.cooldown.value, ttlMs: 60_000 },
          { put: hold, value: SAMPLES.hold.value, ttlMs: 90_000 },
        ],
      }),
    );
    clock.advance(20_000);
    await first.close();
    const second = later(clock, 15_000);
    const again = await storeIn(directory, { clock: second });
    second.advance(24_999);
    expect((await again.store.read([at])).get(at)).toBeDefined();
    second.advance(1);
    const view = await again.store.read([at, hold]);
    expect(view.get(at)).toBeUndefined();
    expect(view.get(hold)).toBeDefined();
    second.advance(30_000);
    expect((await again.store.read([hold])).get(hold)).toBeUndefined();
  });

  it("never lets a lease last longer than it was given, however the wall clock was set back", async () => {
    const directory = tempFolder();
    const clock = new ManualClock();
    const at = key("cooldown", ...SAMPLES.cooldown.parts);
    const first = await storeIn(directory, { clock });
    await first.store.write(
      transaction({ writes: [{ put: at, value: SAMPLES.cooldown.value, ttlMs: 60_000 }] }),
    );
    await first.close();
    const second = later(clock, -86_400_000);
    const again = await storeIn(directory, { clock: second });
    second.advance(59_999);
    expect((await again.store.read([at])).get(at)).toBeDefined();
    second.advance(1);
    expect((await again.store.read([at])).get(at)).toBeUndefined();
  });

  it("frees the locks, permits, memberships and shards of the former process, and nothing else", async () => {
    const directory = tempFolder();
    const kinds: readonly Kind[] = ["lock", "permit", "member", "shard", "attempt", "hold", "budget"];
    const first = await storeIn(directory);
    for (const kind of kinds) {
      const put = { kind, parts: SAMPLES[kind].parts } as Parameters<typeof first.store.read>[0][number];
      if (!("kind" in put)) continue;
      await first.store.write(transaction({ writes: [{ put, value: SAMPLES[kind].value, ttlMs: 600_000 }] }));
    }
    await first.close();
    const again = await storeIn(directory);
    const left: Kind[] = [];
    for (const kind of kinds) {
      if ((await again.store.scan(kind, "", 10)).entries.length > 0) left.push(kind);
    }
    expect(left).toEqual(["attempt", "hold", "budget"]);
  });

  it("makes files that only their owner reads", async () => {
    const directory = join(tempFolder(), "state");
    const { store } = await storeIn(directory);
    await store.write(transaction({ writes: [{ put: ACME, value: account("acme") }] }));
    expect(statSync(directory).mode & 0o777).toBe(0o700);
    const files = readdirSync(directory);
    expect(files).toEqual(expect.arrayContaining(["lock.sqlite", "store.sqlite", "store.sqlite-wal"]));
    for (const name of files) expect(statSync(join(directory, name)).mode & 0o777, name).toBe(0o600);
  });
});

describe("what a newer version wrote", () => {
  // Field 1000, as text: in the record, and as bytes of the same kind within a slot or a sealed value.
  const unknown = Buffer.concat([Buffer.from([0xc2, 0x3e, 5]), Buffer.from("newer")]);

  it("is kept when this one changes the record", async () => {
    const directory = tempFolder();
    const first = await storeIn(directory);
    await first.store.write(transaction({ writes: [{ put: ACME, value: account("acme") }] }));
    await first.close();
    setRawValue(directory, "%/accounts/%", Buffer.concat([rawValue(directory, "%/accounts/%"), unknown]));

    const again = await storeIn(directory);
    const found = (await again.store.read([ACME])).get(ACME)?.value;
    if (found === undefined) throw new Error("not found");
    expect(found).toMatchObject(account("acme"));
    await again.store.write(transaction({ writes: [{ put: ACME, value: { ...found, tenant: "moved" } }] }));
    await again.close();
    const bytes = rawValue(directory, "%/accounts/%");
    expect(bytes.includes(unknown)).toBe(true);
    expect(bytes.includes("moved")).toBe(true);
  });

  it("is kept within the messages under it", async () => {
    const directory = tempFolder();
    const at = key("credential", "acme", "default");
    const first = await storeIn(directory);
    // The tag is the last field of the sealed value, which is the last of the record.
    const marked = { ...sealed, tag: Buffer.concat([Buffer.alloc(16, 9), unknown]) };
    const value = { incarnation: "i", generation: 1, sealed: marked };
    await first.store.write(transaction({ writes: [{ put: at, value }] }));
    await first.close();
    const bytes = rawValue(directory, "%/credentials/%");
    const tagLength = bytes.indexOf(Buffer.concat([Buffer.from([24]), Buffer.alloc(16, 9)]));
    expect(tagLength).toBeGreaterThan(0);
    bytes.writeUInt8(16, tagLength);
    setRawValue(directory, "%/credentials/%", bytes);

    const again = await storeIn(directory);
    const found = (await again.store.read([at])).get(at)?.value;
    if (found === undefined) throw new Error("not found");
    expect(found.sealed).toMatchObject(sealed);
    await again.store.write(
      transaction({ writes: [{ put: at, value: { ...found, sealed: { ...found.sealed, kekVersion: 4 } } }] }),
    );
    await again.close();
    expect(rawValue(directory, "%/credentials/%").includes(unknown)).toBe(true);
  });

  it("is refused by name when its format is another, and other records are still read", async () => {
    const directory = tempFolder();
    const first = await storeIn(directory);
    const other = key("account", "other");
    await first.store.write(
      transaction({
        writes: [
          { put: ACME, value: account("acme") },
          { put: other, value: account("other") },
        ],
      }),
    );
    await first.close();
    const bytes = rawValue(directory, "%/acme");
    expect(bytes.subarray(0, 2)).toEqual(Buffer.from([8, 1]));
    bytes.writeUInt8(2, 1);
    setRawValue(directory, "%/acme", bytes);
    const again = await storeIn(directory);
    const view = await again.store.read([ACME, other]);
    expect(view.get(other)?.value.id).toBe("other");
    expect(() => view.get(ACME)).toThrow(
      expect.objectContaining({
        reason: "INTERNAL_ERROR",
        message: expect.stringMatching(/accounts\/[0-9a-f]{2}\/acme has format 2/),
        metadata: expect.objectContaining({ cause: "record_format_unknown" }),
      }),
    );
  });

  it("and what is damaged are told apart", async () => {
    const directory = tempFolder();
    const first = await storeIn(directory);
    await first.store.write(transaction({ writes: [{ put: ACME, value: account("acme") }] }));
    await first.close();
    const whole = rawValue(directory, "%/acme");
    for (const cut of [3, 10, whole.length - 1]) {
      setRawValue(directory, "%/acme", whole.subarray(0, cut));
      const again = await storeIn(directory);
      const view = await again.store.read([ACME]);
      expect(() => view.get(ACME)).toThrow(
        expect.objectContaining({ metadata: expect.objectContaining({ cause: "record_damaged" }) }),
      );
      await again.close();
    }
  });

  it("is refused as a whole when the file's format is another, saying which", async () => {
    const directory = tempFolder();
    await (await storeIn(directory)).close();
    rawly(directory, (db) => db.exec("PRAGMA user_version = 7"));
    await expect(storeIn(directory)).rejects.toMatchObject({
      reason: "STORE_UNAVAILABLE",
      message: expect.stringContaining("file format is 7"),
      metadata: { cause: "store_not_opened" },
    });
    expect(rawly(directory, (db) => db.prepare("PRAGMA user_version").get())).toEqual({ user_version: 7 });
  });
});
