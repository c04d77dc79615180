import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { KeyturnError } from "../../../src/errors.ts";
import { baseOf, checkedPath, checkedQuery, targetUrl } from "../../../src/providers/forward/target.ts";
import { hasDotSegment } from "../../../src/tokens/forwarding.ts";

const character = fc.constantFrom(..."/.%25efE0a-~_!$&'()*+,;=:@?#\\ \"é|^`{}\u0001");
const path = fc.array(character, { maxLength: 12 }).map((parts) => `/${parts.join("")}`);
const pairs = fc.array(fc.tuple(fc.string({ unit: "binary", minLength: 1 }), fc.string({ unit: "binary" })), {
  maxLength: 4,
});
const base = fc.constantFrom(
  "https://api.example.test",
  "https://api.example.test/v1",
  "https://api.example.test/v1/",
  "https://api.example.test:8443/a/b?tenant=o'neil&x=1",
);

/** Undefined when it is refused. */
function checked<T>(check: () => T): T | undefined {
  try {
    return check();
  } catch (error) {
    if (error instanceof KeyturnError && error.reason === "INVALID_REQUEST") return undefined;
    throw error;
  }
}

describe("where a call goes", () => {
  it("is written as the parser of URLs would, whatever path and query were let through", () => {
    fc.assert(
      fc.property(base, path, pairs, (text, asked, query) => {
        const found = baseOf(text);
        const through = checked(() => checkedPath(asked));
        const passed = checked(() => checkedQuery(query));
        if (found === undefined || through === undefined || passed === undefined) return;
        const url = targetUrl(found, through, passed, { key: "k'1" });
        expect(new URL(url).href).toBe(url);
        expect(new URL(url).pathname).toBe(`${found.prefix}${through}`);
        const own = [...new URL(text).searchParams, ...passed].filter(([name]) => name !== "key");
        expect([...new URL(url).searchParams]).toEqual([...own, ["key", "k'1"]]);
        expect(hasDotSegment(through)).toBe(false);
      }),
      { numRuns: 2_000 },
    );
  });

  it("is the base URL itself without a path", () => {
    for (const text of ["https://a.test", "https://a.test/v1", "https://a.test/v1/?a=1"]) {
      const found = baseOf(text);
      expect(found && targetUrl(found, "", [], {})).toBe(new URL(text).href);
    }
    expect(baseOf("not a URL")).toBeUndefined();
  });
});

describe("a query", () => {
  it.each([
    ["", "a", "query[0].name"],
    ["a\n", "b", "query[0].name"],
    ["a", "\u007f", "query[0].value"],
    ["a", "\ud800", "query[0].value"],
    ["\udc00", "b", "query[0].name"],
  ])("that cannot be written is refused with its field: %j=%j", (name, value, field) => {
    expect(() => checkedQuery([[name, value]])).toThrow(field);
  });
});
