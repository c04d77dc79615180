import type { Clock } from "../clock.ts";

/** What a bounded piece of work gets: a signal that ends its own waiting when the time is over. */
export interface Bounded<T> {
  readonly clock: Clock;
  readonly limitMs: number;
  readonly work: (signal: AbortSignal) => Promise<T>;
  /** Made when the time is over. */
  readonly expired: () => Error;
  /** Gets what the work returned after all, when nobody waits for it any more. */
  readonly late: (value: T) => void;
}

/** Ends with the work, or with `expired()` after `limitMs`. */
export async function bounded<T>({ clock, limitMs, work, expired, late }: Bounded<T>): Promise<T> {
  const over = new AbortController();
  const done = new AbortController();
  let waiting = true;
  const running = work(over.signal).then((value) => {
    if (!waiting) late(value);
    return value;
  });
  const timer = clock.sleep(limitMs, done.signal).then((): never => {
    waiting = false;
    over.abort();
    throw expired();
  });
  timer.catch(() => undefined);
  try {
    return await Promise.race([running, timer]);
  } finally {
    done.abort("done");
    running.catch(() => undefined);
  }
}
