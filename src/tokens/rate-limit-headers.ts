import type { RateLimit } from "../errors.ts";

/** One of a vendor's windows, as it stands. Counts are whole and not negative. */
export interface RateWindow {
  /** `default` when the vendor gives it no name. */
  readonly name: string;
  /** Requests allowed per window. */
  readonly limit: number | undefined;
  readonly remaining: number | undefined;
  /** Until it resets, in milliseconds from when the answer was received. */
  readonly resetAfterMs: number | undefined;
  /** How long the window is. */
  readonly windowMs: number | undefined;
}

/**
 * A throttling in the standard headers, lower-case names; of an answer that is passed on they replace those of the same
 * name. The trio `ratelimit-limit`, `-remaining`, `-reset` (seconds from now) tells the tightest window; `ratelimit` and
 * `ratelimit-policy` (draft-ietf-httpapi-ratelimit-headers) tell all `windows`, or that one where no others are known;
 * `retry-after` is `waitMs` in whole seconds. What is not known is left out.
 */
export function rateLimitHeaders(
  limits: (RateLimit & { readonly windows?: readonly RateWindow[] }) | undefined,
  waitMs: number | undefined,
): readonly (readonly [name: string, value: string])[] {
  const { limit, remaining, resetAfterMs } = limits ?? {};
  const windows = limits?.windows ?? [
    { name: "default", limit, remaining, resetAfterMs, windowMs: undefined },
  ];
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
  return `${quoted(name)};r=${remaining.toFixed(0)}${parameter("t", seconds(resetAfterMs))}`;
}

function policy({ name, limit, windowMs }: RateWindow): string | undefined {
  if (limit === undefined) return undefined;
  return `${quoted(name)};q=${limit.toFixed(0)}${parameter("w", seconds(windowMs))}`;
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
