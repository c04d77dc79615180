import type { HistoryEntry } from "../../src/simulator/simulator.ts";
import type { Kind, ValueOf } from "../../src/tokens/records.ts";

/** The kinds of records whose every change is looked at. */
export const WATCHED = [
  "account",
  "attempt",
  "hold",
  "lock",
  "permit",
  "budget",
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

/** A sidecar's word that it is about to take an attempt's note away: how it ended is known, or is known to be lost. */
export interface Conclusion {
  readonly instance: string;
  readonly accountId: string;
  readonly slot: string;
  /** Of the note, as it was read. */
  readonly revision: number;
}

/** One line of what a sidecar says of itself. */
export type Word = { readonly send: Send } | { readonly conclusion: Conclusion };

/** What is on record of a whole run; all times are of one machine's wall clock. */
export interface Histories {
  /** By revision. */
  readonly rows: readonly Row[];
  /** By time. */
  readonly sends: readonly Send[];
  readonly conclusions: readonly Conclusion[];
  /** The provider's: every token request that reached it. */
  readonly requests: readonly HistoryEntry[];
  /** Of each OAuth client, by its id at the provider. */
  readonly caps: ReadonlyMap<string, Caps>;
  readonly lastAnswers: readonly LastAnswer[];
}

/** What an account's caller heard when all trouble was over. */
export interface LastAnswer {
  readonly accountId: string;
  readonly clientId: string;
  /** `served`, a reason and its cause, or what the transport says. */
  readonly answer: string;
}

export interface Caps {
  readonly maxConcurrent: number;
  readonly budget: { readonly requests: number; readonly perMs: number };
}
