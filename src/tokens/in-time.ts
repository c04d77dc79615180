import type { Clock } from "../clock.ts";

/** True when `work` has ended within `ms`, and false when it has not, which does not end it. Rejects as it does by then. */
export async function inTime(clock: Clock, ms: number, work: Promise<unknown>): Promise<boolean> {
  const done = new AbortController();
  const late = clock.sleep(ms, done.signal).then(
    () => false,
    () => true,
  );
  const ended = work.then(() => true);
  // Nobody listens to it when it is late.
  ended.catch(() => undefined);
  try {
    return await Promise.race([ended, late]);
  } finally {
    done.abort("over");
  }
}
