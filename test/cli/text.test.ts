import { describe, expect, it } from "vitest";
import { clip, plain, widthOf } from "../../src/cli/paint.ts";
import { shellWord } from "../../src/cli/shell-word.ts";
import { table } from "../../src/cli/table.ts";
import { durationMsOf, iso, relative, span, timeMsOf } from "../../src/cli/when.ts";
import { suggest } from "../../src/suggest.ts";

const paint = (_: string, text: string) => text;

describe("a span of time", () => {
  it.each([
    [-5, "0 s"],
    [999, "0 s"],
    [1_000, "1 s"],
    [59_999, "59 s"],
    [60_000, "1 min"],
    [61_000, "1 min 1 s"],
    [3_600_000, "1 h"],
    [3_601_000, "1 h"],
    [7_500_000, "2 h 5 min"],
    [86_400_000 * 60, "60 d"],
    [86_400_000 + 3_600_000 + 60_000, "1 d 1 h"],
  ])("of %i ms is %s", (ms, text) => {
    expect(span(ms)).toBe(text);
  });

  it.each([
    [1_000_999, "now"],
    [1_001_000, "in 1 s"],
    [999_000, "1 s ago"],
  ])("%i is %s at 1,000,000", (ms, text) => {
    expect(relative(ms, 1_000_000)).toBe(text);
  });

  it.each([
    ["0s", 0],
    ["250ms", 250],
    ["15m", 900_000],
    ["400d", 34_560_000_000],
    ["1.5h", undefined],
    ["-1s", undefined],
    ["s", undefined],
    ["", undefined],
  ])("%s reads as %s", (text, ms) => {
    expect(durationMsOf(text)).toBe(ms);
  });
});

describe("a point in time", () => {
  it.each([
    ["2026-11-24", Date.UTC(2026, 10, 24)],
    ["2026-11-24T08:30Z", Date.UTC(2026, 10, 24, 8, 30)],
    ["2026-11-24T08:30:00+02:00", Date.UTC(2026, 10, 24, 6, 30)],
    ["2026-13-01", undefined],
    ["2026-11-24T08:30", undefined],
    ["tomorrow", undefined],
  ])("%s reads as %s", (text, ms) => {
    expect(timeMsOf(text)).toBe(ms);
  });

  it("beyond what a date can hold is shown as unknown", () => {
    expect(iso(8.64e15 + 1)).toBe("?");
  });
});

describe("a table", () => {
  const columns = [
    { title: "ID", of: ({ id }: { id: string }) => id, whole: true },
    { title: "NOTE", of: ({ note }: { note: string }) => note },
    { title: "N", of: ({ n }: { n: number }) => `${n}`, right: true },
  ];
  const rows = [
    { id: "first", note: "a note that is long", n: 7 },
    { id: "2", note: "", n: 12 },
  ];

  it("aligns its columns and clips nothing in a pipe", () => {
    expect(table(rows, columns, { paint, width: undefined })).toBe(
      "ID     NOTE                  N\nfirst  a note that is long   7\n2      -                    12\n",
    );
  });

  it("clips what may be clipped to fit exactly", () => {
    expect(table(rows, columns, { paint, width: 20 }).split("\n")).toEqual([
      "ID     NOTE        N",
      "first  a note t…   7",
      "2      -          12",
      "",
    ]);
  });

  it("clips ids on no terminal, however narrow", () => {
    expect(table(rows, columns, { paint, width: 3 })).toContain("first");
  });

  it("measures wide characters", () => {
    expect(widthOf("日本")).toBe(4);
    expect(widthOf("é")).toBe(1);
    expect(clip("日本語", 5)).toBe("日本…");
    expect(clip("日本語", 6)).toBe("日本語");
  });
});

it("takes control and reordering characters out of text", () => {
  expect(plain("a\u001b[31m\u009b\u202eb\n")).toBe("a\ufffd[31m\ufffd\ufffdb\ufffd");
});

describe("a word for the shell", () => {
  it.each([
    ["acme-1.x~y", "acme-1.x~y"],
    ["", "''"],
    ["a b", "'a b'"],
    ["it's", `'it'\\''s'`],
    ["-x", "'-x'"],
    ["$(x)", "'$(x)'"],
  ])("%s is written %s", (text, word) => {
    expect(shellWord(text)).toBe(word);
  });
});

it("suggests what a mistyped word may have meant, and nothing for another word", () => {
  expect(suggest("lsit", ["list", "lint", "get"])).toEqual(["list"]);
  expect(suggest("re", ["refresh", "remap", "list"])).toEqual(["refresh", "remap"]);
  expect(suggest("zzzzzz", ["list"])).toEqual([]);
  expect(suggest("", ["list", "get"])).toEqual(["list", "get"]);
});
