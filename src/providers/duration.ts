const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Milliseconds of a duration as provider files write it: seconds as a number, or `30s`, `10m`, `2h`, `90d`. */
export function durationMs(duration: string | number): number {
  if (typeof duration === "number") return duration * 1_000;
  const [, count = "0", unit = "s"] = /^([0-9]+)([a-z]+)$/.exec(duration) ?? [];
  return Number(count) * (UNIT_MS[unit] ?? 1_000);
}
