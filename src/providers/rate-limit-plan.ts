import type { z } from "zod";
import type { Compiler, Path } from "./compiler.ts";
import { durationMs } from "./duration.ts";
import type { Expression } from "./fence.ts";
import type { rateLimits } from "./rate-limit-schema.ts";
import type { TimeUnit } from "./reset-time.ts";

/** Where a value is: in a header (lower-case name), or what an expression makes of the answer. */
export type Source = { readonly header: string } | { readonly expression: Expression };
export type TimeSource = Source & { readonly unit: TimeUnit | undefined };

export interface WindowPlan {
  readonly name: string;
  readonly limit: Source | undefined;
  readonly remaining: Source | undefined;
  readonly used: Source | undefined;
  readonly reset: TimeSource | undefined;
  readonly windowMs: number | undefined;
}

/** A provider's dialect of rate limits. The standard headers are understood without one. */
export interface RateLimitPlan {
  /** What the reset of the older trio counts. Undefined: told by its size. */
  readonly reset: TimeUnit | undefined;
  readonly windows: readonly WindowPlan[];
  readonly retryAfter: TimeSource | undefined;
  readonly throttled: Expression | undefined;
}

/** The dialect of a file that says nothing of rate limits. */
export const STANDARD: RateLimitPlan = {
  reset: undefined,
  windows: [],
  retryAfter: undefined,
  throttled: undefined,
};

export function compileRateLimits(
  compiler: Compiler,
  file: z.infer<typeof rateLimits> | undefined,
): RateLimitPlan {
  if (file === undefined) return STANDARD;
  const at = (...steps: Path): Path => ["rate_limits", ...steps];
  return {
    reset: file.reset,
    windows: (file.windows ?? []).map((window, index) => ({
      name: window.name ?? "default",
      limit: source(compiler, at("windows", index, "limit"), window.limit),
      remaining: source(compiler, at("windows", index, "remaining"), window.remaining),
      used: source(compiler, at("windows", index, "used"), window.used),
      reset: timeSource(compiler, at("windows", index, "reset"), window.reset),
      windowMs: window.window === undefined ? undefined : durationMs(window.window),
    })),
    retryAfter: timeSource(compiler, at("retry_after"), file.retry_after),
    throttled: compiler.maybeExpression(at("throttled"), file.throttled),
  };
}

type Described = string | { readonly header: string } | { readonly value: string };

function source(compiler: Compiler, path: Path, described: Described | undefined): Source | undefined {
  if (described === undefined) return undefined;
  if (typeof described === "string") return { header: described.toLowerCase() };
  if ("header" in described) return { header: described.header.toLowerCase() };
  return { expression: compiler.expression([...path, "value"], described.value) };
}

function timeSource(
  compiler: Compiler,
  path: Path,
  described: (Described & { readonly unit?: TimeUnit | undefined }) | string | undefined,
): TimeSource | undefined {
  const found = source(compiler, path, described);
  const unit = typeof described === "object" ? described.unit : undefined;
  return found && { ...found, unit };
}
