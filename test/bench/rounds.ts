/** The middle one; between two, their mean. NaN of nothing. */
export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** Linear between the neighbours, `q` from 0 to 1. NaN of nothing. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (sorted.length - 1) * q;
  const low = sorted[Math.floor(at)] ?? Number.NaN;
  const high = sorted[Math.ceil(at)] ?? Number.NaN;
  return low + (high - low) * (at - Math.floor(at));
}

/** `0.95–1.02`: the middle half of the values. */
export function spread(values: readonly number[], digits = 2): string {
  return `middle half ${quantile(values, 0.25).toFixed(digits)}–${quantile(values, 0.75).toFixed(digits)}`;
}

/**
 * Runs the contestants in turns, so that what else the machine does hits all of them. Each round starts with another
 * one; the first round warms up and does not count.
 */
export async function alternate<Name extends string, T>(
  rounds: number,
  contestants: Readonly<Record<Name, () => Promise<T>>>,
): Promise<Readonly<Record<Name, readonly T[]>>> {
  const names = Object.keys(contestants) as Name[];
  const results = Object.fromEntries(names.map((name): [Name, T[]] => [name, []])) as Record<Name, T[]>;
  for (let round = 0; round <= rounds; round += 1) {
    for (let n = 0; n < names.length; n += 1) {
      const name = names[(n + round) % names.length];
      if (name === undefined) continue;
      const result = await contestants[name]();
      if (round > 0) results[name].push(result);
    }
  }
  return results;
}

/** Of each round `over / under`. */
export function ratios<T>(
  over: readonly T[],
  under: readonly T[],
  of: (result: T) => number,
): readonly number[] {
  return over.map((result, round) => {
    const other = under[round];
    return other === undefined ? Number.NaN : of(result) / of(other);
  });
}
