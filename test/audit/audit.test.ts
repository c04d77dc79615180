import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { Writable } from "node:stream";
import { describe, expect, it } from "vitest";
import { createAudit } from "../../src/audit/audit.ts";
import { EMPTY_CHAIN, GENESIS } from "../../src/audit/record.ts";
import { openOnDisk } from "../../src/audit/segment-sink.ts";
import { verifyAudit } from "../../src/audit/verify.ts";
import { tempFolder } from "../fakes/temp-folder.ts";
import { ManualClock } from "../store/manual-clock.ts";
import { auditIn, entry, queried, segmentsOf } from "./setup.ts";

const DAY_MS = 86_400_000;
const turn = () => new Promise((resolve) => setTimeout(resolve, 5));

describe("the audit trail", () => {
  it("has a record for each entry: numbered, timed, chained and whole", async () => {
    const clock = new ManualClock();
    const audit = await auditIn(tempFolder(), clock);
    expect(audit.head()).toEqual(EMPTY_CHAIN);
    await audit.record(entry("acme", { detail: { from: "1", ключ: "\u2028\ud800" }, peer: "uds" }));
    const first = audit.head();
    clock.advance(1);
    await audit.record({ operation: "accounts.delete", outcome: "begun", caller: "admin" });
    const empty = { peer: "", purpose: "", tenant: "", account: "", kekId: "", kekVersion: 0, detail: {} };
    expect(await queried(audit)).toEqual([
      {
        ...entry("acme"),
        instance: "one",
        seq: 1,
        prev: GENESIS,
        atMs: clock.now() - 1,
        peer: "uds",
        count: 1,
        detail: { from: "1", ключ: "\u2028\ud800" },
      },
      {
        ...empty,
        instance: "one",
        seq: 2,
        prev: first.hash,
        atMs: clock.now(),
        operation: "accounts.delete",
        outcome: "begun",
        caller: "admin",
        count: 1,
      },
    ]);
  });

  it("is one line of ASCII a record, whatever is in it", async () => {
    const directory = tempFolder();
    const audit = await auditIn(directory);
    await audit.record(entry('a\n"b"\u0000\u007f\u2028ü', { caller: "x".repeat(5_000) }));
    const [segment = ""] = segmentsOf(directory);
    const bytes = readFileSync(segment);
    expect(bytes.every((byte) => byte < 0x7f && (byte >= 0x20 || byte === 0x0a))).toBe(true);
    expect(bytes.toString().split("\n")).toHaveLength(2);
    const [record] = await queried(audit);
    expect(record?.account).toBe('a\n"b"\u0000\u007f\u2028ü');
    expect(record?.caller).toHaveLength(1_024);
  });

  it("makes many records durable with few syncs, in the order they were asked for", async () => {
    let syncs = 0;
    const directory = tempFolder();
    const audit = await auditIn(directory, undefined, {
      openSegment: async (path) => {
        const file = await openOnDisk(path);
        return {
          ...file,
          sync() {
            syncs += 1;
            return file.sync();
          },
        };
      },
    });
    await Promise.all(Array.from({ length: 500 }, (_, n) => audit.record(entry(`a-${n}`))));
    expect(syncs).toBe(1);
    expect((await queried(audit)).map(({ account }) => account)).toEqual(
      Array.from({ length: 500 }, (_, n) => `a-${n}`),
    );
  });

  it("begins a new private file with each UTC day and when one is full, and stays one chain", async () => {
    const directory = join(tempFolder(), "audit");
    const clock = new ManualClock();
    const audit = await auditIn(directory, clock, { segmentBytes: 700 });
    for (let n = 1; n <= 3; n += 1) await audit.record(entry(`account-${n}`));
    clock.advance(DAY_MS);
    await audit.record(entry("account-4"));
    clock.jump(-DAY_MS);
    await audit.record(entry("account-5"));
    expect(segmentsOf(directory).map((path) => path.slice(directory.length + 1))).toEqual([
      "audit-0000000000000001-2026-01-02.jsonl",
      "audit-0000000000000003-2026-01-02.jsonl",
      "audit-0000000000000004-2026-01-03.jsonl",
      "audit-0000000000000005-2026-01-02.jsonl",
    ]);
    expect([directory, ...segmentsOf(directory)].map((path) => statSync(path).mode & 0o777)).toEqual([
      0o700, 0o600, 0o600, 0o600, 0o600,
    ]);
    const proof = await verifyAudit(directory, audit.head());
    expect(proof).toMatchObject({ intact: true, records: 5, firstSeq: 1, head: audit.head() });
  });

  it("writes to a stream as well, goes on with the chain it is given, and cannot be asked there", async () => {
    const lines: string[] = [];
    let broken = false;
    const stream = new Writable({
      write(chunk, _, done) {
        if (!broken) lines.push(String(chunk));
        done(broken ? new Error("EPIPE") : undefined);
      },
    });
    const after = { seq: 41, hash: "ab".repeat(32) };
    const audit = await createAudit({ instance: "one", clock: new ManualClock(), to: { stream, after } });
    await audit.record(entry("acme"));
    expect(JSON.parse(lines.join(""))).toMatchObject({ seq: 42, prev: after.hash, account: "acme" });
    expect(() => audit.query({})).toThrow(expect.objectContaining({ reason: "INVALID_REQUEST" }));
    broken = true;
    await expect(audit.record(entry("other"))).rejects.toMatchObject({
      reason: "STORE_UNAVAILABLE",
      metadata: { cause: "audit" },
    });
    expect(audit.head().seq).toBe(42);
    await audit.close();
  });

  it("writes what waits before it closes, and nothing afterwards", async () => {
    const directory = tempFolder();
    const audit = await auditIn(directory);
    const under = Array.from({ length: 3 }, (_, n) => audit.record(entry(`a-${n}`)));
    await audit.close();
    await Promise.all(under);
    await expect(audit.record(entry("late"))).rejects.toMatchObject({ reason: "SHUTTING_DOWN" });
    audit.warmOpen("late", "reports", "get_token");
    expect(await verifyAudit(directory, audit.head())).toMatchObject({ intact: true, records: 3 });
  });
});

describe("a query", () => {
  it("gives the records that match in every member, oldest first, from every file", async () => {
    const clock = new ManualClock();
    const startMs = clock.now();
    const audit = await auditIn(tempFolder(), clock, { segmentBytes: 700 });
    for (let n = 0; n < 8; n += 1) {
      await audit.record(
        entry(`account-${n % 2}`, {
          tenant: n < 4 ? "t-1" : "t-2",
          caller: n === 5 ? "admin" : "reports",
          operation: n === 6 ? "kek.rotate" : "kek.unwrap",
          outcome: n === 7 ? "SEAL_INVALID" : "ok",
        }),
      );
      clock.advance(1_000);
    }
    const seqs = async (filter: Parameters<typeof queried>[1]) =>
      (await queried(audit, filter)).map(({ seq }) => seq);
    expect(await seqs({})).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expect(await seqs({ fromMs: startMs + 2_000, untilMs: startMs + 4_000 })).toEqual([3, 4]);
    expect(await seqs({ account: "account-1" })).toEqual([2, 4, 6, 8]);
    expect(await seqs({ account: "account-1", tenant: "t-2" })).toEqual([6, 8]);
    expect(await seqs({ caller: "admin" })).toEqual([6]);
    expect(await seqs({ operation: "kek.rotate" })).toEqual([7]);
    expect(await seqs({ outcome: "SEAL_INVALID" })).toEqual([8]);
    expect(await seqs({ afterSeq: 5, limit: 2 })).toEqual([6, 7]);
    for (let after = 0; after <= 9; after += 1) {
      expect(await seqs({ afterSeq: after })).toHaveLength(Math.max(0, 8 - after));
    }
    expect(await seqs({ limit: 0 })).toEqual([]);
    expect(await seqs({ tenant: "t-3" })).toEqual([]);
  });
});

describe("openings of cached tokens", () => {
  it("are summed per account, caller and purpose and written down within a minute", async () => {
    const clock = new ManualClock();
    const audit = await auditIn(tempFolder(), clock);
    const sinceMs = clock.now();
    for (let n = 0; n < 1_000; n += 1) audit.warmOpen("acme", "reports", "get_token", "tenant-1");
    audit.warmOpen("acme", "billing", "get_token");
    audit.warmOpen("other", "reports", "get_token");
    clock.advance(49_999);
    await turn();
    expect(await queried(audit)).toEqual([]);
    clock.advance(1);
    await expect.poll(() => queried(audit)).toHaveLength(3);
    const since = new Date(sinceMs).toISOString();
    expect(await queried(audit)).toMatchObject([
      { operation: "token.open", account: "acme", caller: "reports", tenant: "tenant-1", count: 1_000 },
      { operation: "token.open", account: "acme", caller: "billing", count: 1 },
      { operation: "token.open", account: "other", caller: "reports", count: 1, detail: { since } },
    ]);
    audit.warmOpen("acme", "reports", "get_token");
    clock.advance(50_000);
    await expect.poll(() => queried(audit, { afterSeq: 3 })).toMatchObject([{ count: 1 }]);
  });

  it("are written down when the trail closes", async () => {
    const directory = tempFolder();
    const audit = await auditIn(directory);
    audit.warmOpen("acme", "reports", "get_token");
    audit.warmOpen("acme", "reports", "get_token");
    await audit.close();
    expect(await queried(await auditIn(directory))).toMatchObject([{ account: "acme", count: 2 }]);
  });

  it("have a record each when that is asked for", async () => {
    const audit = await auditIn(tempFolder(), undefined, { everyOpen: true });
    for (let n = 0; n < 5; n += 1) audit.warmOpen("acme", "reports", "get_token");
    await audit.record(entry("behind them"));
    const records = await queried(audit, { operation: "token.open" });
    expect(records.map(({ count }) => count)).toEqual([1, 1, 1, 1, 1]);
  });
});

describe("retention", () => {
  it("drops whole files past their days, after a record that says up to where, and the chain stays proven", async () => {
    const directory = tempFolder();
    const clock = new ManualClock();
    const audit = await auditIn(directory, clock, { retentionDays: 400, segmentBytes: 700 });
    for (let n = 1; n <= 4; n += 1) await audit.record(entry(`account-${n}`));
    clock.advance(10 * DAY_MS);
    await audit.record(entry("account-5"));
    clock.advance(390 * DAY_MS);
    await audit.record(entry("account-6"));
    await turn();
    expect(segmentsOf(directory)).toHaveLength(4);
    clock.advance(10 * DAY_MS + 1);
    await audit.record(entry("account-7"));
    await expect.poll(() => segmentsOf(directory).length).toBeLessThan(5);
    const records = await queried(audit);
    expect(records.map(({ account, operation }) => account || operation)).toEqual([
      "account-5",
      "account-6",
      "account-7",
      "audit.retention",
    ]);
    expect(records.at(-1)?.detail).toEqual({ through_seq: "4", through_hash: records[0]?.prev, days: "400" });
    expect(await verifyAudit(directory, audit.head())).toMatchObject({ intact: true, firstSeq: 5 });
    await audit.close();
    await (await auditIn(directory, clock)).record(entry("account-9"));
    expect((await verifyAudit(directory)).intact).toBe(true);
  });
});
