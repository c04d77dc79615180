import * as z from "zod";

const UNIT_MS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
const DURATION = /^(\d{1,9})(ms|s|m|h|d)$/;

/** `30s`, `15m`, `400d`: a whole number and its unit. Undefined when `text` is not one. In milliseconds. */
export function parseDuration(text: string): number | undefined {
  const [, count, unit] = DURATION.exec(text) ?? [];
  if (count === undefined || unit === undefined) return undefined;
  return Number(count) * UNIT_MS[unit as keyof typeof UNIT_MS];
}

/** A duration in the file, milliseconds in the program. */
export const duration = z
  .string()
  .regex(DURATION, "a duration such as 30s, 15m or 400d")
  .transform((text) => parseDuration(text) ?? 0);
