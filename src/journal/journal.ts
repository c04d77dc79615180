import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { KeyturnError } from "../errors.ts";
import type { Journal, JournalEntry, JournalSlot } from "../tokens/journal.ts";
import { type JournalDisk, machineDisk } from "./disk.ts";
import { diskFault, unknownFormat } from "./fault.ts";
import { encodeFrame } from "./frame.ts";
import { SlotFile } from "./slots.ts";

/** Holds an answer of 64 KiB with headers of 16 KiB, were each of their bytes escaped. */
const SLOT_BYTES = 128 * 1024;
const EPOCH = /^[0-9a-f]{32}\n$/;

export interface JournalOptions {
  /** This instance's own folder, made with mode 0700 where it is missing. One process holds it at a time. */
  readonly directory: string;
  /** Largest entry, for a new file; an existing one keeps its own. */
  readonly slotBytes?: number;
  readonly disk?: JournalDisk;
}

/** The journal on this machine's disk. */
export interface DiskJournal extends Journal {
  /** Random per state directory, kept beside the journal: a store that knows another one was replaced. */
  readonly epoch: string;
  /** Slots found at opening whose write had not finished, or whose bytes have rotted since. */
  readonly torn: number;
  /** Ends after what is being written; every later call fails with SHUTTING_DOWN. */
  close(): Promise<void>;
}

/** Opens or makes `answers.journal` and `epoch`. STATE_DISK_FULL, STORE_UNAVAILABLE with the cause in metadata. */
export async function openJournal(options: JournalOptions): Promise<DiskJournal> {
  const { directory, slotBytes = SLOT_BYTES, disk = machineDisk } = options;
  try {
    const file = await disk.open(join(directory, "answers.journal"));
    try {
      const epoch = await readEpoch(disk, join(directory, "epoch"));
      const slots = await SlotFile.open(file, slotBytes);
      return await Answers.of(slots, epoch);
    } catch (error) {
      await file.close();
      throw error;
    }
  } catch (error) {
    throw diskFault(error);
  }
}

async function readEpoch(disk: JournalDisk, path: string): Promise<string> {
  const found = await disk.readText(path);
  if (found === undefined) {
    const made = randomBytes(16).toString("hex");
    await disk.writeText(path, `${made}\n`);
    return made;
  }
  if (EPOCH.test(found)) return found.trim();
  throw unknownFormat("the file epoch beside it is damaged");
}

interface Kept {
  readonly attemptId: string;
  readonly slot: number;
  readonly keptAtMs: number;
}

function nameOf({ attemptId, step = 0 }: JournalEntry): string {
  return `${attemptId}/${step}`;
}

class Answers implements DiskJournal {
  readonly epoch: string;
  readonly #slots: SlotFile;
  readonly #kept = new Map<string, Kept>();
  readonly #free: number[] = [];
  #torn = 0;
  #closed: Promise<void> | undefined;

  private constructor(slots: SlotFile, epoch: string) {
    this.#slots = slots;
    this.epoch = epoch;
  }

  static async of(slots: SlotFile, epoch: string): Promise<Answers> {
    const journal = new Answers(slots, epoch);
    for (let slot = 0; slot < slots.count; slot += 1) await journal.#find(slot);
    return journal;
  }

  get torn(): number {
    return this.#torn;
  }

  async reserve(): Promise<JournalSlot> {
    this.#refuseWhenClosed();
    return new Room(this, this.#free.pop() ?? (await this.#slots.grow()));
  }

  async entries(): Promise<readonly JournalEntry[]> {
    this.#refuseWhenClosed();
    const entries: JournalEntry[] = [];
    const kept = [...this.#kept].sort(([, a], [, b]) => a.keptAtMs - b.keptAtMs);
    for (const [name, { slot }] of kept) {
      const frame = await this.#slots.read(slot).catch((error: unknown) => {
        throw diskFault(error);
      });
      // Removed, and its slot taken by another, while we were reading.
      if (frame.kind === "entry" && nameOf(frame.entry) === name) entries.push(frame.entry);
    }
    return entries;
  }

  async remove(attemptId: string): Promise<void> {
    this.#refuseWhenClosed();
    // The last one first: a crash in between leaves no answer without those before it.
    const kept = [...this.#kept].filter(([, each]) => each.attemptId === attemptId).reverse();
    for (const [name, { slot }] of kept) {
      this.#kept.delete(name);
      await this.release(slot);
    }
  }

  close(): Promise<void> {
    this.#closed ??= this.#slots.close();
    return this.#closed;
  }

  /** For its own slots. */
  async keep(slot: number, entry: JournalEntry): Promise<void> {
    this.#refuseWhenClosed();
    const frame = encodeFrame(entry);
    if (frame.length > this.#slots.slotBytes) {
      throw new KeyturnError(
        "INTERNAL_ERROR",
        `A provider's answer takes ${frame.length} bytes; a slot of the journal has ${this.#slots.slotBytes}.`,
      );
    }
    await this.#slots.fill(slot, frame);
    const { attemptId, keptAtMs } = entry;
    this.#kept.set(nameOf(entry), { attemptId, slot, keptAtMs });
  }

  /** For its own slots: one that has been written to. */
  async release(slot: number): Promise<void> {
    // An entry that stays, or comes back with a crash, is replayed once more, which changes nothing.
    if (this.#closed === undefined) await this.#slots.empty(slot).catch(() => undefined);
    this.giveBack(slot);
  }

  /** For its own slots: one that is still empty. */
  giveBack(slot: number): void {
    this.#free.push(slot);
  }

  async #find(slot: number): Promise<void> {
    const frame = await this.#slots.read(slot);
    if (frame.kind === "unknown_format") {
      throw unknownFormat(`an answer's format ${frame.format} is unknown to this release`);
    }
    if (frame.kind === "entry" && !this.#kept.has(nameOf(frame.entry))) {
      const { attemptId, keptAtMs } = frame.entry;
      this.#kept.set(nameOf(frame.entry), { attemptId, slot, keptAtMs });
      return;
    }
    if (frame.kind === "torn") this.#torn += 1;
    if (frame.kind === "empty") this.giveBack(slot);
    else await this.release(slot);
  }

  #refuseWhenClosed(): void {
    if (this.#closed === undefined) return;
    throw new KeyturnError("SHUTTING_DOWN", "The journal is closed: this sidecar is stopping.");
  }
}

class Room implements JournalSlot {
  readonly #journal: Answers;
  readonly #slot: number;
  #state: "empty" | "keeping" | "kept" | "failed" | "freed" = "empty";

  constructor(journal: Answers, slot: number) {
    this.#journal = journal;
    this.#slot = slot;
  }

  async keep(entry: JournalEntry): Promise<void> {
    if (this.#state !== "empty" && this.#state !== "failed") {
      throw new KeyturnError("INTERNAL_ERROR", "A slot of the journal keeps one answer.");
    }
    this.#state = "keeping";
    try {
      await this.#journal.keep(this.#slot, entry);
      this.#state = "kept";
    } catch (error) {
      this.#state = "failed";
      throw error;
    }
  }

  free(): void {
    const was = this.#state;
    if (was !== "empty" && was !== "failed") return;
    this.#state = "freed";
    if (was === "empty") this.#journal.giveBack(this.#slot);
    // What was half-written goes first, so that it does not count as torn at the next start.
    else void this.#journal.release(this.#slot);
  }
}
