import { readFileSync } from "node:fs";
import { uptime } from "node:os";
import { setTimeout as delay } from "node:timers/promises";

/** The only source of time. */
export interface Clock {
  /** Milliseconds since the Unix epoch. May jump; for what is stored or shown. */
  now(): number;
  /** Milliseconds since the machine booted, suspend included. Never goes back; for every deadline and every lock. */
  boot(): number;
  /** Resolves after `ms`; rejects with the signal's reason when it aborts first. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

// A setTimeout past 24.8 days fires at once; a minute is also how soon a suspend or a clock jump is noticed.
const MAX_TIMER_MS = 60_000;

/** CLOCK_BOOTTIME: unlike `performance.now()` it goes on counting while the machine sleeps, as lock leases do. */
function bootTime(): () => number {
  try {
    readFileSync("/proc/uptime");
  } catch {
    return () => uptime() * 1000;
  }
  return () => Number(readFileSync("/proc/uptime", "latin1").split(" ", 1)[0]) * 1000;
}

/** The machine's own clocks. */
export function systemClock(): Clock {
  const boot = bootTime();
  return {
    now: () => Date.now(),
    boot,
    async sleep(ms, signal) {
      for (let left = ms; left > 0; left -= MAX_TIMER_MS) {
        await delay(Math.min(left, MAX_TIMER_MS), undefined, signal === undefined ? {} : { signal });
      }
    },
  };
}
