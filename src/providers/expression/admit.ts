import { suggest } from "../../suggest.ts";
import { BINARY_OPERATORS, type BinaryOperator, type Node } from "./ast.ts";
import { MAX_DEPTH } from "./budget.ts";
import type { Functions } from "./functions.ts";
import { compileRegex } from "./regex.ts";

/** As much of JSONata's own syntax tree as is looked at. */
export interface RawNode {
  readonly type: string;
  readonly value?: unknown;
  readonly position?: number | undefined;
  readonly [more: string]: unknown;
}

export interface Refusal {
  readonly message: string;
  /** Offset of the offending token in the source. */
  readonly position: number;
}

/** Members of a node that mean what the evaluator takes them for; any other one is a feature that it does not have. */
const KNOWN_MEMBERS = new Set(
  "type value position steps lhs rhs expression expressions condition then else arguments procedure stages predicate expr".split(
    " ",
  ),
);

const REFUSED: Readonly<Record<string, string>> = {
  lambda: "function definitions",
  partial: "partial application",
  apply: "the ~> operator",
  transform: "the transform operator",
  wildcard: "the * wildcard",
  descendant: "the ** wildcard",
  parent: "the % parent",
  sort: "the order-by operator",
};

const NOTHING: Node = { kind: "literal", value: null, filters: [] };

/** Lets the allowed part of a syntax tree through and says what it refused. */
export class Admission {
  readonly refusals: Refusal[] = [];
  readonly #bound = new Set<string>();
  readonly #functions: Functions;

  constructor(functions: Functions) {
    this.#functions = functions;
  }

  admit(raw: RawNode, depth = 0): Node {
    if (depth > MAX_DEPTH) return this.#refuse(raw, `an expression nested at most ${MAX_DEPTH} deep`);
    if (Object.hasOwn(REFUSED, raw.type))
      return this.#refuse(raw, `an expression without ${REFUSED[raw.type]}`);
    const odd = Object.keys(raw).find((name) => raw[name] !== undefined && !KNOWN_MEMBERS.has(name));
    if (odd !== undefined) return this.#refuse(raw, `an expression without grouping, [], @ or # (${odd})`);
    const node = this.#plain(raw, depth);
    const filters = [...list(raw["predicate"]), ...list(raw["stages"])].map((stage) => {
      const expr = stage["expr"];
      return stage.type === "filter" && isRaw(expr)
        ? this.admit(expr, depth + 1)
        : this.#refuse(raw, "a plain filter");
    });
    return { ...node, filters };
  }

  #plain(raw: RawNode, depth: number): Node {
    const of = (child: unknown) =>
      isRaw(child) ? this.admit(child, depth + 1) : this.#refuse(raw, "an operand");
    const all = (children: unknown) => list(children).map((child) => this.admit(child, depth + 1));
    const filters: Node[] = [];
    const { value } = raw;
    switch (raw.type) {
      case "string":
      case "number":
      case "value":
        return { kind: "literal", value: literal(value), filters };
      case "regex":
        return this.#refuse(
          raw,
          "a regular expression only as an argument of $match, $contains, $replace or $split",
        );
      case "name":
        return { kind: "name", name: String(value), filters };
      case "variable":
        return this.#variable(raw);
      case "path":
        return { kind: "path", steps: all(raw["steps"]), filters };
      case "binary": {
        const operator = BINARY_OPERATORS.find((each) => each === value);
        if (operator === undefined) return this.#refuse(raw, `no ${String(value)} operator`);
        return {
          kind: "binary",
          operator: operator satisfies BinaryOperator,
          left: of(raw["lhs"]),
          right: of(raw["rhs"]),
          filters,
        };
      }
      case "unary":
        if (value === "-") return { kind: "negate", of: of(raw["expression"]), filters };
        if (value === "[") return { kind: "array", items: all(raw["expressions"]), filters };
        return { kind: "object", pairs: this.#pairs(raw, depth), filters };
      case "condition": {
        const no = raw["else"] === undefined ? undefined : of(raw["else"]);
        return { kind: "condition", test: of(raw["condition"]), yes: of(raw["then"]), no, filters };
      }
      case "block":
        return { kind: "block", body: all(raw["expressions"]), filters };
      case "bind":
        return this.#bind(raw, of);
      case "function":
        return this.#call(raw, depth);
      default:
        return this.#refuse(raw, `an expression without ${raw.type}`);
    }
  }

  #variable(raw: RawNode): Node {
    const name = String(raw.value);
    if (name !== "" && name !== "$" && !this.#bound.has(name))
      return this.#refuse(raw, `no $${name}: nothing is bound to it`);
    return { kind: "variable", name, filters: [] };
  }

  #bind(raw: RawNode, of: (child: unknown) => Node): Node {
    const target = raw["lhs"];
    const name = isRaw(target) ? String(target.value) : "";
    if (Object.hasOwn(this.#functions, name))
      return this.#refuse(raw, `another name than $${name}, which is a function`);
    const value = of(raw["rhs"]);
    this.#bound.add(name);
    return { kind: "bind", name, value, filters: [] };
  }

  #pairs(raw: RawNode, depth: number): (readonly [Node, Node])[] {
    const pairs = Array.isArray(raw["lhs"]) ? raw["lhs"] : [];
    return pairs.map((pair: unknown) => {
      const [name, value] = list(pair);
      if (name === undefined || value === undefined) return [NOTHING, NOTHING];
      return [this.admit(name, depth + 1), this.admit(value, depth + 1)];
    });
  }

  #call(raw: RawNode, depth: number): Node {
    const procedure = raw["procedure"];
    const name = isRaw(procedure) && procedure.type === "variable" ? String(procedure.value) : "";
    const builtin = Object.hasOwn(this.#functions, name) ? this.#functions[name] : undefined;
    if (builtin === undefined) {
      const names = Object.keys(this.#functions);
      const [meant] = suggest(name, names);
      const other = meant === undefined ? "" : `; did you mean $${meant}?`;
      return this.#refuse(
        raw,
        `one of the functions ${names.map((each) => `$${each}`).join(", ")} instead of $${name}${other}`,
      );
    }
    const raws = list(raw["arguments"]);
    const { min, max } = builtin;
    if (raws.length < min || raws.length > max) {
      return this.#refuse(raw, `$${name} with ${min === max ? min : `${min} to ${max}`} argument(s)`);
    }
    const args = raws.map((arg, at) =>
      arg.type === "regex" && at === builtin.regexAt ? this.#regex(arg) : this.admit(arg, depth + 1),
    );
    return { kind: "call", call: builtin.call, args, filters: [] };
  }

  #regex(raw: RawNode): Node {
    if (!(raw.value instanceof RegExp)) return this.#refuse(raw, "a regular expression");
    const regex = compileRegex(raw.value.source, raw.value.flags);
    return typeof regex === "string" ? this.#refuse(raw, regex) : { kind: "regex", regex, filters: [] };
  }

  #refuse(raw: RawNode, message: string): Node {
    this.refusals.push({ message, position: raw.position ?? 0 });
    return NOTHING;
  }
}

/** True for a node of JSONata's syntax tree. */
export function isRaw(value: unknown): value is RawNode {
  return typeof value === "object" && value !== null && "type" in value && typeof value.type === "string";
}

function list(value: unknown): RawNode[] {
  return Array.isArray(value) ? value.filter(isRaw) : [];
}

function literal(value: unknown): string | number | boolean | null {
  return typeof value === "string" || typeof value === "number" || typeof value === "boolean" ? value : null;
}
