import type { RateLimit } from "../errors.ts";
import { type RateWindow, rateLimitHeaders } from "../tokens/rate-limit-headers.ts";
import { judge, type ReadAnswer, runOver } from "./answer.ts";
import type { Value } from "./expression/values.ts";
import { count, standardWindows } from "./rate-limit-fields.ts";
import type { RateLimitPlan, Source, TimeSource, WindowPlan } from "./rate-limit-plan.ts";
import { msUntil, retryAfter } from "./reset-time.ts";

/** A vendor's throttling. The members of `RateLimit` are those of the tightest window. */
export interface RateLimits extends RateLimit {
  /** All windows that the answer tells of, the tightest first. Empty when it told only how long to wait. */
  readonly windows: readonly RateWindow[];
}

/**
 * The vendor's throttling in whatever dialect it told it: the file's own windows, else the standard headers. Undefined
 * when the answer tells nothing. Malformed parts are as if not there; numbers are whole, not negative and bounded.
 */
export function rateLimitsOf(answer: ReadAnswer, plan: RateLimitPlan): RateLimits | undefined {
  const own = plan.windows.flatMap((window) => ownWindow(answer, window));
  const windows = [...(own.length > 0 ? own : standardWindows(answer, plan.reset))].sort(byTightness);
  const retryAfterMs = waitOf(answer, plan.retryAfter);
  const [tightest] = windows;
  if (tightest === undefined && retryAfterMs === undefined) return undefined;
  const { limit, remaining, resetAfterMs } = tightest ?? {};
  return { limit, remaining, resetAfterMs, retryAfterMs, windows };
}

/** True when the vendor throttles: status 429, or what the file says of other answers. */
export function isThrottled(answer: ReadAnswer, plan: RateLimitPlan): boolean {
  return answer.status === 429 || judge(plan.throttled, answer) === true;
}

/** How long a throttled caller waits, in milliseconds: what the vendor asks, else until an exhausted window resets. */
export function throttledForMs(limits: RateLimit | undefined): number | undefined {
  if (limits?.retryAfterMs !== undefined) return limits.retryAfterMs;
  return (limits?.remaining ?? 0) === 0 ? limits?.resetAfterMs : undefined;
}

/**
 * The limits in the standard headers. `retry-after` of a throttled answer that did not say how long is the reset of its
 * exhausted window.
 */
export function limitHeaders(limits: RateLimits, throttled: boolean): ReturnType<typeof rateLimitHeaders> {
  return rateLimitHeaders(limits, throttled ? throttledForMs(limits) : limits.retryAfterMs);
}

/** Exhausted windows first, of these the one that stays shut longest; then by what is left. */
function byTightness(a: RateWindow, b: RateWindow): number {
  const left = (window: RateWindow) => window.remaining ?? Number.MAX_SAFE_INTEGER;
  return left(a) - left(b) || (b.resetAfterMs ?? 0) - (a.resetAfterMs ?? 0);
}

function ownWindow(answer: ReadAnswer, plan: WindowPlan): RateWindow[] {
  const { name, windowMs } = plan;
  const limit = countAt(answer, plan.limit);
  const used = countAt(answer, plan.used);
  const left = limit === undefined || used === undefined ? undefined : Math.max(0, limit - used);
  const remaining = countAt(answer, plan.remaining) ?? left;
  const resetAfterMs = timeAt(answer, plan.reset);
  if (limit === undefined && remaining === undefined && resetAfterMs === undefined) return [];
  return [{ name, limit, remaining, resetAfterMs, windowMs }];
}

function waitOf(answer: ReadAnswer, own: TimeSource | undefined): number | undefined {
  const told = timeAt(answer, own);
  // A Retry-After that the file reads in another unit is not read again in seconds.
  const isSpoken = own !== undefined && "header" in own && own.header === "retry-after";
  return told ?? (isSpoken ? undefined : retryAfter(answer.headers["retry-after"], answer));
}

function timeAt(answer: ReadAnswer, source: TimeSource | undefined): number | undefined {
  return source === undefined ? undefined : msUntil(valueAt(answer, source), source.unit, answer);
}

function countAt(answer: ReadAnswer, source: Source | undefined): number | undefined {
  const value = source === undefined ? undefined : valueAt(answer, source);
  if (typeof value === "number") return count(Number.isFinite(value) ? value.toFixed(3) : undefined);
  return typeof value === "string" ? count(value.trim()) : undefined;
}

function valueAt(answer: ReadAnswer, source: Source): Value {
  if ("header" in source)
    return Object.hasOwn(answer.headers, source.header) ? answer.headers[source.header] : undefined;
  const outcome = runOver(source.expression, answer);
  return outcome.ok ? outcome.value : undefined;
}
