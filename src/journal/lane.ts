import type { JournalFile } from "./disk.ts";

interface Job {
  readonly write: () => Promise<void>;
  readonly needsSync: boolean;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/**
 * All writes of one file, one after another, so that a stalled disk holds one thread of the pool and not all four.
 * Whatever waits while a batch is under way goes into the next, and one fdatasync serves it.
 */
export class Lane {
  readonly #file: JournalFile;
  #waiting: Job[] = [];
  #running: Promise<void> | undefined;

  constructor(file: JournalFile) {
    this.#file = file;
  }

  /** Resolves when `write` is done and on the disk for good. */
  durably(write: () => Promise<void>): Promise<void> {
    return this.#add(write, true);
  }

  /** Resolves when `write` is done; a crash of the machine may undo it. */
  soon(write: () => Promise<void>): Promise<void> {
    return this.#add(write, false);
  }

  /** Resolves when nothing is waiting or under way. */
  async idle(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
  }

  #add(write: () => Promise<void>, needsSync: boolean): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#waiting.push({ write, needsSync, resolve, reject });
    this.#running ??= this.#run();
    return promise;
  }

  async #run(): Promise<void> {
    // Everything asked for in the same turn belongs to the first batch already.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const batch = this.#waiting;
      this.#waiting = [];
      await this.#batch(batch);
    }
    this.#running = undefined;
  }

  async #batch(batch: readonly Job[]): Promise<void> {
    const written: Job[] = [];
    for (const job of batch) {
      await job.write().then(
        () => written.push(job),
        (error: unknown) => job.reject(error),
      );
    }
    const unsynced = written.filter((job) => job.needsSync);
    for (const job of written) if (!job.needsSync) job.resolve();
    if (unsynced.length === 0) return;
    try {
      await this.#file.sync();
      for (const job of unsynced) job.resolve();
    } catch (error) {
      for (const job of unsynced) job.reject(error);
    }
  }
}
