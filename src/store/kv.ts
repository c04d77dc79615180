/** A key with its bytes. Revisions count the transactions of the whole store and only grow. */
export interface KvRow {
  readonly key: string;
  readonly value: Uint8Array;
  readonly createRevision: number;
  /** Revision of the last put. */
  readonly revision: number;
}

/** What is read: one key, keys of a prefix in key order, or keys of a log in order of revision, then key. */
export type KvRead =
  | { readonly key: string }
  /** Strictly after the key `after`; "" starts. */
  | { readonly prefix: string; readonly after: string; readonly limit: number }
  | { readonly log: string; readonly fromRevision: number; readonly limit: number };

export type KvWrite =
  /** `ttlMs`: the key ends by itself after this, by the store's clock. */
  | { readonly put: string; readonly value: Uint8Array; readonly ttlMs: number | undefined }
  | { readonly remove: string }
  /** Every key from `removeFrom` on, before `to`. */
  | { readonly removeFrom: string; readonly to: string };

/** No key may be written twice in one transaction: etcd refuses that. */
export interface KvTransaction {
  /** `revision` 0 means: absent. */
  readonly compares: readonly { readonly key: string; readonly revision: number }[];
  readonly writes: readonly KvWrite[];
  /** Read after the writes, when every compare held. */
  readonly readAfter: readonly KvRead[];
  /** Read instead of writing, when one did not. */
  readonly readInstead: readonly KvRead[];
}

/** Rows of each read in turn, all of one instant. */
export interface KvView {
  readonly revision: number;
  readonly rows: readonly (readonly KvRow[])[];
}

export interface KvResult extends KvView {
  readonly applied: boolean;
}

/**
 * Ordered keys and bytes with etcd's transactions: what a backend implements. Every call ends within its own deadline;
 * it throws STORE_UNAVAILABLE (`metadata.ambiguous` is `"true"` when the transaction may have landed), STORE_FULL or
 * STATE_DISK_FULL. Keys whose time is over are absent, whether or not they have been removed yet.
 */
export interface Kv {
  read(reads: readonly KvRead[]): Promise<KvView>;
  transact(transaction: KvTransaction): Promise<KvResult>;
  /**
   * Calls `listener` with what every later transaction puts into the log, a call per transaction, in order, each
   * exactly once; in key order within one. It may begin a few transactions earlier. Returns how to stop.
   */
  follow(listener: (rows: readonly KvRow[]) => void): () => void;
}

/** The smallest text after every text that starts with `prefix`, for a prefix that ends in ASCII. */
export function endOf(prefix: string): string {
  return prefix.slice(0, -1) + String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1);
}
