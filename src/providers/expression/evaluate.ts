import type { Node } from "./ast.ts";
import { Budget, MAX_DEPTH } from "./budget.ts";
import type { Argument } from "./functions.ts";
import { equal, isArray, member, Sequence, stringify, truthy, type Value } from "./values.ts";

type Frame = { readonly bound: Map<string, Value>; readonly parent: Frame | undefined };

/** Runs an expression over `input`. Throws TypeError or RangeError when it fails or costs too much. */
export function evaluate(node: Node, input: Value): Value {
  const out = new Evaluation(input).value(node, input, undefined, 0);
  return isArray(out) ? [...out] : out;
}

class Evaluation {
  readonly #root: Value;
  readonly #budget = new Budget();

  constructor(root: Value) {
    this.#root = root;
  }

  value(node: Node, input: Value, frame: Frame | undefined, depth: number): Value {
    if (depth > MAX_DEPTH) throw new RangeError("too deep");
    this.#budget.spend(1);
    let out = this.#plain(node, input, frame, depth);
    if (node.kind !== "path")
      for (const filter of node.filters) out = this.#filter(filter, out, frame, depth + 1);
    if (typeof out === "string") this.#budget.text(out);
    return single(out);
  }

  #plain(node: Node, input: Value, frame: Frame | undefined, depth: number): Value {
    const of = (child: Node) => this.value(child, input, frame, depth + 1);
    switch (node.kind) {
      case "literal":
        return node.value;
      case "name":
        return member(input, node.name, this.#budget);
      case "variable":
        return this.#variable(node.name, input, frame);
      case "path":
        return this.#path(node.steps, input, frame, depth);
      case "binary":
        return this.#binary(node, of);
      case "negate": {
        const number = of(node.of);
        if (number === undefined) return undefined;
        if (typeof number !== "number") throw new TypeError("only numbers have a sign");
        return -number;
      }
      case "array":
        return this.#array(node.items, of);
      case "object":
        return this.#object(node.pairs, input, frame, depth);
      case "condition":
        return truthy(of(node.test)) ? of(node.yes) : node.no === undefined ? undefined : of(node.no);
      case "block": {
        const inner: Frame = { bound: new Map(), parent: frame };
        let last: Value;
        for (const child of node.body) last = this.value(child, input, inner, depth + 1);
        return last;
      }
      case "bind": {
        const value = of(node.value);
        frame?.bound.set(node.name, value);
        return value;
      }
      case "call":
        return this.#call(node, of);
      case "regex":
        throw new TypeError("a regular expression is no value");
    }
  }

  #variable(name: string, input: Value, frame: Frame | undefined): Value {
    if (name === "") return input;
    if (name === "$") return this.#root;
    for (let at = frame; at !== undefined; at = at.parent) if (at.bound.has(name)) return at.bound.get(name);
    return undefined;
  }

  #path(steps: readonly Node[], input: Value, frame: Frame | undefined, depth: number): Value {
    let items: readonly Value[] =
      isArray(input) && steps[0]?.kind !== "variable" ? input : Sequence.of(input);
    for (const [at, step] of steps.entries()) {
      items = this.#step(step, items, frame, depth, at === steps.length - 1);
      if (items.length === 0) break;
    }
    return items;
  }

  /** One step over every item; what it gives is flattened, except an array of the input that is all there is. */
  #step(
    step: Node,
    items: readonly Value[],
    frame: Frame | undefined,
    depth: number,
    last: boolean,
  ): readonly Value[] {
    const bare = { ...step, filters: [] };
    const results: Value[] = [];
    for (const item of items) {
      let out = this.value(bare, item, frame, depth + 1);
      for (const filter of step.filters) out = this.#filter(filter, out, frame, depth + 1);
      if (out !== undefined) results.push(out);
    }
    const [only] = results;
    if (last && results.length === 1 && isArray(only) && !(only instanceof Sequence)) return only;
    const flat = new Sequence();
    for (const result of results) {
      if (!isArray(result)) flat.push(result);
      else for (const each of result) flat.push(each);
    }
    this.#budget.spend(flat.length);
    return flat;
  }

  #filter(filter: Node, value: Value, frame: Frame | undefined, depth: number): Value {
    const items = isArray(value) ? value : value === undefined ? Sequence.of(undefined) : Sequence.of(value);
    if (filter.kind === "literal" && typeof filter.value === "number") {
      const at = Math.floor(filter.value);
      const item = items[at < 0 ? items.length + at : at];
      return isArray(item) ? item : item === undefined ? new Sequence() : Sequence.of(item);
    }
    const kept = new Sequence();
    for (const [index, item] of items.entries()) {
      const verdict = this.value(filter, item, frame, depth + 1);
      const wanted = typeof verdict === "number" ? [verdict] : verdict;
      if (isArray(wanted) && wanted.length > 0 && wanted.every((each) => typeof each === "number")) {
        for (const each of wanted) {
          const at = Math.floor(Number(each));
          if ((at < 0 ? items.length + at : at) === index) kept.push(item);
        }
      } else if (truthy(verdict)) kept.push(item);
    }
    return kept;
  }

  #binary(node: Extract<Node, { kind: "binary" }>, of: (child: Node) => Value): Value {
    const left = of(node.left);
    if (node.operator === "and") return truthy(left) && truthy(of(node.right));
    if (node.operator === "or") return truthy(left) || truthy(of(node.right));
    const right = of(node.right);
    switch (node.operator) {
      case "=":
        return left !== undefined && right !== undefined && equal(left, right, this.#budget);
      case "!=":
        return left !== undefined && right !== undefined && !equal(left, right, this.#budget);
      case "&":
        return this.#budget.text(stringify(left, this.#budget) + stringify(right, this.#budget));
      case "in": {
        if (left === undefined || right === undefined) return false;
        const list = isArray(right) ? right : [right];
        this.#budget.spend(list.length);
        return list.includes(left);
      }
      case "<":
      case "<=":
      case ">":
      case ">=":
        return compared(node.operator, left, right);
      default:
        return calculated(node.operator, left, right);
    }
  }

  #array(items: readonly Node[], of: (child: Node) => Value): Value {
    const out: Value[] = [];
    for (const item of items) {
      const value = of(item);
      if (item.kind === "array" || !isArray(value)) {
        if (value !== undefined) out.push(value);
      } else for (const each of value) out.push(each);
    }
    this.#budget.spend(out.length);
    return out;
  }

  #object(
    pairs: readonly (readonly [Node, Node])[],
    input: Value,
    frame: Frame | undefined,
    depth: number,
  ): Value {
    const items = isArray(input) ? input : [input];
    if (items.length > 1) throw new TypeError("an object is built from one item");
    const out: [string, Value][] = [];
    for (const [name, value] of pairs) {
      const key = this.value(name, items[0], frame, depth + 1);
      if (key === undefined) continue;
      if (typeof key !== "string") throw new TypeError("an object's key is a string");
      if (out.some(([other]) => other === key)) throw new TypeError("two members of one name");
      const made = this.value(value, items[0], frame, depth + 1);
      if (made !== undefined) out.push([key, made]);
    }
    return Object.fromEntries(out);
  }

  #call(node: Extract<Node, { kind: "call" }>, of: (child: Node) => Value): Value {
    const args: Argument[] = node.args.map((arg) => (arg.kind === "regex" ? { regex: arg.regex } : of(arg)));
    return node.call(args, this.#budget);
  }
}

function single(value: Value): Value {
  return value instanceof Sequence && value.length < 2 ? value[0] : value;
}

function calculated(operator: string, left: Value, right: Value): Value {
  for (const side of [left, right]) {
    if (side !== undefined && typeof side !== "number")
      throw new TypeError("only numbers can be calculated with");
  }
  if (typeof left !== "number" || typeof right !== "number") return undefined;
  const out =
    { "+": left + right, "-": left - right, "*": left * right, "/": left / right }[operator] ?? left % right;
  if (!Number.isFinite(out)) throw new RangeError("a number out of range");
  return out;
}

function compared(operator: "<" | "<=" | ">" | ">=", left: Value, right: Value): Value {
  for (const side of [left, right]) {
    if (side !== undefined && typeof side !== "number" && typeof side !== "string")
      throw new TypeError("only numbers and strings have an order");
  }
  if (left === undefined || right === undefined || left === null || right === null) return undefined;
  if (typeof left !== typeof right) throw new TypeError("a number and a string have no order");
  if (operator === "<") return left < right;
  if (operator === "<=") return left <= right;
  return operator === ">" ? left > right : left >= right;
}
