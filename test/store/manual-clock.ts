import type { Clock } from "../../src/clock.ts";

interface Sleeper {
  readonly untilBootMs: number;
  readonly wake: () => void;
}

/** A clock that stands until it is told to go on. */
export class ManualClock implements Clock {
  readonly #sleepers = new Set<Sleeper>();
  #nowMs = Date.UTC(2026, 0, 2, 3, 4, 5);
  #bootMs = 1_000_000;

  now(): number {
    return this.#nowMs;
  }

  boot(): number {
    return this.#bootMs;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    return new Promise((resolve, reject) => {
      const sleeper = { untilBootMs: this.#bootMs + ms, wake: resolve };
      this.#sleepers.add(sleeper);
      signal?.addEventListener("abort", () => {
        this.#sleepers.delete(sleeper);
        reject(signal.reason);
      });
    });
  }

  /** Both clocks go on. */
  advance(ms: number): void {
    this.#nowMs += ms;
    this.#bootMs += ms;
    for (const sleeper of this.#sleepers) {
      if (sleeper.untilBootMs > this.#bootMs) continue;
      this.#sleepers.delete(sleeper);
      sleeper.wake();
    }
  }

  /** The wall clock alone is set. */
  jump(ms: number): void {
    this.#nowMs += ms;
  }
}
