import { KeyturnError } from "../../src/errors.ts";
import type { Journal, JournalEntry } from "../../src/tokens/journal.ts";
import type { Process } from "./machine.ts";
import type { Weather } from "./weather.ts";

/** A state directory: survives its process, unless it is lost. */
export class Disk {
  /** By attempt id, oldest first. */
  readonly entries = new Map<string, JournalEntry>();
  isLost = false;
}

export interface DiskWatch {
  /** `keep` has told the process that the entry is there for good. */
  kept(disk: Disk, entry: JournalEntry): void;
  removed(entry: JournalEntry): void;
}

/** One process's journal on its disk. */
export class FakeJournal implements Journal {
  readonly #disk: Disk;
  readonly #process: Process;
  readonly #weather: Weather;
  readonly #watch: DiskWatch;
  /** Room taken and neither kept in nor given back. */
  reserved = 0;

  constructor(disk: Disk, process: Process, weather: Weather, watch: DiskWatch) {
    this.#disk = disk;
    this.#process = process;
    this.#weather = weather;
    this.#watch = watch;
  }

  async reserve() {
    const { host } = this.#process;
    await this.#process.hear(host.random.between(0, 2), () => {
      if (!this.#weather.isDiskFull(host.name)) return;
      host.chronicle.seen("disk full");
      throw new KeyturnError("STATE_DISK_FULL", "no room");
    });
    host.pass("journal.reserved");
    this.reserved += 1;
    let mine = true;
    const free = () => {
      if (mine) this.reserved -= 1;
      mine = false;
    };
    return {
      free,
      keep: async (entry: JournalEntry) => {
        host.pass("journal.keep");
        if (this.#weather.isDiskFull(host.name) && host.random.chance(0.3)) {
          await this.#process.hear(1, () => {
            host.chronicle.seen("answer not kept");
            throw new KeyturnError("STATE_DISK_FULL", "the disk does not write");
          });
        }
        if (!mine) throw new Error("a slot was kept in after it had been given back");
        free();
        // On the platter first; the process hears of it later, or never.
        host.time.after(host.random.between(1, 5), () => {
          if (this.#process.state === "dead" && host.random.chance(0.5)) return;
          this.#disk.entries.set(entry.attemptId, entry);
        });
        const ms = host.random.chance(0.02) ? 2_000 : host.random.between(5, 12);
        await this.#process.hear(ms, () => this.#watch.kept(this.#disk, entry));
        host.pass("journal.kept");
      },
    };
  }

  entriesNow(): readonly JournalEntry[] {
    return [...this.#disk.entries.values()];
  }

  entries(): Promise<readonly JournalEntry[]> {
    return this.#process.hear(this.#process.host.random.between(1, 5), () => this.entriesNow());
  }

  async remove(attemptId: string): Promise<void> {
    const { host } = this.#process;
    await this.#process.hear(host.random.between(1, 5), () => {
      const entry = this.#disk.entries.get(attemptId);
      this.#disk.entries.delete(attemptId);
      if (entry !== undefined) this.#watch.removed(entry);
    });
    host.pass("journal.removed");
  }
}
