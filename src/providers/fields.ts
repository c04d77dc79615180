import { invalid, KeyturnError } from "../errors.ts";
import type { compilePattern } from "./expression/regex.ts";
import { type Lookup, parseOrigin } from "./template.ts";

/** One label of a domain name. */
export const DNS_LABEL = /^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/;
const MAX_FIELD_LENGTH = 1_024;

/** What a value of a named field must look like. */
export interface FieldRule {
  readonly default: string | undefined;
  /** It may decide where a request goes. */
  readonly mayBeHost: boolean;
  readonly suffixes: readonly string[];
  readonly expected: string;
  accepts(value: string): boolean;
}

interface Constraint {
  readonly pattern?: string | undefined;
  readonly allowed_suffixes?: readonly string[] | undefined;
  readonly default?: string | undefined;
}

/** A string: what would be right. `otherwise` decides when the file gives neither pattern nor suffixes. */
export function compileField(
  constraint: Constraint,
  otherwise: "dns_label" | "any_text",
  compile: typeof compilePattern,
): FieldRule | string {
  const { pattern, allowed_suffixes: suffixes = [], default: preset } = constraint;
  const matches = pattern === undefined ? undefined : compile(pattern);
  if (typeof matches === "string") return matches;
  const shape = fieldShape(matches, suffixes, otherwise);
  const accepts = (value: string) =>
    value.length <= MAX_FIELD_LENGTH && /^[\x20-\x7e]+$/.test(value) && shape(value);
  if (preset !== undefined && !accepts(preset)) return "a default that its own pattern and suffixes accept";
  const expected =
    pattern ??
    (suffixes.length > 0
      ? `a host in ${suffixes.join(", ")}`
      : otherwise === "dns_label"
        ? "one DNS label"
        : "text");
  const mayBeHost = matches !== undefined || suffixes.length > 0 || otherwise === "dns_label";
  return { default: preset, mayBeHost, suffixes, expected, accepts };
}

function fieldShape(
  matches: ((value: string) => boolean) | undefined,
  suffixes: readonly string[],
  otherwise: "dns_label" | "any_text",
): (value: string) => boolean {
  if (suffixes.length > 0) {
    return (value) =>
      (matches?.(value) ?? true) && suffixes.some((suffix) => isWithin(hostIn(value), suffix));
  }
  if (matches !== undefined) return matches;
  return otherwise === "dns_label" ? (value) => DNS_LABEL.test(value) : () => true;
}

/** A value that must lie in a domain is a host, or an origin on the default port. */
function hostIn(value: string): string {
  if (!value.includes("/")) return /^[A-Za-z0-9.-]+$/.test(value) ? value.toLowerCase() : "";
  const url = parseOrigin(value);
  return url?.protocol === "https:" && url.port === "" ? url.hostname : "";
}

/** True for the domain itself and everything below it. */
export function isWithin(host: string, domain: string): boolean {
  return host === domain || host.endsWith(`.${domain}`);
}

/** Values of an account's fields, each checked when it is used. */
export function fieldLookup(
  rules: ReadonlyMap<string, FieldRule>,
  fields: Readonly<Record<string, string>>,
  more: Readonly<Record<string, string>> = {},
): Lookup {
  return (name) => {
    const extra = Object.hasOwn(more, name) ? more[name] : undefined;
    if (extra !== undefined) return extra;
    const rule = rules.get(name);
    const value = (Object.hasOwn(fields, name) ? fields[name] : undefined) ?? rule?.default;
    if (value === undefined || rule === undefined) throw invalid(`fields.${name}`, "this provider needs it");
    if (rule.accepts(value)) return value;
    const violation = { field: `fields.${name}`, description: `must be ${rule.expected}` };
    throw new KeyturnError("DESTINATION_NOT_ALLOWED", `fields.${name} must be ${rule.expected}.`, {
      violations: [violation],
    });
  };
}
