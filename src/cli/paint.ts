import type { Io, Outlet } from "./io.ts";

const CODES = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33 } as const;
export type Colour = keyof typeof CODES;

/** Colours `text`, or leaves it as it is. */
export type Paint = (colour: Colour, text: string) => string;

/** Colour only on a terminal that can show it and without NO_COLOR (no-color.org: set and not empty). */
export function paintFor(outlet: Outlet, env: Io["env"]): Paint {
  const on = outlet.isTTY === true && (env.NO_COLOR ?? "") === "" && env.TERM !== "dumb";
  return on ? (colour, text) => `\u001b[${CODES[colour]}m${text}\u001b[0m` : (_, text) => text;
}

// Control characters (C0, DEL, C1) and the ones that reorder or break lines.
const UNPRINTABLE = /[\p{Cc}\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu;

/** Names and codes come from customers and vendors: none of them may move the reader's cursor or fake a line. */
export function plain(text: string): string {
  return text.replace(UNPRINTABLE, "\ufffd");
}

const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|\p{Emoji_Presentation}/u;
const graphemes = new Intl.Segmenter("en", { granularity: "grapheme" });

/** Columns that `text` takes on a terminal. */
export function widthOf(text: string): number {
  let width = 0;
  for (const { segment } of graphemes.segment(text)) width += WIDE.test(segment) ? 2 : 1;
  return width;
}

/** At most `width` columns, with an ellipsis where something was left off. */
export function clip(text: string, width: number): string {
  if (widthOf(text) <= width) return text;
  let kept = "";
  for (const { segment } of graphemes.segment(text)) {
    if (widthOf(kept) + widthOf(segment) > width - 1) break;
    kept += segment;
  }
  return `${kept}…`;
}
