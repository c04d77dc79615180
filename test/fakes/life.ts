import type { Clock } from "../../src/clock.ts";
import type { VirtualTime } from "../simulation/virtual-time.ts";

/** One life of a process on virtual time: once it is killed, nothing it waits for ever comes. */
export class Life {
  readonly clock: Clock;
  #isDead = false;

  /** `skewMs` is asked at every reading, so that suspends and wrong clocks can be played. */
  constructor(
    time: VirtualTime,
    epochMs: number,
    skewMs: () => { readonly wall: number; readonly boot: number },
  ) {
    this.clock = {
      now: () => epochMs + time.nowMs + skewMs().wall,
      boot: () => 1_000_000 + time.nowMs + skewMs().boot,
      sleep: (ms, signal) => {
        if (signal?.aborted) return Promise.reject(signal.reason);
        if (!(ms > 0)) return Promise.resolve();
        return new Promise((resolve, reject) => {
          const timer = Number.isFinite(ms) ? time.after(ms, () => this.#isDead || wake()) : undefined;
          const stop = () => {
            if (timer !== undefined) timer.act = undefined;
            reject(signal?.reason);
          };
          const wake = () => {
            signal?.removeEventListener("abort", stop);
            resolve();
          };
          signal?.addEventListener("abort", stop, { once: true });
        });
      },
    };
  }

  /** As by SIGKILL. */
  kill(): void {
    this.#isDead = true;
  }

  get isDead(): boolean {
    return this.#isDead;
  }

  /** A neighbour's answer, which the dead do not hear. */
  hear<T>(work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      work.then(
        (value) => this.#isDead || resolve(value),
        (error: unknown) => this.#isDead || reject(error),
      );
    });
  }
}
