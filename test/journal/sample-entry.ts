import type { JournalEntry } from "../../src/tokens/journal.ts";

/** An answer of some 360 bytes. */
export function sampleEntry(attemptId: string, change: Partial<JournalEntry> = {}): JournalEntry {
  return {
    attemptId,
    accountId: "acme",
    slot: "default",
    tenant: "tenant-1",
    provider: "hubspot",
    client: "main",
    incarnation: "incarnation-1",
    generation: 7,
    instance: "one",
    keptAtMs: 1_767_322_800_000,
    sealed: {
      format: 1,
      kekId: "local:/default",
      kekVersion: 2,
      wrappedDek: Buffer.from([1, 2, 3]),
      iv: Buffer.alloc(12, 7),
      ciphertext: Buffer.from([0, 255, 128]),
      tag: Buffer.alloc(16, 9),
    },
    ...change,
  };
}
