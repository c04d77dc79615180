import type { Call } from "./functions.ts";

/** The nodes of a parsed expression that the fence lets through; everything else of JSONata is refused at load. */
export type Node = (
  | { readonly kind: "literal"; readonly value: string | number | boolean | null }
  | { readonly kind: "regex"; readonly regex: Regex }
  | { readonly kind: "name"; readonly name: string }
  /** Empty: the context; `$`: the whole input; else a name bound in an enclosing block. */
  | { readonly kind: "variable"; readonly name: string }
  | { readonly kind: "path"; readonly steps: readonly Node[] }
  | { readonly kind: "binary"; readonly operator: BinaryOperator; readonly left: Node; readonly right: Node }
  | { readonly kind: "negate"; readonly of: Node }
  | { readonly kind: "array"; readonly items: readonly Node[] }
  | { readonly kind: "object"; readonly pairs: readonly (readonly [Node, Node])[] }
  | { readonly kind: "condition"; readonly test: Node; readonly yes: Node; readonly no: Node | undefined }
  | { readonly kind: "block"; readonly body: readonly Node[] }
  | { readonly kind: "bind"; readonly name: string; readonly value: Node }
  | { readonly kind: "call"; readonly call: Call; readonly args: readonly Node[] }
) & { readonly filters: readonly Node[] };

export const BINARY_OPERATORS = [
  "+",
  "-",
  "*",
  "/",
  "%",
  "=",
  "!=",
  "<",
  "<=",
  ">",
  ">=",
  "&",
  "in",
  "and",
  "or",
] as const;
export type BinaryOperator = (typeof BINARY_OPERATORS)[number];

/** A regular expression whose time grows no faster than its input. */
export interface Regex {
  /** Matching costs about this much per character. */
  readonly size: number;
  /** The first match at or after `from`; undefined: none. */
  find(text: string, from: number): RegexMatch | undefined;
}

export interface RegexMatch {
  readonly match: string;
  readonly start: number;
  readonly end: number;
  readonly groups: readonly (string | undefined)[];
}
