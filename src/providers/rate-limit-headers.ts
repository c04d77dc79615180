import { type RateLimits, throttledForMs } from "./rate-limit.ts";
import type { RateWindow } from "./rate-limit-fields.ts";

/**
 * A vendor's throttling in the standard headers, lower-case names, for an answer that is passed on; they replace those
 * of the same name. The trio `ratelimit-limit`, `-remaining`, `-reset` (seconds from now) tells the tightest window;
 * `ratelimit` and `ratelimit-policy` (draft-ietf-httpapi-ratelimit-headers) tell all; `retry-after` is whole seconds,
 * and of a throttled answer that did not say how long it is the reset of its exhausted window. What the vendor did not
 * tell is left out.
 */
export function rateLimitHeaders(
  limits: RateLimits,
  throttled: boolean,
): readonly (readonly [name: string, value: string])[] {
  const { limit, remaining, resetAfterMs, windows } = limits;
  const waitMs = throttled ? throttledForMs(limits) : limits.retryAfterMs;
  const values: readonly (readonly [string, string | undefined])[] = [
    ["ratelimit-limit", limit?.toFixed(0)],
    ["ratelimit-remaining", remaining?.toFixed(0)],
    ["ratelimit-reset", seconds(resetAfterMs)],
    ["ratelimit", list(windows.map(standing))],
    ["ratelimit-policy", list(windows.map(policy))],
    ["retry-after", seconds(waitMs)],
  ];
  return values.flatMap(([name, value]) => (value === undefined ? [] : [[name, value] as const]));
}

/** Rounded up: who comes back at that second has waited long enough. */
function seconds(ms: number | undefined): string | undefined {
  return ms === undefined ? undefined : Math.ceil(ms / 1_000).toFixed(0);
}

/** Without `r` there is no item (§4 of the draft). */
function standing({ name, remaining, resetAfterMs }: RateWindow): string | undefined {
  if (remaining === undefined) return undefined;
  return `${quoted(name)};r=${remaining}${parameter("t", seconds(resetAfterMs))}`;
}

function policy({ name, limit, windowMs }: RateWindow): string | undefined {
  if (limit === undefined) return undefined;
  return `${quoted(name)};q=${limit}${parameter("w", seconds(windowMs))}`;
}

function parameter(name: string, value: string | undefined): string {
  return value === undefined ? "" : `;${name}=${value}`;
}

function list(items: readonly (string | undefined)[]): string | undefined {
  const told = items.filter((item) => item !== undefined);
  return told.length === 0 ? undefined : told.join(", ");
}

/** RFC 9651 §3.3.3. */
function quoted(name: string): string {
  return `"${name.replace(/["\\]/g, "\\$&")}"`;
}
