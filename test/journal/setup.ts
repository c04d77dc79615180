import { onTestFinished } from "vitest";
import { type JournalDisk, type JournalFile, machineDisk } from "../../src/journal/disk.ts";
import { type DiskJournal, type JournalOptions, openJournal } from "../../src/journal/journal.ts";
import { sampleEntry } from "./sample-entry.ts";

export { sampleEntry as entry };

/** The least that a file may have. */
export const SLOT_BYTES = 4_096;
export const FILE_HEAD_BYTES = 4_096;

/** Closed when the test ends. */
export async function journalIn(
  directory: string,
  options: Partial<JournalOptions> = {},
): Promise<DiskJournal> {
  const journal = await openJournal({ directory, slotBytes: SLOT_BYTES, ...options });
  onTestFinished(() => journal.close());
  return journal;
}

export async function keep(journal: DiskJournal, ...attemptIds: readonly string[]): Promise<void> {
  for (const attemptId of attemptIds) await (await journal.reserve()).keep(sampleEntry(attemptId));
}

export async function keptIds(journal: DiskJournal): Promise<readonly string[]> {
  return (await journal.entries()).map(({ attemptId }) => attemptId);
}

/** This machine's disk, with the journal's file changed by `change`. */
export function diskWith(change: (file: JournalFile) => Partial<JournalFile>): JournalDisk {
  return {
    ...machineDisk,
    async open(path) {
      const file = await machineDisk.open(path);
      return {
        size: () => file.size(),
        read: (position, lengthBytes) => file.read(position, lengthBytes),
        write: (position, bytes) => file.write(position, bytes),
        truncate: (sizeBytes) => file.truncate(sizeBytes),
        sync: () => file.sync(),
        close: () => file.close(),
        ...change(file),
      };
    },
  };
}
