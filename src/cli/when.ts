import { type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";

const UNITS = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["min", 60_000],
  ["s", 1_000],
] as const;

/** "2 h 5 min", "12 s"; two units at most, cut off rather than rounded. */
export function span(ms: number): string {
  let left = Math.max(0, ms);
  const parts: string[] = [];
  for (const [unit, size] of UNITS) {
    const count = Math.floor(left / size);
    if (count > 0) parts.push(`${count} ${unit}`);
    else if (parts.length > 0) break;
    left -= count * size;
    if (parts.length === 2) break;
  }
  return parts.length === 0 ? "0 s" : parts.join(" ");
}

/** "in 12 s", "3 min ago". */
export function relative(ms: number, nowMs: number): string {
  if (Math.abs(ms - nowMs) < 1_000) return "now";
  return ms > nowMs ? `in ${span(ms - nowMs)}` : `${span(nowMs - ms)} ago`;
}

/** Seconds, UTC: `2026-11-24T08:36:29Z`. */
export function iso(ms: number): string {
  const date = new Date(ms);
  if (Number.isNaN(date.getTime())) return "?";
  return date.toISOString().replace(/\.\d{3}Z$/, "Z");
}

/** For a cell: relative for eyes, absolute for programs. Empty when `at` is absent. */
export function cell(at: Timestamp | undefined, nowMs: number, onTerminal: boolean): string {
  if (at === undefined) return "";
  return onTerminal ? relative(timestampMs(at), nowMs) : iso(timestampMs(at));
}

/** Both, for a sentence: `2026-11-24T08:36:29Z (in 12 s)`. Undefined when `at` is absent. */
export function both(at: Timestamp | undefined, nowMs: number): string | undefined {
  return at === undefined ? undefined : `${iso(timestampMs(at))} (${relative(timestampMs(at), nowMs)})`;
}

const UNIT_MS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** `30s`, `15m`, `400d` in milliseconds; undefined when `text` is not one. */
export function durationMsOf(text: string): number | undefined {
  const [, count, unit] = /^(\d{1,9})(ms|s|m|h|d)$/.exec(text) ?? [];
  if (count === undefined || unit === undefined) return undefined;
  return Number(count) * UNIT_MS[unit as keyof typeof UNIT_MS];
}

const RFC3339 = /^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:\d{2}))?$/;

/** `2026-11-24T08:36:29Z`, or a day (its start in UTC), in epoch milliseconds; undefined when `text` is neither. */
export function timeMsOf(text: string): number | undefined {
  const ms = RFC3339.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(ms) ? undefined : ms;
}
