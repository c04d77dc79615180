import type { Journal, JournalEntry, JournalSlot } from "../../src/tokens/journal.ts";
import { Trouble } from "./trouble.ts";

/** A disk that outlives its process. */
export class FakeJournal implements Journal {
  readonly kept = new Map<string, JournalEntry>();
  readonly reserving = new Trouble();
  readonly keeping = new Trouble();

  async reserve(): Promise<JournalSlot> {
    await this.reserving.pass();
    return {
      keep: async (entry) => {
        await this.keeping.pass();
        this.kept.set(`${entry.attemptId}${entry.step ? `/${entry.step}` : ""}`, entry);
      },
      free: () => undefined,
    };
  }

  async entries(): Promise<readonly JournalEntry[]> {
    return [...this.kept.values()];
  }

  async remove(attemptId: string): Promise<void> {
    for (const [name, entry] of this.kept) if (entry.attemptId === attemptId) this.kept.delete(name);
  }
}
