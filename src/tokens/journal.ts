import type { Sealed } from "./sealing.ts";

/** A provider's answer kept on this machine's disk until the store has it. */
export interface JournalEntry {
  readonly attemptId: string;
  readonly accountId: string;
  readonly slot: string;
  readonly tenant: string;
  readonly provider: string;
  readonly client: string;
  readonly incarnation: string;
  /** The generation that was refreshed; the answer becomes `generation + 1`. */
  readonly generation: number;
  /** Which answer of its exchange it is, from 0. Absent: the first. */
  readonly step?: number;
  /** Of the exchange of a code: what it gives is stored whatever the slot holds. Absent: of a refresh. */
  readonly connection?: true;
  readonly instance: string;
  readonly keptAtMs: number;
  /** The raw answer, sealed under the KEK: any sidecar can open it. */
  readonly sealed: Sealed;
}

/** Room for one answer, taken on disk before anything is sent. */
export interface JournalSlot {
  /** Returns when the entry is on the disk for good (fsync). */
  keep(entry: JournalEntry): Promise<void>;
  /** Gives an unused slot back. After `keep` the slot belongs to the entry. */
  free(): void;
}

export interface Journal {
  /** STATE_DISK_FULL when there is no room for an answer of the largest size. */
  reserve(): Promise<JournalSlot>;
  /** What is kept and not yet removed, oldest first. */
  entries(): Promise<readonly JournalEntry[]>;
  /** All answers of an attempt: the store has it (or its account is gone). Idempotent. */
  remove(attemptId: string): Promise<void>;
}
