import type { Limit } from "./limit.ts";
import type { Line } from "./line.ts";

const MAX_IDLE = 512;
const MAX_BUSY_PER_KEY = 64;
/** As many as may be busy: with fewer, calls that come in waves would open connections for each wave. */
const MAX_IDLE_PER_KEY = MAX_BUSY_PER_KEY;

/** Idle connections for reuse, and a bound on how many of one kind are busy at once. */
export class Pool {
  /** By key, the longest idle one first. */
  readonly #idle = new Map<string, Line[]>();
  #idleCount = 0;
  /** Lines that say so when they close. */
  readonly #watched = new WeakSet<Line>();
  readonly #busy = new Map<string, number>();
  readonly #waiting = new Map<string, (() => void)[]>();

  /** Takes one of the `places` of `key`, in turn; false when `limit` ends first. A free one is there at once. Give it back with `leave`. */
  enter(key: string, limit: Limit, places = MAX_BUSY_PER_KEY): boolean | Promise<boolean> {
    if (limit.cause !== undefined) return false;
    const busy = this.#busy.get(key) ?? 0;
    if (busy < places) {
      this.#busy.set(key, busy + 1);
      return true;
    }
    return new Promise((resolve) => {
      const queue = this.#waiting.get(key) ?? [];
      this.#waiting.set(key, queue);
      const admit = (): void => {
        limit.hear(undefined);
        resolve(true);
      };
      queue.push(admit);
      limit.hear(() => {
        queue.splice(queue.indexOf(admit), 1);
        resolve(false);
      });
    });
  }

  /** Gives a place back, to who has waited longest for it. */
  leave(key: string): void {
    const next = this.#waiting.get(key)?.shift();
    if (next !== undefined) {
      next();
      return;
    }
    const busy = (this.#busy.get(key) ?? 1) - 1;
    if (busy > 0) {
      this.#busy.set(key, busy);
    } else {
      this.#busy.delete(key);
      this.#waiting.delete(key);
    }
  }

  /** The line of `key` that was used last, out of the pool; undefined when there is none. */
  take(key: string): Line | undefined {
    for (let line = this.#idle.get(key)?.at(-1); line !== undefined; line = this.#idle.get(key)?.at(-1)) {
      this.#remove(line);
      if (line.alive) return line;
    }
    return undefined;
  }

  /** Keeps a line for the next call; the longest idle one is closed when there are too many. */
  give(line: Line): void {
    if (!this.#watched.has(line)) {
      this.#watched.add(line);
      line.onClose(() => this.#remove(line));
    }
    const same = this.#idle.get(line.key);
    if (same !== undefined && same.length >= MAX_IDLE_PER_KEY) this.#close(same[0]);
    else if (this.#idleCount >= MAX_IDLE) this.#close(this.#idle.values().next().value?.[0]);
    const lines = this.#idle.get(line.key) ?? [];
    lines.push(line);
    this.#idle.set(line.key, lines);
    this.#idleCount += 1;
  }

  #close(line: Line | undefined): void {
    if (line === undefined) return;
    this.#remove(line);
    line.destroy();
  }

  #remove(line: Line): void {
    const lines = this.#idle.get(line.key);
    const at = lines?.lastIndexOf(line) ?? -1;
    if (lines === undefined || at === -1) return;
    lines.splice(at, 1);
    this.#idleCount -= 1;
    if (lines.length === 0) this.#idle.delete(line.key);
  }

  /** Closes every idle line. */
  close(): void {
    for (const lines of this.#idle.values()) for (const line of lines) line.destroy();
    this.#idle.clear();
    this.#idleCount = 0;
  }
}
