import type { Clock } from "../../src/clock.ts";
import { invalid } from "../../src/errors.ts";
import {
  bucketOf,
  EVENT_CLASSES,
  MOST_EVENTS,
  pathOf,
  pathUnder,
  pathUnderShard,
} from "../../src/store/keys.ts";
import {
  classOf,
  type EventClass,
  type EventPosition,
  RETENTION_MS,
  type StoredEvent,
} from "../../src/tokens/events.ts";
import type { Key, KeyOf, Kind } from "../../src/tokens/records.ts";
import type {
  Entry,
  EventLog,
  Page,
  Read,
  Store,
  Transaction,
  TransactionResult,
  View,
} from "../../src/tokens/store.ts";

const MOST_UNDER = 1_000;

interface Held {
  readonly entry: Entry;
  /** Nonce of the transaction that wrote it. */
  readonly operation: string;
  readonly endsAtBootMs: number;
}

interface HeldEvent {
  readonly event: StoredEvent;
  readonly of: EventClass;
  readonly bucket: string;
}

/** What a client is about to do, or has just done, with the store. */
export interface StoreOp {
  readonly phase: "before" | "after";
  readonly call: "read" | "write" | "scan" | "events" | "bounds";
  /** Of a write. */
  readonly transaction?: Transaction;
  /** Of a write, after it. */
  readonly applied?: boolean;
}

export interface ClientHooks {
  /**
   * Awaited before and after every call. Throwing before: nothing happened. Throwing after: it did, and the caller does
   * not know. Never resolving: no answer comes.
   */
  readonly around?: (op: StoreOp) => Promise<void>;
  /** Runs `deliver` at some later time; every call hands the next transaction's events to one listener, in order. */
  readonly schedule?: (deliver: () => void) => void;
}

/**
 * The contract of `src/tokens/store.ts` on plain Maps, synchronous inside, so that a simulation decides what happens
 * between any two steps. Values are frozen: a record that is changed after it was written shows itself.
 */
export class MemoryStore {
  readonly identity: string;
  readonly #clock: Clock;
  readonly #records = new Map<Kind, Map<string, Held>>();
  /** Path order of each kind, as long as no path has come or gone. */
  readonly #sorted = new Map<Kind, readonly string[]>();
  readonly #leased = new Map<string, { readonly kind: Kind; readonly endsAtBootMs: number }>();
  readonly #listeners = new Set<(events: readonly StoredEvent[]) => void>();
  readonly #operations = new Set<string>();
  readonly #oldest: Record<EventClass, EventPosition> = {
    lifecycle: { storeRevision: 0, index: 0 },
    refreshed: { storeRevision: 0, index: 0 },
    feed: { storeRevision: 0, index: 0 },
  };
  #events: HeldEvent[] = [];
  #revision = 0;
  #nextEndBootMs = Number.POSITIVE_INFINITY;

  constructor(clock: Clock, identity = "memory") {
    this.#clock = clock;
    this.identity = identity;
  }

  get revision(): number {
    return this.#revision;
  }

  /** Every event that is kept, in order. */
  get events(): readonly StoredEvent[] {
    return this.#events.map(({ event }) => event);
  }

  readNow(reads: readonly Read[]): View {
    this.#endLeases();
    const found = new Map<string, Entry>();
    for (const read of reads) {
      if ("under" in read) {
        for (const path of this.#under(read.under, pathUnder(read.under, read.parts))) {
          const held = this.#of(read.under).get(path);
          if (held !== undefined) found.set(path, held.entry);
        }
      } else {
        const path = pathOf(read);
        const held = this.#of(read.kind).get(path);
        if (held !== undefined) found.set(path, held.entry);
      }
    }
    return new MemoryView(found, this.#revision);
  }

  writeNow(transaction: Transaction): TransactionResult {
    this.#endLeases();
    const { nonce, expect, writes, events, reads } = transaction;
    if (events.length > MOST_EVENTS) throw new RangeError(`a transaction has ${events.length} events`);
    const holds = expect.every(({ key, revision }) => this.#revisionOf(key) === revision);
    if (!holds || this.#operations.has(nonce)) {
      return { applied: this.#hasLanded(transaction), view: this.readNow(reads) };
    }
    const revision = this.#revision + 1;
    let changed = events.length > 0;
    for (const [path, write] of new Map(
      writes.map((write) => [pathOf("put" in write ? write.put : write.remove), write]),
    )) {
      if ("put" in write) this.#put(path, write.put, write.value, write.ttlMs, nonce, revision);
      changed = "put" in write || this.#drop(path, write.remove.kind) || changed;
    }
    if (changed) this.#revision = revision;
    this.#append(transaction, revision);
    return { applied: true, view: this.readNow(reads) };
  }

  scanNow<K extends Kind>(kind: K, after: string, limit: number, shard?: string): Page<K> {
    this.#endLeases();
    const prefix = shard === undefined ? pathUnder(kind, []) : pathUnderShard(kind, shard);
    if (after !== "" && !after.startsWith(prefix)) throw invalid("after", `is not a place among ${prefix}`);
    const paths = this.#paths(kind).filter((path) => shard === undefined || path.startsWith(prefix));
    const from = after === "" ? 0 : firstAfter(paths, after);
    const slice = paths.slice(from, from + limit);
    const entries = slice.flatMap((path) => this.#of(kind).get(path)?.entry ?? []);
    const next = from + limit < paths.length ? slice.at(-1) : undefined;
    // Kept by kind.
    return { entries: entries as unknown as readonly Entry<K>[], next };
  }

  eventsNow(after: EventPosition, classes: readonly EventClass[], limit: number): readonly StoredEvent[] {
    const wanted = this.#events.filter(
      ({ event, of }) => classes.includes(of) && compare(event.position, after) > 0,
    );
    return wanted.slice(0, limit).map(({ event }) => event);
  }

  boundsNow() {
    return { newest: { storeRevision: this.#revision, index: MOST_EVENTS - 1 }, oldest: { ...this.#oldest } };
  }

  /** What the janitor does. Returns how many events went. */
  sweepNow(): number {
    const before = this.#events.length;
    for (const of of EVENT_CLASSES) {
      const keep = bucketOf(this.#clock.now() - RETENTION_MS[of]);
      const gone = this.#events.filter((held) => held.of === of && held.bucket < keep);
      if (gone.length === 0) continue;
      this.#oldest[of] = gone.map(({ event }) => event.position).reduce(later, this.#oldest[of]);
      this.#events = this.#events.filter((held) => !gone.includes(held));
      // The note of the new mark is a write of its own.
      this.#revision += 1;
    }
    return before - this.#events.length;
  }

  /** Calls `listener` within the transaction itself; `client` delivers later. */
  followNow(listener: (events: readonly StoredEvent[]) => void): () => void {
    const own = (events: readonly StoredEvent[]) => listener(events);
    this.#listeners.add(own);
    return () => this.#listeners.delete(own);
  }

  /** One sidecar's way to the store. */
  client({ around = async () => undefined, schedule = queueMicrotask }: ClientHooks = {}): {
    readonly store: Store;
    readonly events: EventLog;
  } {
    const call = async <T>(
      op: Omit<StoreOp, "phase">,
      act: () => T,
      told?: (result: T) => Partial<StoreOp>,
    ) => {
      await around({ ...op, phase: "before" });
      const result = act();
      await around({ ...op, ...told?.(result), phase: "after" });
      return result;
    };
    const store: Store = {
      read: (reads) => call({ call: "read" }, () => this.readNow(reads)),
      write: (transaction) =>
        call(
          { call: "write", transaction },
          () => this.writeNow(transaction),
          ({ applied }) => ({ applied }),
        ),
      scan: (kind, after, limit, shard) =>
        call({ call: "scan" }, () => this.scanNow(kind, after, limit, shard)),
    };
    const events: EventLog = {
      identity: this.identity,
      read: (after, classes, limit) => call({ call: "events" }, () => this.eventsNow(after, classes, limit)),
      bounds: () => call({ call: "bounds" }, () => this.boundsNow()),
      follow: (listener) => this.#followLater(listener, schedule),
    };
    return { store, events };
  }

  #followLater(
    listener: (events: readonly StoredEvent[]) => void,
    schedule: (deliver: () => void) => void,
  ): () => void {
    const queue: (readonly StoredEvent[])[] = [];
    let stopped = false;
    const stop = this.followNow((events) => {
      queue.push(events);
      // Whatever order the deliveries run in, the events keep theirs.
      schedule(() => {
        const next = queue.shift();
        if (next !== undefined && !stopped) listener(next);
      });
    });
    return () => {
      stopped = true;
      stop();
    };
  }

  #hasLanded({ nonce, writes }: Transaction): boolean {
    if (this.#operations.has(nonce)) return true;
    return writes.some(
      (write) => "put" in write && this.#of(write.put.kind).get(pathOf(write.put))?.operation === nonce,
    );
  }

  #put(
    path: string,
    key: Key,
    value: unknown,
    ttlMs: number | undefined,
    operation: string,
    revision: number,
  ): void {
    const records = this.#of(key.kind);
    const before = records.get(path)?.entry;
    if (before === undefined) this.#sorted.delete(key.kind);
    // A write's value is of its key's kind, which a union cannot say.
    const entry = {
      key,
      value: freeze(value),
      createRevision: before?.createRevision ?? revision,
      revision,
    } as Entry;
    const endsAtBootMs = ttlMs === undefined ? Number.POSITIVE_INFINITY : this.#clock.boot() + ttlMs;
    records.set(path, { entry, operation, endsAtBootMs });
    if (ttlMs === undefined) this.#leased.delete(path);
    else this.#leased.set(path, { kind: key.kind, endsAtBootMs });
    this.#nextEndBootMs = Math.min(this.#nextEndBootMs, endsAtBootMs);
  }

  #drop(path: string, kind: Kind): boolean {
    this.#leased.delete(path);
    this.#sorted.delete(kind);
    return this.#of(kind).delete(path);
  }

  #append({ events, nonce }: Transaction, storeRevision: number): void {
    const [first] = events;
    if (first === undefined) return;
    this.#operations.add(nonce);
    const bucket = bucketOf(first.timeMs);
    const stored = events.map(
      (event, index): StoredEvent =>
        freeze({ ...event, id: `${nonce}/${index}`, position: { storeRevision, index } }),
    );
    for (const event of stored) this.#events.push({ event, of: classOf(event.type), bucket });
    for (const listener of [...this.#listeners]) listener(stored);
  }

  /** Leases that are over are gone before anything else happens. */
  #endLeases(): void {
    const bootMs = this.#clock.boot();
    if (bootMs < this.#nextEndBootMs) return;
    this.#nextEndBootMs = Number.POSITIVE_INFINITY;
    for (const [path, { kind, endsAtBootMs }] of this.#leased) {
      if (endsAtBootMs <= bootMs) this.#drop(path, kind);
      else this.#nextEndBootMs = Math.min(this.#nextEndBootMs, endsAtBootMs);
    }
  }

  #revisionOf(key: Key): number {
    return this.#of(key.kind).get(pathOf(key))?.entry.revision ?? 0;
  }

  #of(kind: Kind): Map<string, Held> {
    const records = this.#records.get(kind) ?? new Map<string, Held>();
    this.#records.set(kind, records);
    return records;
  }

  #paths(kind: Kind): readonly string[] {
    const paths = this.#sorted.get(kind) ?? [...this.#of(kind).keys()].sort();
    this.#sorted.set(kind, paths);
    return paths;
  }

  #under(kind: Kind, prefix: string): readonly string[] {
    return this.#paths(kind)
      .filter((path) => path.startsWith(prefix))
      .slice(0, MOST_UNDER);
  }
}

class MemoryView implements View {
  readonly storeRevision: number;
  readonly #found: ReadonlyMap<string, Entry>;

  constructor(found: ReadonlyMap<string, Entry>, storeRevision: number) {
    this.#found = found;
    this.storeRevision = storeRevision;
  }

  get<K extends Kind>(key: KeyOf<K>): Entry<K> | undefined {
    // A path begins with its kind's own folder.
    return this.#found.get(pathOf(key as Key)) as unknown as Entry<K> | undefined;
  }

  all<K extends Kind>(kind: K): readonly Entry<K>[] {
    const found = [...this.#found].filter(([, entry]) => entry.key.kind === kind);
    const sorted = found.sort(([a], [b]) => (a < b ? -1 : 1)).map(([, entry]) => entry);
    return sorted as unknown as readonly Entry<K>[];
  }
}

function compare(a: EventPosition, b: EventPosition): number {
  return a.storeRevision - b.storeRevision || a.index - b.index;
}

function later(a: EventPosition, b: EventPosition): EventPosition {
  return compare(a, b) < 0 ? b : a;
}

function firstAfter(paths: readonly string[], after: string): number {
  let low = 0;
  for (let high = paths.length; low < high; ) {
    const middle = (low + high) >> 1;
    if ((paths[middle] ?? "") <= after) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Bytes cannot be frozen. */
function freeze<T>(value: T): T {
  if (typeof value !== "object" || value === null || Object.isFrozen(value) || ArrayBuffer.isView(value))
    return value;
  for (const member of Object.values(value)) freeze(member);
  return Object.freeze(value);
}
