import jsonata from "jsonata";
import { Admission, isRaw } from "./expression/admit.ts";
import type { Node } from "./expression/ast.ts";
import { evaluate } from "./expression/evaluate.ts";
import { FUNCTIONS, type Functions } from "./expression/functions.ts";
import { REQUEST_FUNCTIONS } from "./expression/request-functions.ts";
import type { Value } from "./expression/values.ts";

const MAX_EXPRESSION_LENGTH = 4_096;

/** What an expression came to. Its failure is never the provider's: the caller falls back to its default. */
export type Outcome =
  | { readonly ok: true; readonly value: Value }
  | { readonly ok: false; readonly why: string };

/** A JSONata expression of a provider file, checked at load. */
export interface Expression {
  readonly source: string;
  /** Never throws, and never costs more than its budget of steps. */
  run(input: Value): Outcome;
}

export interface ExpressionFault {
  /** What would be right. */
  readonly message: string;
  /** Offset of the offending token in the source. */
  readonly position: number;
}

/**
 * JSONata's grammar, and of its meaning what the allow-list names: no functions of one's own, no recursion, no
 * `$eval`, no clock, no chance, regular expressions of RE2 only. JSONata parses; the evaluation is ours,
 * because it has to be synchronous, counted in steps rather than by a wall clock, and free of backtracking.
 */
export function compileExpression(source: string): Expression | ExpressionFault {
  return compile(source, FUNCTIONS);
}

/** As `compileExpression`, for expressions that make a request: those may also hash, sign and write Basic credentials. */
export function compileRequestExpression(source: string): Expression | ExpressionFault {
  return compile(source, REQUEST_FUNCTIONS);
}

function compile(source: string, functions: Functions): Expression | ExpressionFault {
  if (source.length > MAX_EXPRESSION_LENGTH) {
    return { message: `an expression of at most ${MAX_EXPRESSION_LENGTH} characters`, position: 0 };
  }
  try {
    const admission = new Admission(functions);
    const ast: unknown = jsonata(source).ast();
    if (!isRaw(ast)) return { message: "a JSONata expression", position: 0 };
    const node = admission.admit(ast);
    return admission.refusals[0] ?? { source, run: (input) => run(node, input) };
  } catch (error) {
    return syntaxFault(error);
  }
}

export function isFault(compiled: Expression | ExpressionFault): compiled is ExpressionFault {
  return !("run" in compiled);
}

function run(node: Node, input: Value): Outcome {
  try {
    return { ok: true, value: evaluate(node, input) };
  } catch (error) {
    return { ok: false, why: error instanceof Error ? error.message : "failed" };
  }
}

/** JSONata throws plain objects, and a RangeError when the text nests too deeply for its parser. */
function syntaxFault(error: unknown): ExpressionFault {
  const { message, position } =
    typeof error === "object" && error !== null
      ? { message: "", position: 0, ...error }
      : { message: "", position: 0 };
  const why = typeof message === "string" && message !== "" ? message : "it cannot be parsed";
  return { message: `a JSONata expression (${why})`, position: typeof position === "number" ? position : 0 };
}
