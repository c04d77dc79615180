import { invalid, KeyturnError } from "../errors.ts";
import { classOf } from "../tokens/events.ts";
import type { Key, KeyOf, Kind } from "../tokens/records.ts";
import type { Page, Read, Store, Transaction, TransactionResult, View } from "../tokens/store.ts";
import { encode, operationOf } from "./codec.ts";
import { bucketOf, eventPath, MOST_EVENTS, pathOf, pathUnder, pathUnderShard } from "./keys.ts";
import type { Kv, KvRead, KvRow, KvWrite } from "./kv.ts";
import { entryOf, RecordView } from "./view.ts";

/** Most entries of one `under`. */
const MOST_UNDER = 1_000;

/** The records over any backend. */
export class RecordStore implements Store {
  readonly #kv: Kv;
  readonly #root: string;

  /** `root` is the prefix of the environment's keys. */
  constructor(kv: Kv, root: string) {
    this.#kv = kv;
    this.#root = root;
  }

  async read(reads: readonly Read[]): Promise<View> {
    const { revision, rows } = await this.#kv.read(this.#kvReads(reads));
    return this.#view(reads, rows, revision);
  }

  async write(transaction: Transaction): Promise<TransactionResult> {
    const { nonce, expect, reads } = transaction;
    const events = this.#events(transaction);
    const writes = [...this.#records(transaction).values(), ...events];
    const compares = expect.map(({ key, revision }) => ({ key: this.#root + pathOf(key), revision }));
    // A retry of a transaction that has landed must not write, and so not say, its events again.
    const [first] = events;
    if (first !== undefined) compares.push({ key: first.put, revision: 0 });
    const puts = writes.flatMap((write) => ("put" in write ? [{ key: write.put }] : []));
    const readAfter = this.#kvReads(reads);
    const readInstead = [...readAfter, ...puts];
    const result = await this.#kv.transact({ compares, writes, readAfter, readInstead });
    const view = this.#view(reads, result.rows, result.revision);
    const applied = result.applied || this.#hasLanded(nonce, result.rows.slice(reads.length).flat());
    return { applied, view };
  }

  async scan<K extends Kind>(kind: K, after: string, limit: number, shard?: string): Promise<Page<K>> {
    const under = shard === undefined ? pathUnder(kind, []) : pathUnderShard(kind, shard);
    if (after !== "" && !after.startsWith(under)) throw invalid("after", `is not a place among ${under}`);
    const { rows } = await this.#kv.read([
      { prefix: this.#root + under, after: after === "" ? "" : this.#root + after, limit: limit + 1 },
    ]);
    const entries = (rows[0] ?? []).slice(0, limit).map((row) => entryOf(kind, this.#path(row), row));
    const isLast = (rows[0] ?? []).length <= limit;
    const last = entries.at(-1);
    return { entries, next: isLast || last === undefined ? undefined : pathOf(keyOf(last.key)) };
  }

  /** What was put under a key is still there with our nonce, an event included: it was us. */
  #hasLanded(nonce: string, rows: readonly KvRow[]): boolean {
    return rows.some((row) => operationOf(row.value, this.#path(row)) === nonce);
  }

  /** The last write of a key counts: backends refuse two of one key. */
  #records({ writes, nonce }: Transaction): ReadonlyMap<string, KvWrite> {
    const byKey = new Map<string, KvWrite>();
    for (const write of writes) {
      if ("remove" in write) {
        const remove = this.#root + pathOf(write.remove);
        byKey.set(remove, { remove });
      } else {
        const put = this.#root + pathOf(write.put);
        byKey.set(put, { put, value: encode(write.put.kind, write.value, nonce), ttlMs: write.ttlMs });
      }
    }
    return byKey;
  }

  #events({ events, nonce }: Transaction) {
    if (events.length > MOST_EVENTS) {
      throw new KeyturnError(
        "INTERNAL_ERROR",
        `A transaction has ${events.length} events; at most ${MOST_EVENTS} fit.`,
      );
    }
    const bucket = bucketOf(events[0]?.timeMs ?? 0);
    return events.map((event, index) => ({
      put: this.#root + eventPath(classOf(event.type), bucket, nonce, index),
      value: encode("event", event, nonce),
      ttlMs: undefined,
    }));
  }

  #kvReads(reads: readonly Read[]): KvRead[] {
    return reads.map((read) =>
      "under" in read
        ? { prefix: this.#root + pathUnder(read.under, read.parts), after: "", limit: MOST_UNDER }
        : { key: this.#root + pathOf(read) },
    );
  }

  #view(reads: readonly Read[], rows: readonly (readonly KvRow[])[], revision: number): View {
    const found = reads.flatMap((read, n) => {
      const kind: Kind = "under" in read ? read.under : read.kind;
      return (rows[n] ?? []).map((row) => ({ kind, path: this.#path(row), row }));
    });
    return new RecordView(found, revision);
  }

  #path(row: KvRow): string {
    return row.key.slice(this.#root.length);
  }
}

// Each member of the mapped union is a Key; a generic one is not seen to be.
const keyOf = (key: KeyOf<Kind>): Key => key;
