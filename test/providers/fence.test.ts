import fc from "fast-check";
import jsonata from "jsonata";
import { describe, expect, it } from "vitest";
import type { Value } from "../../src/providers/expression/values.ts";
import { compileExpression, isFault } from "../../src/providers/fence.ts";

function run(source: string, input: Value = {}) {
  const compiled = compileExpression(source);
  if (isFault(compiled)) throw new Error(compiled.message);
  return compiled.run(input);
}

const value = (source: string, input: Value = {}) => {
  const outcome = run(source, input);
  return outcome.ok ? outcome.value : `failed: ${outcome.why}`;
};

const refusal = (source: string) => {
  const compiled = compileExpression(source);
  return isFault(compiled) ? compiled.message : "accepted";
};

describe("the fence around expressions", () => {
  it.each([
    "$eval('1')",
    "function($x){ $x }",
    "($f := function($n){ $f($n) }; $f(1))",
    "$map([1], $string)",
    "$now()",
    "$millis()",
    "$fromMillis(1, '[Y]')",
    "$toMillis('1', '[Y]')",
    "$pad('a', 1000000000)",
    "$random()",
    "$shuffle([1])",
    "$formatNumber(1, '#')",
    "a.*",
    "a.**",
    "a.%",
    "a^(b)",
    "a{b: c}",
    "a@$x.b",
    "a#$i",
    "a[]",
    "[1..10000000]",
    "a ~> $string",
    "$string(?)",
    "a ~> |b|{}|",
    "$nothing",
    "($string := 1; $string)",
    "/a/",
    "$match(a, /(a)\\1/)",
    "$match(a, /a(?=b)/)",
    "$match(a, /((a{100}){100}){100}/)",
    "$match(a, /[a-z]{900}[0-9]{900}/)",
    "$contains(a)",
    "$not()",
    "a b",
  ])("refuses %s at load", (source) => {
    expect(refusal(source)).not.toBe("accepted");
  });

  it("refuses at load what nests too deeply or is too long", () => {
    for (const source of [
      "(".repeat(4_000),
      "a".repeat(5_000),
      `${"(".repeat(1_000)}1${")".repeat(1_000)}`,
      `${"-".repeat(3_000)}a`,
    ]) {
      expect(refusal(source)).not.toBe("accepted");
    }
  });

  it("cannot be led out through prototypes", () => {
    for (const source of [
      "constructor",
      "body.__proto__",
      "$lookup($, 'constructor')",
      "'a'.length",
      "body.toString",
    ]) {
      expect(value(source, { body: {} })).toBeUndefined();
    }
    expect(refusal("$constructor('x')")).not.toBe("accepted");
    expect(refusal("$__proto__('x')")).not.toBe("accepted");
  });

  it("ends a bomb within its steps, as a failure and quickly", () => {
    const many = { items: Array.from({ length: 5_000 }, (_, i) => i), text: "a".repeat(60_000) };
    const startedAt = performance.now();
    for (const source of [
      "items[items[items[$ > 1]]]",
      "($a := text & text; $b := $a & $a; $c := $b & $b; $c)",
      "$replace(text, 'a', text)",
      "$replace(text, /a/, text)",
      "$match(text, /.*z|a/)",
      "$split(text, /a*?b|a/)",
      "items.($$.items.($$.items))",
      "$string([text, text])",
      "$join([text, text], text)",
    ]) {
      expect(run(source, many).ok, source).toBe(false);
    }
    expect(performance.now() - startedAt).toBeLessThan(3_000);
  });

  it("runs a backtracking bomb in linear time", () => {
    const startedAt = performance.now();
    expect(value("$contains(a, /^(a+)+$/)", { a: `${"a".repeat(200)}!` })).toBe(false);
    expect(performance.now() - startedAt).toBeLessThan(200);
  });

  it("fails, rather than gives a wrong value, on a type error", () => {
    for (const source of ["a + 1", "$length(1)", "$number('x')", "a < 1", "-a", "1 / 0"])
      expect(run(source, { a: "x" }).ok).toBe(false);
  });

  it("means what JSONata means", async () => {
    const input = {
      status: 400,
      headers: { "retry-after": "5" },
      body: {
        ok: false,
        error: "ratelimited",
        nothing: null,
        n: [1, 2, [3]],
        items: [{ a: 1, b: "x" }, { a: 2, b: ["y", "z"] }, { b: "q" }],
        s: "AADSTS700082: x, a1b22c333",
        e: {},
      },
    };
    const names = [
      "status",
      "headers",
      "body",
      "ok",
      "error",
      "nothing",
      "n",
      "items",
      "a",
      "b",
      "s",
      "e",
      "zip",
      "`retry-after`",
    ];
    const { expression } = fc.letrec<{ expression: string; path: string }>((tie) => ({
      path: fc
        .array(fc.constantFrom(...names), { minLength: 1, maxLength: 3 })
        .map((steps) => steps.join(".")),
      expression: fc.oneof(
        { depthSize: "small" },
        tie("path"),
        fc.constantFrom(
          "1",
          "0",
          "-1",
          '"x"',
          '""',
          "true",
          "false",
          "null",
          "$",
          "$$",
          "body.items",
          "body.n",
        ),
        fc
          .tuple(
            tie("expression"),
            fc.constantFrom("+", "-", "*", "=", "!=", "<", ">=", "&", "and", "or", "in"),
            tie("expression"),
          )
          .map(([a, op, b]) => `(${a} ${op} ${b})`),
        fc
          .tuple(tie("expression"), tie("expression"), tie("expression"))
          .map(([a, b, c]) => `(${a} ? ${b} : ${c})`),
        fc
          .tuple(
            fc.constantFrom(
              "string",
              "boolean",
              "not",
              "exists",
              "count",
              "type",
              "number",
              "length",
              "lowercase",
              "trim",
            ),
            tie("expression"),
          )
          .map(([f, a]) => `$${f}(${a})`),
        fc.tuple(tie("path"), tie("expression")).map(([a, b]) => `${a}[${b}]`),
        fc.tuple(tie("path"), tie("expression")).map(([a, b]) => `${a}.(${b})`),
        fc.array(tie("expression"), { maxLength: 3 }).map((items) => `[${items.join(", ")}]`),
        fc.tuple(tie("expression"), tie("expression")).map(([a, b]) => `($v := ${a}; [$v, ${b}])`),
        fc.tuple(tie("expression"), tie("expression")).map(([a, b]) => `{"k": ${a}, "l": ${b}}`),
        fc
          .tuple(tie("expression"), fc.constantFrom('"a"', "/[a-z]+/", "/([0-9])([0-9])?/", "/x/i"))
          .map(([a, b]) => `$contains(${a}, ${b})`),
        fc
          .tuple(tie("path"), fc.constantFrom("/([a-z])([0-9]+)/", "/[0-9]/", "/q/"))
          .map(([a, b]) => `$match(${a}, ${b})`),
        fc
          .tuple(
            tie("path"),
            fc.constantFrom('"a"', "/[0-9]/", "/([0-9])([0-9])/"),
            fc.constantFrom('"<$1$2>"', '"$0$$"', '"-"'),
          )
          .map(([a, b, c]) => `$replace(${a}, ${b}, ${c})`),
        fc.tuple(tie("path"), fc.constantFrom('","', "/[ ,]+/", '""')).map(([a, b]) => `$split(${a}, ${b})`),
        fc
          .tuple(tie("path"), fc.integer({ min: -5, max: 5 }), fc.integer({ min: -1, max: 5 }))
          .map(([a, b, c]) => `$substring(${a}, ${b}, ${c})`),
      ),
    }));
    let compared = 0;
    await fc.assert(
      fc.asyncProperty(expression, async (source) => {
        const compiled = compileExpression(source);
        if (isFault(compiled)) return;
        const mine = compiled.run(input);
        if (!mine.ok) return;
        const reference: unknown = await jsonata(source).evaluate(input);
        compared++;
        expect(JSON.stringify(mine.value)).toBe(JSON.stringify(reference));
      }),
      { numRuns: 1_500 },
    );
    expect(compared).toBeGreaterThan(500);
  });
});
