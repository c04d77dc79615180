import { readFileSync } from "node:fs";
import { uptime } from "node:os";

/** The only source of time. */
export interface Clock {
  /** Milliseconds since the Unix epoch. May jump; for what is stored or shown. */
  now(): number;
  /** Milliseconds since the machine booted, suspend included. Never goes back; for every deadline and every lock. */
  boot(): number;
  /**
   * Resolves after `ms`, never earlier by the boot clock; rejects with the signal's reason when it aborts first. A reason
   * that is given, if only a word, spares the making of an exception.
   */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

// A setTimeout past 24.8 days fires at once; a minute is also how soon a suspend or a clock jump is noticed.
const MAX_TIMER_MS = 60_000;
/** The wall clock gaining or losing so much on the running clock is a suspend, or somebody setting the time. */
const JUMP_MS = 20;

/** Clocks as the machine has them, each in milliseconds. */
export interface MachineClocks {
  readonly wallMs: () => number;
  /** Stands still while the machine sleeps. */
  readonly runningMs: () => number;
  /** Goes on while the machine sleeps, as lock leases do. May be slow to read, and coarse. */
  readonly bootMs: () => number;
}

/**
 * The boot clock without reading it each time, which costs a file's opening. It runs like the running clock but for
 * sleep; and a kernel that adds a sleep to it adds the same to the wall clock, which shows when to read it again.
 */
export function bootClock({ wallMs, runningMs, bootMs }: MachineClocks): () => number {
  let asleepMs = Number.NEGATIVE_INFINITY;
  let wallAheadMs = Number.NaN;
  return () => {
    const nowMs = runningMs();
    const aheadMs = wallMs() - nowMs;
    // Not `> JUMP_MS`: the first time there is nothing to compare with.
    if (!(Math.abs(aheadMs - wallAheadMs) <= JUMP_MS)) {
      wallAheadMs = aheadMs;
      // Coarse readings come out low, so that the highest one is the nearest, and time never goes back.
      asleepMs = Math.max(asleepMs, bootMs() - nowMs);
    }
    return nowMs + asleepMs;
  };
}

/** CLOCK_BOOTTIME, to 10 ms. */
function readBootMs(): () => number {
  try {
    readFileSync("/proc/uptime");
  } catch {
    return () => uptime() * 1000;
  }
  return () => Number(readFileSync("/proc/uptime", "latin1").split(" ", 1)[0]) * 1000;
}

/** The machine's own clocks. */
export function systemClock(): Clock {
  const boot = bootClock({ wallMs: Date.now, runningMs: () => performance.now(), bootMs: readBootMs() });
  return {
    now: () => Date.now(),
    boot,
    async sleep(ms, signal) {
      if (!(ms > 0)) return;
      // Timers count whole milliseconds and may fire one early: whoever sleeps until a time finds that it has come.
      const untilMs = boot() + ms;
      for (let leftMs = ms; leftMs > 0; leftMs = untilMs - boot()) {
        const timerMs = Math.min(Math.ceil(leftMs), MAX_TIMER_MS);
        await timer(timerMs, signal);
      }
    },
  };
}

/** As that of node:timers/promises, which would make an error with a stack of its own for every timer that is cut short. */
function timer(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const cut = () => {
      clearTimeout(running);
      reject(signal?.reason);
    };
    const running = setTimeout(() => {
      signal?.removeEventListener("abort", cut);
      resolve();
    }, ms);
    if (signal?.aborted) cut();
    else signal?.addEventListener("abort", cut, { once: true });
  });
}
