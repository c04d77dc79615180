/** One measured number, and what it should be. */
export interface Figure {
  readonly name: string;
  readonly value: number;
  /** `""` for a ratio. */
  readonly unit: string;
  /** Undefined: for information. */
  readonly aim?: { readonly atLeast: number } | { readonly atMost: number };
  /** How it came about: the spread, the counts. */
  readonly note?: string;
}

export interface Results {
  readonly benchmark: string;
  readonly what: string;
  readonly seconds: number;
  readonly figures: readonly Figure[];
}

/** Undefined when there is no aim. */
export function meets({ value, aim }: Figure): boolean | undefined {
  if (aim === undefined) return undefined;
  return "atLeast" in aim ? value >= aim.atLeast : value <= aim.atMost;
}

/** Three digits that count, and no exponent. */
export function shown(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  const whole = Math.max(1, Math.floor(Math.log10(Math.max(1, Math.abs(value)))) + 1);
  return value.toFixed(Math.max(0, 3 - whole));
}

/** The figures as a table in Markdown, which is readable on a terminal too. */
export function table(figures: readonly Figure[]): string {
  const rows = figures.map((figure) => {
    const { name, value, unit, aim, note = "" } = figure;
    const met = meets(figure);
    const wanted = aim === undefined ? "" : "atLeast" in aim ? `≥ ${aim.atLeast}` : `≤ ${aim.atMost}`;
    const verdict = met === undefined ? "" : met ? "yes" : "NO";
    return [name, `${shown(value)} ${unit}`.trim(), wanted, verdict, note];
  });
  const all = [["figure", "measured", "aim", "met", "how"], ...rows];
  const widths = [0, 1, 2, 3, 4].map((n) => Math.max(...all.map((row) => row[n]?.length ?? 0)));
  const line = (row: readonly string[]) =>
    `| ${row.map((cell, n) => cell.padEnd(widths[n] ?? 0)).join(" | ")} |`;
  const rule = `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`;
  return [line(all[0] ?? []), rule, ...rows.map(line)].join("\n");
}
