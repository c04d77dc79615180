import { DatabaseSync, type StatementSync } from "node:sqlite";
import { endOf, type KvRead, type KvTransaction } from "../kv.ts";
import type { RawRow, WorkerStart } from "./protocol.ts";

/** Layout of the tables below; a file with a higher number is not opened. */
const FILE_FORMAT = 1;

const TABLES = `
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS kv (
  key TEXT PRIMARY KEY,
  value BLOB NOT NULL,
  created INTEGER NOT NULL,
  revision INTEGER NOT NULL,
  ends_boot REAL,  -- by the boot clock of the process that runs now
  ends_wall REAL,  -- what is left of a lease when the next process opens the file
  ttl REAL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS leased ON kv (ends_boot) WHERE ends_boot IS NOT NULL;
PRAGMA user_version = ${FILE_FORMAT};`;

const LIVE = "(ends_boot IS NULL OR ends_boot > ?)";
const COLUMNS = "key, value, created, revision";

type RawView = { readonly revision: number; readonly rows: readonly (readonly RawRow[])[] };
type RawResult = RawView & { readonly applied: boolean };

const quoted = (text: string) => `'${text.replaceAll("'", "''")}'`;

/** The file itself, used by one thread. Every method blocks on the disk and throws node:sqlite's own errors. */
export class Database {
  readonly epoch: string;
  readonly #db: DatabaseSync;
  readonly #get: StatementSync;
  readonly #range: StatementSync;
  readonly #log: StatementSync;
  readonly #put: StatementSync;
  readonly #remove: StatementSync;
  readonly #removeRange: StatementSync;
  readonly #sweep: StatementSync;
  readonly #setRevision: StatementSync;
  #revision: number;

  constructor(start: WorkerStart) {
    const db = new DatabaseSync(start.file);
    this.#db = db;
    db.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY;");
    if (start.maxPages !== undefined) db.exec(`PRAGMA max_page_count = ${start.maxPages}`);
    this.#refuseNewerFile();
    const bounds = `key >= ${quoted(start.log)} AND key < ${quoted(endOf(start.log))}`;
    // The log's own index: a partial one, so that other records do not pay for it.
    db.exec(`BEGIN; ${TABLES}
CREATE INDEX IF NOT EXISTS "log of ${start.log.replaceAll('"', "")}" ON kv (revision, key) WHERE ${bounds}; COMMIT`);
    this.#get = this.#select(`key = ? AND ${LIVE}`);
    this.#range = this.#select(`key > ? AND key < ? AND ${LIVE} ORDER BY key LIMIT ?`);
    this.#log = this.#select(
      `revision >= ? AND key >= ? AND key < ? AND ${bounds} ORDER BY revision, key LIMIT ?`,
    );
    this.#put = db.prepare(`INSERT INTO kv VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET
      value = excluded.value, revision = excluded.revision, ends_boot = excluded.ends_boot,
      ends_wall = excluded.ends_wall, ttl = excluded.ttl`);
    this.#remove = db.prepare("DELETE FROM kv WHERE key = ?");
    this.#removeRange = db.prepare("DELETE FROM kv WHERE key >= ? AND key < ?");
    this.#sweep = db.prepare("DELETE FROM kv WHERE ends_boot <= ?");
    this.#setRevision = db.prepare("UPDATE meta SET value = ? WHERE name = 'revision'");
    const insert = db.prepare("INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO NOTHING");
    const meta = db.prepare("SELECT value FROM meta WHERE name = ?");
    insert.run("epoch", start.newEpoch);
    insert.run("revision", 0);
    this.epoch = String(meta.get("epoch")?.["value"]);
    this.#revision = Number(meta.get("revision")?.["value"]);
    if (start.resumesAfter === undefined) this.#endFormerProcess(start);
  }

  get revision(): number {
    return this.#revision;
  }

  close(): void {
    this.#db.close();
  }

  read(reads: readonly KvRead[], bootMs: number): RawView {
    return { revision: this.#revision, rows: reads.map((read) => this.#rows(read, bootMs)) };
  }

  /**
   * Runs transactions one after the other and makes all of them durable at once. When it throws, none has landed as
   * far as this file can tell.
   */
  transact(
    transactions: readonly KvTransaction[],
    nowMs: number,
    bootMs: number,
    beforeCommit: () => void,
  ): readonly RawResult[] {
    const before = this.#revision;
    this.#db.exec("BEGIN IMMEDIATE");
    try {
      this.#sweep.run(bootMs);
      const results = transactions.map((transaction) => this.#one(transaction, nowMs, bootMs));
      if (this.#revision !== before) this.#setRevision.run(this.#revision);
      beforeCommit();
      this.#db.exec("COMMIT");
      return results;
    } catch (error) {
      this.#revision = before;
      // Some failures have rolled back already.
      if (this.#db.isTransaction) this.#db.exec("ROLLBACK");
      throw error;
    }
  }

  #one(transaction: KvTransaction, nowMs: number, bootMs: number): RawResult {
    const applied = transaction.compares.every(({ key, revision }) => {
      const row = this.#get.get(key, bootMs) as unknown as RawRow | undefined;
      return (row?.[3] ?? 0) === revision;
    });
    if (!applied) return { applied, ...this.read(transaction.readInstead, bootMs) };
    const revision = this.#revision + 1;
    let changes = 0;
    for (const write of transaction.writes) {
      if ("put" in write) {
        const { put, value, ttlMs } = write;
        const leased = ttlMs !== undefined;
        this.#put.run(
          put,
          value,
          revision,
          revision,
          leased ? bootMs + ttlMs : null,
          leased ? nowMs + ttlMs : null,
          ttlMs ?? null,
        );
        changes += 1;
      } else if ("remove" in write) changes += Number(this.#remove.run(write.remove).changes);
      else changes += Number(this.#removeRange.run(write.removeFrom, write.to).changes);
    }
    if (changes > 0) this.#revision = revision;
    return { applied, ...this.read(transaction.readAfter, bootMs) };
  }

  #rows(read: KvRead, bootMs: number): readonly RawRow[] {
    if ("key" in read) return this.#all(this.#get, read.key, bootMs);
    if ("prefix" in read) {
      const after = read.after === "" ? read.prefix : read.after;
      return this.#all(this.#range, after, endOf(read.prefix), bootMs, read.limit);
    }
    return this.#all(this.#log, read.fromRevision, read.log, endOf(read.log), read.limit);
  }

  #all(statement: StatementSync, ...parameters: (string | number)[]): readonly RawRow[] {
    // The columns of every such statement are COLUMNS, as arrays.
    return statement.all(...parameters) as unknown as RawRow[];
  }

  #select(where: string): StatementSync {
    const statement = this.#db.prepare(`SELECT ${COLUMNS} FROM kv WHERE ${where}`);
    statement.setReturnArrays(true);
    return statement;
  }

  #refuseNewerFile(): void {
    const format = Number(this.#db.prepare("PRAGMA user_version").get()?.["user_version"]);
    if (format <= FILE_FORMAT) return;
    throw new Error(`its file format is ${format}, and this version knows up to ${FILE_FORMAT}`);
  }

  /** All of the log after a revision. */
  logAfter(revision: number, log: string): readonly RawRow[] {
    return this.#all(this.#log, revision + 1, log, endOf(log), -1);
  }

  /** What the former process held as itself is free; other leases go on with the time they had left. */
  #endFormerProcess({ session, nowMs, bootMs }: WorkerStart): void {
    this.#db.exec("BEGIN IMMEDIATE");
    for (const prefix of session) this.#removeRange.run(prefix, endOf(prefix));
    this.#db
      .prepare("UPDATE kv SET ends_boot = ? + min(ttl, max(0, ends_wall - ?)) WHERE ends_boot IS NOT NULL")
      .run(bootMs, nowMs);
    this.#sweep.run(bootMs);
    this.#db.exec("COMMIT");
  }
}
