import { type ReadAnswer, vendorNowMs } from "./answer.ts";
import type { Value } from "./expression/values.ts";

/**
 * What a vendor's number or text about time says. delta: seconds from now; epoch: seconds since 1970; date: an
 * HTTP-date (RFC 9110 §5.6.7) or ISO 8601, UTC when it names no zone; duration: `1m30s`, as Go writes them.
 */
export type TimeUnit = "delta" | "delta_ms" | "epoch" | "epoch_ms" | "date" | "duration";

/** Longer waits are told as this. */
const MAX_WAIT_MS = 365 * 86_400_000;
/** A number that is not smaller is a point in time; below it, seconds from now. */
const EPOCH_FROM_SECONDS = 1_000_000_000;
const NUMBER = /^-?[0-9]{1,15}(\.[0-9]{1,9})?$/;
const DURATION = /^([0-9]{1,9}(\.[0-9]{1,9})?(ms|s|m|h|d))+$/;
const UNIT_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/**
 * How long after the answer a moment is, in milliseconds from 0 to a year. Without a unit the value's shape tells it.
 * Undefined when it is malformed.
 */
export function msUntil(value: Value, unit: TimeUnit | undefined, answer: ReadAnswer): number | undefined {
  const text = (typeof value === "number" ? plainNumber(value) : value) ?? "";
  if (typeof text !== "string") return undefined;
  const trimmed = text.trim();
  switch (unit ?? unitOf(trimmed)) {
    case "delta":
      return clamp(numeric(trimmed) * 1_000);
    case "delta_ms":
      return clamp(numeric(trimmed));
    case "epoch":
      return clamp(numeric(trimmed) * 1_000 - now(answer));
    case "epoch_ms":
      return clamp(numeric(trimmed) - now(answer));
    case "duration":
      return clamp(DURATION.test(trimmed) ? durationSum(trimmed) : Number.NaN);
    case "date":
      return clamp(dateMs(trimmed) - now(answer));
    case undefined:
      return undefined;
  }
}

/** RFC 9110 §10.2.3: whole seconds, or a date by the vendor's own clock. Milliseconds, never negative. */
export function retryAfter(value: string | undefined, answer: ReadAnswer): number | undefined {
  const text = value?.trim() ?? "";
  if (NUMBER.test(text)) return msUntil(text, "delta", answer);
  return /^[A-Za-z]{3,9},? /.test(text) ? msUntil(text, "date", answer) : undefined;
}

function unitOf(text: string): TimeUnit | undefined {
  if (NUMBER.test(text)) {
    const number = Number(text);
    if (number >= EPOCH_FROM_SECONDS * 1_000) return "epoch_ms";
    return number >= EPOCH_FROM_SECONDS ? "epoch" : "delta";
  }
  return DURATION.test(text) ? "duration" : "date";
}

function plainNumber(value: number): string | undefined {
  return Number.isFinite(value) && Math.abs(value) < 1e15 ? value.toFixed(3) : undefined;
}

function numeric(text: string): number {
  return NUMBER.test(text) ? Number(text) : Number.NaN;
}

/** The vendor's own clock is the one its points in time are read from. */
function now(answer: ReadAnswer): number {
  return vendorNowMs(answer) ?? answer.receivedAtMs;
}

function clamp(ms: number): number | undefined {
  return Number.isNaN(ms) ? undefined : Math.min(MAX_WAIT_MS, Math.max(0, Math.round(ms)));
}

const HTTP_DATE = /^[A-Za-z]{3,9},? [0-9A-Za-z :+-]{1,40}$/;
const ISO_DATE =
  /^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)? ?(Z|UTC|[+-][0-9]{2}:?[0-9]{2})?$/i;

function dateMs(text: string): number {
  if (HTTP_DATE.test(text)) return Date.parse(text);
  const zone = ISO_DATE.exec(text)?.[3];
  if (zone === undefined)
    return ISO_DATE.test(text) ? Date.parse(`${text.trim().replace(" ", "T")}Z`) : Number.NaN;
  const local = text.slice(0, -zone.length).trim().replace(" ", "T");
  return Date.parse(`${local}${zone.toUpperCase() === "UTC" ? "Z" : zone}`);
}

function durationSum(text: string): number {
  let sum = 0;
  for (const [, amount = "0", , unit = "s"] of text.matchAll(/([0-9]+(\.[0-9]+)?)(ms|s|m|h|d)/g)) {
    sum += Number(amount) * (UNIT_MS[unit] ?? 0);
  }
  return sum;
}
