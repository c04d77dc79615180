import { type Colour, clip, type Paint, plain, widthOf } from "./paint.ts";

/** One column of a table. */
export interface Column<T> {
  readonly title: string;
  readonly of: (row: T) => string;
  /** True: shown whole on any terminal, because people copy it. */
  readonly whole?: boolean;
  readonly right?: boolean;
  readonly paint?: (row: T, text: string, paint: Paint) => string;
}

const GAP = "  ";
const NARROWEST = 6;

/** Lines with columns under their titles. `width` undefined (a pipe): nothing is ever clipped. */
export function table<T>(
  rows: readonly T[],
  columns: readonly Column<T>[],
  { paint, width, indent = "" }: { paint: Paint; width: number | undefined; indent?: string },
): string {
  const cells = rows.map((row) => columns.map((column) => plain(column.of(row)) || "-"));
  const natural = columns.map((column, i) =>
    Math.max(widthOf(column.title), ...cells.map((line) => widthOf(line[i] ?? ""))),
  );
  const widths = width === undefined ? natural : fit(natural, columns, width - indent.length);
  const line = (texts: readonly string[], decorate: (text: string, i: number) => string) =>
    indent +
    texts
      .map((text, i) => {
        const shown = clip(text, widths[i] ?? 0);
        const fill = " ".repeat(Math.max(0, (widths[i] ?? 0) - widthOf(shown)));
        const done = decorate(shown, i);
        if (columns[i]?.right === true) return fill + done;
        // No blanks at the end of a line.
        return i === texts.length - 1 ? done : done + fill;
      })
      .join(GAP);
  const titles = columns.map(({ title }) => title);
  const lines = [line(titles, (text) => paint("bold", text))];
  cells.forEach((texts, at) => {
    const row = rows[at] as T;
    lines.push(line(texts, (text, i) => columns[i]?.paint?.(row, text, paint) ?? text));
  });
  return `${lines.join("\n")}\n`;
}

/** Takes from the widest columns first, and from none that is to be shown whole. */
function fit(
  natural: readonly number[],
  columns: readonly Column<never>[],
  width: number,
): readonly number[] {
  const widths = [...natural];
  const gaps = GAP.length * (widths.length - 1);
  let over = widths.reduce((sum, each) => sum + each, gaps) - width;
  while (over > 0) {
    let widest = -1;
    widths.forEach((each, i) => {
      if (columns[i]?.whole === true || each <= NARROWEST) return;
      if (widest === -1 || each > (widths[widest] ?? 0)) widest = i;
    });
    if (widest === -1) break;
    widths[widest] = (widths[widest] ?? 0) - 1;
    over -= 1;
  }
  return widths;
}

/** A name, its value, and a colour for the value. */
export type Fact = readonly [name: string, value: string | undefined, colour?: Colour];

/** `name  value` lines, the values under each other; facts without a value are left out. */
export function facts(
  pairs: readonly Fact[],
  { paint, indent = "" }: { paint: Paint; indent?: string },
): string {
  const shown = pairs.filter(([, value]) => value !== undefined && value !== "");
  const width = Math.max(0, ...shown.map(([name]) => widthOf(name)));
  return shown
    .map(([name, value, colour]) => {
      const text = plain(value ?? "");
      const label = paint("dim", plain(name).padEnd(width));
      return `${indent}${label}${GAP}${colour === undefined ? text : paint(colour, text)}\n`;
    })
    .join("");
}
