import type { Budget } from "./budget.ts";

/** A value of an expression; undefined is JSONata's "nothing". */
export type Value = string | number | boolean | null | undefined | readonly Value[] | ValueObject;
export interface ValueObject {
  readonly [key: string]: Value;
}

/** Results of path steps: unlike an array of the input, a sequence of one is that one, and an empty one is nothing. */
export class Sequence extends Array<Value> {}

export function isArray(value: Value): value is readonly Value[] {
  return Array.isArray(value);
}

export function isObject(value: Value): value is ValueObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** JSONata's effective boolean value. */
export function truthy(value: Value): boolean {
  if (isArray(value)) return value.some(truthy);
  if (isObject(value)) return Object.keys(value).length > 0;
  if (typeof value === "number") return value !== 0 && Number.isFinite(value);
  return typeof value === "string" ? value.length > 0 : value === true;
}

/** JSONata's `$string`: JSON, with numbers at fifteen digits. */
export function stringify(value: Value, budget: Budget): string {
  if (typeof value === "string") return value;
  if (value === undefined) return "";
  if (typeof value === "number" && !Number.isFinite(value)) throw new TypeError("not a finite number");
  const text = JSON.stringify(value, (_key, member: unknown) =>
    typeof member === "number" && !Number.isInteger(member) ? Number(member.toPrecision(15)) : member,
  );
  return budget.text(text);
}

/** Deep equality as JSONata's `=` has it. */
export function equal(a: Value, b: Value, budget: Budget): boolean {
  budget.spend(1);
  if (a === b) {
    if (typeof a === "string") budget.text(a);
    return true;
  }
  if (isArray(a) && isArray(b)) {
    return a.length === b.length && a.every((item, i) => equal(item, b[i], budget));
  }
  if (!isObject(a) || !isObject(b)) return false;
  const names = Object.keys(a);
  return (
    names.length === Object.keys(b).length &&
    names.every((name) => Object.hasOwn(b, name) && equal(a[name], b[name], budget))
  );
}

/** The member `name`, through arrays; own members only. */
export function member(value: Value, name: string, budget: Budget): Value {
  budget.spend(1);
  if (isArray(value)) {
    const found = new Sequence();
    for (const item of value) {
      const of = member(item, name, budget);
      if (isArray(of)) for (const each of of) found.push(each);
      else if (of !== undefined) found.push(of);
    }
    return found;
  }
  return isObject(value) && Object.hasOwn(value, name) ? value[name] : undefined;
}
