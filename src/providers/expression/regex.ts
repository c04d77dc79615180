import { RE2JS } from "re2js";
import type { Regex } from "./ast.ts";

const MAX_PROGRAM_SIZE = 1_000;

/** A string: why the pattern is not accepted. Flags other than `i`, `m` and JSONata's own `g` are refused. */
export function compileRegex(source: string, flags: string): Regex | string {
  const unknown = [...flags].find((flag) => !"gim".includes(flag));
  if (unknown !== undefined) return `the regular expression flag "${unknown}" is not supported`;
  const bits =
    (flags.includes("i") ? RE2JS.CASE_INSENSITIVE : 0) | (flags.includes("m") ? RE2JS.MULTILINE : 0);
  let pattern: RE2JS;
  try {
    pattern = RE2JS.compile(source, bits);
  } catch {
    return `/${source}/ is not a regular expression of RE2 (no look-around, no back-references)`;
  }
  const size = pattern.programSize();
  if (size > MAX_PROGRAM_SIZE) return `/${source}/ is too large (its counted repetitions unfold)`;
  return { size, find: (text, from) => find(pattern, text, from) };
}

function find(pattern: RE2JS, text: string, from: number) {
  const matcher = pattern.matcher(text);
  if (!matcher.find(from)) return undefined;
  const groups = Array.from({ length: matcher.groupCount() }, (_, i) => matcher.group(i + 1) ?? undefined);
  return { match: matcher.group() ?? "", start: matcher.start(), end: matcher.end(), groups };
}

/** Tests whole values against `source`, which is anchored by being matched whole. A string: why it is not accepted. */
export function compilePattern(source: string): ((value: string) => boolean) | string {
  try {
    const pattern = RE2JS.compile(source);
    if (pattern.programSize() > MAX_PROGRAM_SIZE) return `${source} is too large`;
    return (value) => pattern.matches(value);
  } catch {
    return `${source} is not a regular expression of RE2`;
  }
}
