import { type ReadAnswer, vendorNowMs } from "./answer.ts";
import type { Value } from "./expression/values.ts";

const MAX_LIFETIME_MS = 10 * 365.25 * 86_400_000;
/** Epoch seconds stay below this until the year 5138; epoch milliseconds have been above it since 1973. */
const MILLISECONDS_FROM = 100_000_000_000;

/** What an answer says of a lifetime, as epoch milliseconds; undefined when it is absent, under 1 ms or absurd. */
export function expiresAtMs(
  value: Value,
  unit: "s" | "ms" | "absolute",
  answer: ReadAnswer,
): number | undefined {
  const lifetimeMs = unit === "absolute" ? untilMs(value, answer) : relativeMs(value, unit);
  const isSane = lifetimeMs !== undefined && lifetimeMs >= 1 && lifetimeMs <= MAX_LIFETIME_MS;
  return isSane ? Math.floor(answer.requestedAtMs + lifetimeMs) : undefined;
}

function relativeMs(value: Value, unit: "s" | "ms"): number | undefined {
  const number = numeric(value);
  return number === undefined ? undefined : number * (unit === "s" ? 1_000 : 1);
}

/** How long after the request a point in time of the vendor's clock is. */
function untilMs(value: Value, answer: ReadAnswer): number | undefined {
  const number = numeric(value);
  const atMs =
    number !== undefined
      ? number * (number < MILLISECONDS_FROM ? 1_000 : 1)
      : typeof value === "string" && /^\d{4}-\d{2}-\d{2}[T ]/.test(value)
        ? Date.parse(zoned(value))
        : Number.NaN;
  return Number.isFinite(atMs) ? atMs - (vendorNowMs(answer) ?? answer.requestedAtMs) : undefined;
}

/** A time without a zone is UTC, not this machine's. */
function zoned(text: string): string {
  const iso = text.replace(" ", "T");
  return /(Z|[+-]\d{2}:?\d{2})$/i.test(iso) ? iso : `${iso}Z`;
}

function numeric(value: Value): number | undefined {
  if (typeof value === "number") return Number.isFinite(value) ? value : undefined;
  if (typeof value !== "string" || !/^\s*[+-]?[0-9]{1,16}(\.[0-9]{1,9})?\s*$/.test(value)) return undefined;
  return Number(value);
}
