import type { KvRead, KvTransaction } from "../kv.ts";

/** What the worker is started with. */
export interface WorkerStart {
  readonly file: string;
  /** The epoch of the file if it has none yet. */
  readonly newEpoch: string;
  /** Prefix of the keys that are also read in order of revision. */
  readonly log: string;
  /** Prefixes of leased keys that end with the process that wrote them. */
  readonly session: readonly string[];
  /**
   * The same process goes on after its worker died: leases and session keys stay as they are, and the log after this
   * revision is told. Undefined: a new process.
   */
  readonly resumesAfter: number | undefined;
  readonly nowMs: number;
  readonly bootMs: number;
  /** Requests older than this are not executed any more: nobody waits for them. */
  readonly deadlineMs: number;
  /** Most pages that the database may have; for tests. Undefined: as many as the disk holds. */
  readonly maxPages: number | undefined;
  readonly gate: SharedArrayBuffer | undefined;
}

/** What stands in an injected gate's first Int32; the worker looks at it before and after every commit. */
export const GATE = { open: 0, wait: 1, dieBeforeCommit: 2, dieAfterCommit: 3 } as const;

export type Request = {
  readonly id: number;
  readonly nowMs: number;
  readonly bootMs: number;
} & ({ readonly reads: readonly KvRead[] } | { readonly transaction: KvTransaction });

/** A row as an array, for the smallest message: key, value, create revision, revision. */
export type RawRow = readonly [key: string, value: Uint8Array, createRevision: number, revision: number];

export type Failure =
  /** Nothing landed. */
  | "disk_full"
  /** Too old when its turn came; nothing landed. */
  | "expired"
  /** It may have landed. */
  | "doubtful";

export type Reply = { readonly id: number } & (
  | {
      readonly applied: boolean;
      readonly revision: number;
      readonly rows: readonly (readonly RawRow[])[];
    }
  | { readonly failure: Failure; readonly message: string }
);

export type FromWorker =
  | {
      readonly opened: {
        readonly epoch: string;
        readonly revision: number;
        /** What the worker before had put into the log without being able to say so. */
        readonly missed: readonly RawRow[];
      };
    }
  | { readonly replies: readonly Reply[] };
