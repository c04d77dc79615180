import type { Regex, RegexMatch } from "./ast.ts";
import type { Budget } from "./budget.ts";
import { claimsIn } from "./claims.ts";
import { isArray, isObject, member, Sequence, stringify, truthy, type Value } from "./values.ts";

/** An argument: a value, or a regular expression where JSONata takes one. */
export type Argument = Value | { readonly regex: Regex };
export type Call = (args: readonly Argument[], budget: Budget) => Value;

export interface Builtin {
  readonly min: number;
  readonly max: number;
  /** Which argument may be a regular expression. */
  readonly regexAt?: number;
  readonly call: Call;
}

const isRegex = (value: Argument): value is { readonly regex: Regex } =>
  typeof value === "object" && value !== null && "regex" in value && typeof value.regex === "object";

export function plain(args: readonly Argument[], at: number): Value {
  const value = args[at];
  if (isRegex(value)) throw new TypeError("a regular expression is no value");
  return value;
}

export function text(args: readonly Argument[], at: number): string {
  const value = plain(args, at);
  if (typeof value !== "string") throw new TypeError(`argument ${at + 1} is not a string`);
  return value;
}

function numeric(args: readonly Argument[], at: number): number {
  const value = plain(args, at);
  if (typeof value !== "number") throw new TypeError(`argument ${at + 1} is not a number`);
  return value;
}

/** Functions of a string give nothing for nothing. */
function ofText(
  min: number,
  max: number,
  call: (value: string, args: readonly Argument[], budget: Budget) => Value,
): Builtin {
  return {
    min,
    max,
    call: (args, budget) =>
      args[0] === undefined ? undefined : call(budget.text(text(args, 0)), args, budget),
  };
}

const searching = (builtin: Builtin): Builtin => ({ ...builtin, regexAt: 1 });

function* matches(value: string, regex: Regex, budget: Budget): Generator<RegexMatch> {
  for (let from = 0; from <= value.length; ) {
    budget.search(value.length - from, regex.size);
    const found = regex.find(value, from);
    if (found === undefined) return;
    if (found.match === "" && from > 0)
      throw new RangeError("the regular expression matches nothing, for ever");
    yield found;
    if (found.end >= value.length) return;
    from = found.end;
  }
}

function limitOf(args: readonly Argument[], at: number): number {
  if (args[at] === undefined) return Number.POSITIVE_INFINITY;
  const limit = numeric(args, at);
  if (limit < 0) throw new RangeError("a limit below zero");
  return limit;
}

function toNumber(value: Value): Value {
  if (value === undefined || typeof value === "number") return value;
  if (typeof value === "boolean") return value ? 1 : 0;
  if (typeof value === "string" && /^-?(0|[1-9][0-9]*)(\.[0-9]+)?([Ee][-+]?[0-9]+)?$/.test(value)) {
    const number = Number(value);
    if (Number.isFinite(number)) return number;
  }
  throw new TypeError("not a number");
}

function replaced(value: string, args: readonly Argument[], budget: Budget): string {
  const by = text(args, 2);
  const limit = limitOf(args, 3);
  const pattern = args[1];
  let out = "";
  let from = 0;
  let count = 0;
  if (!isRegex(pattern)) {
    const what = text(args, 1);
    if (what === "") throw new RangeError("an empty string cannot be replaced");
    for (let at = value.indexOf(what); at !== -1 && count < limit; at = value.indexOf(what, from), count++) {
      out = budget.text(out + value.slice(from, at) + by);
      from = at + what.length;
    }
    return budget.text(out + value.slice(from));
  }
  if (limit === 0) return value;
  for (const found of matches(value, pattern.regex, budget)) {
    out = budget.text(out + value.slice(from, found.start) + substituted(by, found));
    from = found.end;
    if (++count >= limit) break;
  }
  return budget.text(out + value.slice(from));
}

/** `$$` is a dollar, `$0` the match, `$n` its n-th group. */
function substituted(by: string, found: RegexMatch): string {
  const groups = found.groups;
  return by.replace(/\$(\$|[0-9]{1,2})/g, (whole, what: string) => {
    if (what === "$") return "$";
    if (what[0] === "0") return found.match + what.slice(1);
    const two = Number(what);
    const digits = what.length === 2 && groups.length >= 10 && two <= groups.length ? 2 : 1;
    return (groups[Number(what.slice(0, digits)) - 1] ?? "") + whole.slice(1 + digits);
  });
}

function split(value: string, args: readonly Argument[], budget: Budget): Value {
  const limit = limitOf(args, 2);
  const separator = args[1];
  if (!isRegex(separator)) {
    const parts = value.split(text(args, 1), Number.isFinite(limit) ? Math.trunc(limit) : undefined);
    budget.spend(parts.length);
    return parts;
  }
  const parts: string[] = [];
  let from = 0;
  for (const found of limit === 0 ? [] : matches(value, separator.regex, budget)) {
    parts.push(value.slice(from, found.start));
    from = found.end;
    if (parts.length >= limit) break;
  }
  if (parts.length < limit) parts.push(value.slice(from));
  return parts;
}

function matched(value: string, args: readonly Argument[], budget: Budget): Value {
  const pattern = args[1];
  if (!isRegex(pattern)) throw new TypeError("$match takes a regular expression");
  const limit = limitOf(args, 2);
  const out = new Sequence();
  for (const { match, start, groups } of limit === 0 ? [] : matches(value, pattern.regex, budget)) {
    out.push({ match, index: start, groups: groups.map((group) => group ?? null) });
    if (out.length >= limit) break;
  }
  return out;
}

function contains(value: string, args: readonly Argument[], budget: Budget): Value {
  const what = args[1];
  if (!isRegex(what)) return what === undefined ? undefined : value.includes(text(args, 1));
  budget.search(value.length, what.regex.size);
  return what.regex.find(value, 0) !== undefined;
}

function joined(args: readonly Argument[], budget: Budget): Value {
  const list = plain(args, 0);
  if (list === undefined) return undefined;
  const separator = args[1] === undefined ? "" : text(args, 1);
  let out = "";
  for (const [at, part] of (isArray(list) ? list : [list]).entries()) {
    if (typeof part !== "string") throw new TypeError("only strings can be joined");
    out = budget.text(at === 0 ? part : out + separator + part);
  }
  return out;
}

function substring(value: string, args: readonly Argument[]): string {
  const characters = Array.from(value);
  const start = characters.length + numeric(args, 1) < 0 ? 0 : numeric(args, 1);
  if (args[2] === undefined) return characters.slice(start).join("");
  const length = numeric(args, 2);
  if (length <= 0) return "";
  return characters.slice(start, start >= 0 ? start + length : characters.length + start + length).join("");
}

const ISO_8601 = /^\d{4}(-[01]\d)?(-[0-3]\d)?(T[0-2]\d:[0-5]\d:[0-5]\d)?(\.\d+)?([+-][0-2]\d:?[0-5]\d|Z)?$/;

function toMillis(value: string): number {
  const millis = ISO_8601.test(value) ? Date.parse(value) : Number.NaN;
  if (Number.isNaN(millis)) throw new TypeError("not an ISO 8601 time");
  return millis;
}

function typeOf(value: Value): Value {
  if (value === undefined) return undefined;
  if (value === null) return "null";
  if (isArray(value)) return "array";
  return isObject(value) ? "object" : typeof value;
}

/** Not JSONata's: the claims of a token that is a JWT, unverified. Nothing for any other text. */
function jwtClaims(value: string): Value {
  const [, payload] = /^[\w-]+\.([\w-]+)\.[\w-]*$/.exec(value) ?? [];
  return payload === undefined ? undefined : claimsIn(payload);
}

const one = (call: (value: Value, budget: Budget) => Value): Builtin => ({
  min: 1,
  max: 1,
  call: (args, budget) => call(plain(args, 0), budget),
});

/** Functions by name, without the `$`. */
export type Functions = Readonly<Record<string, Builtin>>;

/** The functions of JSONata that a provider file may call: each is total, finite, and without a clock or chance. */
export const FUNCTIONS: Functions = {
  string: one((value, budget) => (value === undefined ? undefined : stringify(value, budget))),
  number: one(toNumber),
  boolean: one((value) => (value === undefined ? undefined : truthy(value))),
  not: one((value) => (value === undefined ? undefined : !truthy(value))),
  exists: one((value) => value !== undefined),
  type: one(typeOf),
  count: one((value) => (value === undefined ? 0 : isArray(value) ? value.length : 1)),
  floor: {
    min: 1,
    max: 1,
    call: (args) => (args[0] === undefined ? undefined : Math.floor(numeric(args, 0))),
  },
  lookup: { min: 2, max: 2, call: (args, budget) => member(plain(args, 0), text(args, 1), budget) },
  length: ofText(1, 1, (value) => Array.from(value).length),
  lowercase: ofText(1, 1, (value) => value.toLowerCase()),
  uppercase: ofText(1, 1, (value) => value.toUpperCase()),
  trim: ofText(1, 1, (value) => value.replace(/[ \t\n\r]+/g, " ").replace(/^ | $/g, "")),
  substring: ofText(2, 3, substring),
  substringBefore: ofText(2, 2, (value, args) => {
    const at = value.indexOf(text(args, 1));
    return at === -1 ? value : value.slice(0, at);
  }),
  substringAfter: ofText(2, 2, (value, args) => {
    const at = value.indexOf(text(args, 1));
    return at === -1 ? value : value.slice(at + text(args, 1).length);
  }),
  contains: searching(ofText(2, 2, contains)),
  match: searching(ofText(2, 3, matched)),
  replace: searching(ofText(3, 4, replaced)),
  split: searching(ofText(2, 3, split)),
  join: { min: 1, max: 2, call: joined },
  toMillis: ofText(1, 1, toMillis),
  base64encode: ofText(1, 1, (value) => Buffer.from(value, "latin1").toString("base64")),
  base64decode: ofText(1, 1, (value) => Buffer.from(value, "base64").toString("latin1")),
  jwtClaims: ofText(1, 1, jwtClaims),
  encodeUrlComponent: ofText(1, 1, (value) => encodeURIComponent(value)),
};
