import { type FieldViolation, KeyturnError } from "../errors.ts";
import type { FieldRule } from "./vendor.ts";

/**
 * INVALID_REQUEST for fields that no request could be made of: unknown to the provider's file, not of its pattern, or
 * missing. An account without a credential may get what is missing when it is connected.
 */
export function checkFields(
  rules: readonly FieldRule[] | undefined,
  fields: Readonly<Record<string, string>>,
  hasCredential: boolean,
): void {
  if (rules === undefined) return;
  const known = new Map(rules.map((rule) => [rule.name, rule]));
  const names = rules.length === 0 ? "it has none" : `it has ${[...known.keys()].join(", ")}`;
  const wrong: FieldViolation[] = [];
  for (const [name, value] of Object.entries(fields)) {
    const rule = known.get(name);
    if (rule === undefined)
      wrong.push({ field: `fields.${name}`, description: `no field of the provider's file; ${names}` });
    else if (!rule.accepts(value))
      wrong.push({ field: `fields.${name}`, description: `must be ${rule.expected}` });
  }
  for (const { name, needed, expected } of hasCredential ? rules : []) {
    if (needed && !Object.hasOwn(fields, name))
      wrong.push({ field: `fields.${name}`, description: `this provider needs it: ${expected}` });
  }
  if (wrong.length === 0) return;
  const message = wrong.map(({ field, description }) => `${field}: ${description}`).join("; ");
  throw new KeyturnError("INVALID_REQUEST", message, { violations: wrong });
}
