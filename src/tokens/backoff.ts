const SECOND_MS = 1_000;
const HOUR_MS = 3_600_000;

/** Longest back-off of on-demand callers; more than this ahead of us is another clock's mistake. */
export const MAX_DEMAND_BACKOFF_MS = 60 * SECOND_MS;

const doubled = (baseMs: number, times: number, capMs: number) =>
  Math.min(baseMs * 2 ** Math.min(times, 30), capMs);

/** On-demand callers after the n-th failure in a row: 1 s doubling to 60 s. */
export function demandBackoffMs(failures: number): number {
  return doubled(SECOND_MS, failures - 1, MAX_DEMAND_BACKOFF_MS);
}

/** The scheduler after the n-th failure in a row: 3 h doubling to 24 h, ±20 % by `random` in [0, 1). */
export function proactiveRetryMs(failures: number, random: number): number {
  return doubled(3 * HOUR_MS, failures - 1, 24 * HOUR_MS) * (0.8 + 0.4 * random);
}

/** A 429 without `Retry-After`, the n-th in a row: 60 s doubling to an hour. */
export function throttledMs(times: number): number {
  return doubled(60 * SECOND_MS, times - 1, HOUR_MS);
}

/** Longest time in which no report of a rejected token is believed; as above. */
export const MAX_REJECTION_PAUSE_MS = HOUR_MS;

/** How long reports of a rejected token are not believed after the n-th in a row: 60 s doubling to an hour. */
export function rejectionPauseMs(strikes: number): number {
  return doubled(60 * SECOND_MS, strikes - 1, MAX_REJECTION_PAUSE_MS);
}
