import type { EventClass, EventPosition, NewEvent, StoredEvent } from "./events.ts";
import type { Key, KeyOf, Kind, ValueOf } from "./records.ts";

/** A record as the store holds it. Revisions are the store's own, one counter for all keys, and only grow. */
export interface Entry<K extends Kind = Kind> {
  readonly key: KeyOf<K>;
  readonly value: ValueOf<K>;
  readonly createRevision: number;
  /** Revision of the last write. */
  readonly revision: number;
}

/** What one transaction read, all at the same instant. */
export interface View {
  /** Undefined when the key is absent, or was not among those read. */
  get<K extends Kind>(key: KeyOf<K>): Entry<K> | undefined;
  /** All entries read of a kind; for the numbered records of a client. */
  all<K extends Kind>(kind: K): readonly Entry<K>[];
  readonly storeRevision: number;
}

/**
 * One key, or with `under` all keys of a kind whose first parts are these: for those of which there are never more than
 * 1,000. Others are scanned.
 */
export type Read = Key | { readonly under: Kind; readonly parts: readonly string[] };

export type Write =
  | {
      readonly put: Key;
      readonly value: ValueOf<Kind>;
      /** The record ends by itself after this, by the store's clock. Undefined: it stays. */
      readonly ttlMs?: number;
    }
  | { readonly remove: Key };

/** All of it happens, or none. */
export interface Transaction {
  /**
   * Unique per intent. The same transaction may be sent again after an ambiguous failure: when it had landed, which
   * its events or its nonce on a written key prove, it counts as applied and changes nothing.
   */
  readonly nonce: string;
  /** `revision` 0 means: absent. */
  readonly expect: readonly { readonly key: Key; readonly revision: number }[];
  readonly writes: readonly Write[];
  readonly events: readonly NewEvent[];
  /** Read in the same instant: after the writes when applied, as it stood when refused. */
  readonly reads: readonly Read[];
}

export type TransactionResult = { readonly applied: boolean; readonly view: View };

/**
 * The records. Every call ends within its own deadline (1.5 s in a cluster, and as much again after a connection broke) with a result or with STORE_UNAVAILABLE;
 * `metadata.ambiguous` is `"true"` when a transaction may have landed. STORE_FULL and STATE_DISK_FULL: nothing landed.
 */
export interface Store {
  read(reads: readonly Read[]): Promise<View>;
  write(transaction: Transaction): Promise<TransactionResult>;
  /**
   * Entries of a kind in key order, strictly after `after` (an opaque string from the page before; "" starts). `shard`:
   * only accounts or credentials of that one.
   */
  scan<K extends Kind>(kind: K, after: string, limit: number, shard?: string): Promise<Page<K>>;
}

export interface Page<K extends Kind> {
  readonly entries: readonly Entry<K>[];
  /** Give it to the next call; undefined at the end. */
  readonly next: string | undefined;
}

/** The one order of everything that happened. */
export interface EventLog {
  /** Random per database: a replaced one has another. */
  readonly identity: string;
  /** How often the store was found set back since this process began: its order has begun anew then. Undefined: never. */
  readonly setBacks?: number;
  /** Stored events of these classes after a position, in order, at most `limit`. */
  read(after: EventPosition, classes: readonly EventClass[], limit: number): Promise<readonly StoredEvent[]>;
  /** The newest position now, and for each class the position before which events have been dropped. */
  bounds(): Promise<{
    readonly newest: EventPosition;
    readonly oldest: Readonly<Record<EventClass, EventPosition>>;
  }>;
  /**
   * What lies in memory after a position, at once; undefined when that does not reach back so far, or where nothing
   * does. It may be a moment behind the store: whoever follows is called when there is more.
   */
  recent?(
    after: EventPosition,
    classes: readonly EventClass[],
    limit: number,
  ): readonly StoredEvent[] | undefined;
  /** False while followers may not have been told what happened more than a few seconds ago. Undefined: they always are. */
  readonly isCurrent?: boolean;
  /** Boot clock: everything that had happened by then has been told. Undefined: all has. */
  readonly currentAtBootMs?: number;
  /** Calls `listener` with every transaction's events, in order, feed records included. Returns how to stop. */
  follow(listener: (events: readonly StoredEvent[]) => void): () => void;
}
