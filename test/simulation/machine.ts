import type { Clock } from "../../src/clock.ts";
import type { Chronicle } from "./chronicle.ts";
import type { Random } from "./random.ts";
import type { VirtualTime } from "./virtual-time.ts";

/** Wall clock at the beginning of every simulation. */
export const EPOCH_MS = 1_767_225_600_000;

/** Places in a port call where a trap can snap. */
export const POINTS = [
  "store.asked",
  "store.lock.landed",
  "store.attempt.landed",
  "store.commit.landed",
  "store.answered",
  "seal.asked",
  "journal.reserved",
  "journal.keep",
  "journal.kept",
  "journal.removed",
  "vendor.dialled",
  "vendor.sent",
  "vendor.redeemed",
  "vendor.answered",
  "vendor.interpreted",
] as const;
export type Point = (typeof POINTS)[number];

/** A host: its clocks and its network outlive the processes that run on it. */
export class Host {
  readonly name: string;
  readonly time: VirtualTime;
  readonly random: Random;
  readonly chronicle: Chronicle;
  /** The wall clock's error. */
  wallOffsetMs: number;
  readonly bootOffsetMs: number;
  jumpedAtMs = Number.NEGATIVE_INFINITY;
  partitionedUntilMs = 0;
  /** Snaps when the process passes that place for the n-th time. */
  traps: { readonly point: Point; skip: number; readonly snap: () => void }[] = [];

  constructor(name: string, time: VirtualTime, random: Random, chronicle: Chronicle, wallOffsetMs: number) {
    this.name = name;
    this.time = time;
    this.random = random;
    this.chronicle = chronicle;
    this.wallOffsetMs = wallOffsetMs;
    this.bootOffsetMs = random.between(0, 10_000_000);
  }

  get nowMs(): number {
    return EPOCH_MS + this.time.nowMs + this.wallOffsetMs;
  }

  get isPartitioned(): boolean {
    return this.time.nowMs < this.partitionedUntilMs;
  }

  /** The network works, no trap is left, and the clock is about right. */
  heal(): void {
    this.partitionedUntilMs = Math.min(this.partitionedUntilMs, this.time.nowMs);
    this.traps = [];
    this.wallOffsetMs = Math.max(-3_000, Math.min(3_000, this.wallOffsetMs));
    this.jumpedAtMs = this.time.nowMs;
  }

  /** Somebody sets the wall clock. */
  jump(byMs: number): void {
    this.wallOffsetMs += byMs;
    this.jumpedAtMs = this.time.nowMs;
    this.chronicle.seen("clock jump");
    this.chronicle.say(this.name, `clock jumps by ${byMs} ms`);
  }

  pass(point: Point): void {
    const sprung = this.traps.filter((trap) => trap.point === point);
    for (const trap of sprung) {
      trap.skip -= 1;
      if (trap.skip >= 0) continue;
      this.traps = this.traps.filter((other) => other !== trap);
      this.chronicle.seen(`trap at ${point}`);
      // The code that came here goes on to its next port call, which is under way when it happens.
      this.time.after(0, trap.snap);
    }
  }
}

/** One life of a process: runs, is stopped by SIGSTOP, or is dead and never goes on. */
export class Process {
  readonly host: Host;
  readonly clock: Clock;
  #state: "running" | "paused" | "dead" = "running";
  #queue: (() => void)[] = [];

  constructor(host: Host) {
    this.host = host;
    this.clock = {
      now: () => host.nowMs,
      boot: () => host.bootOffsetMs + host.time.nowMs,
      sleep: (ms, signal) => this.#sleep(ms, signal),
    };
  }

  get state(): "running" | "paused" | "dead" {
    return this.#state;
  }

  /** Everything that makes the process go on comes through here. */
  deliver(act: () => void): void {
    if (this.#state === "running") act();
    if (this.#state === "paused" && !this.#queue.includes(act)) this.#queue.push(act);
  }

  kill(): void {
    this.#state = "dead";
    this.#queue = [];
    this.host.traps = [];
  }

  pause(): void {
    if (this.#state === "running") this.#state = "paused";
  }

  resume(): void {
    if (this.#state !== "paused") return;
    this.#state = "running";
    const queue = this.#queue;
    this.#queue = [];
    for (const act of queue) this.host.time.after(0, () => this.deliver(act));
  }

  /** The process hears `answer` after `ms`; never when it is dead by then. */
  hear<T>(ms: number, answer: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      this.host.time.after(ms, () =>
        this.deliver(() => {
          try {
            resolve(answer());
          } catch (error) {
            reject(error);
          }
        }),
      );
    });
  }

  #sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (!(ms > 0)) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const timer =
        ms === Number.POSITIVE_INFINITY ? undefined : this.host.time.after(ms, () => this.deliver(fire));
      const stop = () => {
        if (timer !== undefined) timer.act = undefined;
        reject(signal?.reason);
      };
      const fire = () => {
        signal?.removeEventListener("abort", stop);
        resolve();
      };
      signal?.addEventListener("abort", stop, { once: true });
    });
  }
}
