import { readFileSync } from "node:fs";
import { join } from "node:path";
import { status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import * as z from "zod";
import { exitOfReason } from "../../src/cli/exit.ts";
import { configSchema } from "../../src/config/schema.ts";
import type { Reason } from "../../src/errors.ts";
import { codeOf } from "../../src/rpc/status.ts";

const readme = readFileSync(join(import.meta.dirname, "../../README.md"), "utf8");

/** Rows of the table below a heading, each as its cells. */
function rowsOf(heading: string): readonly (readonly string[])[] {
  const section = readme.split(/^## /m).find((part) => part.startsWith(`${heading}\n`)) ?? "";
  const rows = section.split("\n").filter((line) => line.startsWith("| `"));
  return rows.map((line) => line.split("|").map((cell) => cell.trim()));
}

const named = (cell = "") => [...cell.matchAll(/`([^`]+)`/g)].map(([, name = ""]) => name);

interface Described {
  readonly properties?: Readonly<Record<string, Described>>;
}

function keysOf({ properties }: Described, path: readonly string[] = []): readonly string[] {
  if (properties === undefined) return [path.join(".")];
  return Object.entries(properties).flatMap(([name, inner]) => keysOf(inner, [...path, name]));
}

describe("the README's reference", () => {
  it("has every key of the configuration, and no other", () => {
    const schema = z.toJSONSchema(configSchema, { io: "input", unrepresentable: "any" });
    const listed = rowsOf("Configuration").flatMap(([, cell]) => named(cell));
    expect([...listed].sort()).toEqual([...keysOf(schema as Described)].sort());
  });

  it("has every reason of an error with its gRPC code, and no other", () => {
    const rows = rowsOf("Errors");
    expect(rows.length).toBeGreaterThan(30);
    for (const [, cell, code] of rows) {
      const [reason = ""] = named(cell);
      expect(exitOfReason(reason), reason).toBeDefined();
      expect([reason, code]).toEqual([reason, status[codeOf(reason as Reason)]]);
    }
    const all = readFileSync(join(import.meta.dirname, "../../src/errors.ts"), "utf8");
    const reasons = [...all.matchAll(/^ {2}\| "([A-Z_]+)"/gm)].map(([, name]) => name);
    expect(rows.flatMap(([, cell]) => named(cell)).sort()).toEqual(reasons.sort());
  });

  it("has every exit code", () => {
    const text = readme.replaceAll("\n", " ");
    expect(text).toContain("0 done, 1 failed or partly, 2 usage or configuration, 3 not found");
    expect(text).toContain("4 sidecar or backend unavailable, 5 re-authorization needed, 130 interrupted");
  });
});
