import type { Line } from "./line.ts";

const MAX_IDLE = 128;
const MAX_IDLE_PER_KEY = 16;
const MAX_BUSY_PER_KEY = 64;

/** Idle connections for reuse, and a bound on how many of one kind are busy at once. */
export class Pool {
  #idle: Line[] = [];
  readonly #busy = new Map<string, number>();
  readonly #waiting = new Map<string, (() => void)[]>();

  /** Takes one of the `places` of `key`, in turn; false when `signal` aborts first. Give it back with `leave`. */
  async enter(key: string, signal: AbortSignal, places = MAX_BUSY_PER_KEY): Promise<boolean> {
    if (signal.aborted) return false;
    const busy = this.#busy.get(key) ?? 0;
    if (busy < places) {
      this.#busy.set(key, busy + 1);
      return true;
    }
    return new Promise((resolve) => {
      const queue = this.#waiting.get(key) ?? [];
      this.#waiting.set(key, queue);
      const abort = (): void => {
        queue.splice(queue.indexOf(admit), 1);
        resolve(false);
      };
      const admit = (): void => {
        signal.removeEventListener("abort", abort);
        resolve(true);
      };
      queue.push(admit);
      signal.addEventListener("abort", abort, { once: true });
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
    this.#idle = this.#idle.filter((line) => line.alive);
    const at = this.#idle.findLastIndex((line) => line.key === key);
    return at === -1 ? undefined : this.#idle.splice(at, 1)[0];
  }

  /** Keeps a line for the next call; the longest idle one is closed when there are too many. */
  give(line: Line): void {
    this.#idle = this.#idle.filter((other) => other.alive);
    const same = this.#idle.filter((other) => other.key === line.key);
    const surplus =
      same.length >= MAX_IDLE_PER_KEY ? same[0] : this.#idle.length >= MAX_IDLE ? this.#idle[0] : undefined;
    if (surplus !== undefined) {
      this.#idle.splice(this.#idle.indexOf(surplus), 1);
      surplus.destroy();
    }
    this.#idle.push(line);
  }

  /** Closes every idle line. */
  close(): void {
    for (const line of this.#idle.splice(0)) line.destroy();
  }
}
