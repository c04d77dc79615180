import { describe, expect, it } from "vitest";
import { KeyturnError } from "../../src/errors.ts";
import { checkFields } from "../../src/tokens/account-fields.ts";

const RULES = [
  { name: "subdomain", needed: true, expected: "one DNS label", accepts: (value: string) => value !== "a/b" },
  {
    name: "region",
    needed: false,
    expected: "eu or us",
    accepts: (value: string) => /^(eu|us)$/.test(value),
  },
];

function faultsOf(fields: Record<string, string>, hasCredential = true): readonly string[] {
  try {
    checkFields(RULES, fields, hasCredential);
  } catch (error) {
    if (error instanceof KeyturnError) return error.violations.map(({ field }) => field);
    throw error;
  }
  return [];
}

describe("an account's fields", () => {
  it("are taken when the provider's file can make requests of them", () => {
    expect(faultsOf({ subdomain: "acme" })).toEqual([]);
    expect(faultsOf({ subdomain: "acme", region: "eu" })).toEqual([]);
  });

  it("are refused by name: misspelt, of another form, or missing", () => {
    expect(faultsOf({ subdomian: "acme" })).toEqual(["fields.subdomian", "fields.subdomain"]);
    expect(faultsOf({ subdomain: "a/b", region: "mars" })).toEqual(["fields.subdomain", "fields.region"]);
    expect(faultsOf({})).toEqual(["fields.subdomain"]);
  });

  it("may be missing until the customer connects", () => {
    expect(faultsOf({}, false)).toEqual([]);
    expect(faultsOf({ subdomain: "a/b" }, false)).toEqual(["fields.subdomain"]);
  });

  it("are anything where the file is not known to say what they are", () => {
    expect(() => checkFields(undefined, { any: "thing" }, true)).not.toThrow();
  });
});
