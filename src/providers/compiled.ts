import { compilePattern } from "./expression/regex.ts";
import { compileExpression, compileRequestExpression } from "./fence.ts";

/** What files of one load have in common, expressions above all, is compiled once: most of a load is spent on it. */
export class Compiled {
  readonly expression = once(compileExpression);
  readonly requestExpression = once(compileRequestExpression);
  readonly pattern = once(compilePattern);
}

function once<T>(compile: (source: string) => T): (source: string) => T {
  const compiled = new Map<string, T>();
  return (source) => {
    const known = compiled.get(source);
    if (known !== undefined) return known;
    const made = compile(source);
    compiled.set(source, made);
    return made;
  };
}
