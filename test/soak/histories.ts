import type { HistoryEntry } from "../../src/simulator/simulator.ts";
import type { Kind, ValueOf } from "../../src/tokens/records.ts";

/** The kinds of records whose every change is looked at. */
export const WATCHED = [
  "account",
  "attempt",
  "hold",
  "lock",
  "permit",
  "member",
] as const satisfies readonly Kind[];
export type Watched = (typeof WATCHED)[number];

/** One key's change in the store, in the store's own order. */
export type Row = {
  readonly [K in Watched]: {
    readonly revision: number;
    /** When it was heard of here, which may be later than it happened, never earlier. */
    readonly heardAtMs: number;
    readonly kind: K;
    readonly parts: readonly string[];
    /** Undefined: removed, or ended with its lease. */
    readonly value: ValueOf<K> | undefined;
  };
}[Watched];

/** A sidecar's word that the first byte of a token request is about to leave. */
export interface Send {
  readonly atMs: number;
  readonly instance: string;
  readonly accountId: string;
  readonly slot: string;
  readonly incarnation: string;
  readonly generation: number;
  /** Of the last attempt that this process has had acknowledged for the slot and generation. */
  readonly attemptId: string | undefined;
}

/** What is on record of a whole run; all times are of one machine's wall clock. */
export interface Histories {
  /** By revision. */
  readonly rows: readonly Row[];
  /** By time. */
  readonly sends: readonly Send[];
  /** The provider's: every token request that reached it. */
  readonly requests: readonly HistoryEntry[];
  /** Of each OAuth client, by its id at the provider. */
  readonly caps: ReadonlyMap<string, Caps>;
}

export interface Caps {
  readonly maxConcurrent: number;
  readonly budget: { readonly requests: number; readonly perMs: number };
}
