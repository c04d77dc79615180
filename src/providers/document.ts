import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  LineCounter,
  type Node,
  type Pair,
  parseDocument,
  visit,
  type YAMLParseError,
  type YAMLWarning,
} from "yaml";
import * as z from "zod";
import type { CompileFault } from "./compiler.ts";
import { shapeFaults } from "./shape-faults.ts";

export const MAX_FILE_BYTES = 262_144;

/** One thing wrong with one file, told so that it can be mended at once. */
export interface Fault {
  readonly file: string;
  /** Both from 1. */
  readonly line: number;
  readonly column: number;
  /** Dotted path of the member; empty for the whole file. */
  readonly path: string;
  /** What is wrong and what would be right. */
  readonly message: string;
}

/** A YAML or JSON text of the shape that was asked for. */
export interface Read<T> {
  readonly value: T;
  /** Where in the text a fault of its meaning stands. */
  at(fault: CompileFault): Fault;
}

/** Reads a text as `schema` has it, or says everything that is wrong with it. `file` is what faults call it. */
export function readDocument<T>(
  text: string,
  file: string,
  schema: z.ZodType<T>,
): Read<T> | { readonly faults: readonly Fault[] } {
  if (text.length > MAX_FILE_BYTES)
    return { faults: [wholeFile(file, `is larger than ${MAX_FILE_BYTES} bytes`)] };
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const problems = [...document.errors, ...document.warnings];
  if (problems.length > 0) {
    const faults = problems.slice(0, 20).map((problem): Fault => {
      const { line, col } = lines.linePos(problem.pos[0]);
      return { file, line, column: col, path: "", message: syntaxText(problem) };
    });
    return { faults };
  }
  const alias = text.includes("*") ? aliasOffset(document) : undefined;
  if (alias !== undefined) {
    const { line, col } = lines.linePos(alias);
    const message = "aliases (*name) are not allowed; write the value out";
    return { faults: [{ file, line, column: col, path: "", message }] };
  }
  const at = (fault: CompileFault): Fault => ({
    file,
    ...position(document, lines, fault),
    path: fault.path.join("."),
    message: `expected ${fault.expected}`,
  });
  if (document.contents === null) return { faults: [wholeFile(file, "is empty")] };
  const shape = schema.safeParse(document.toJS());
  return shape.success
    ? { value: shape.data, at }
    : {
        faults: shapeFaults(shape.error.issues, () => memberNames(schema)).map((fault) => ({
          ...at(fault),
          message: fault.message,
        })),
      };
}

const HINTS: Readonly<Record<string, string>> = {
  TAB_AS_INDENT: "indent with spaces",
  DUPLICATE_KEY: "write each member once",
  BLOCK_AS_IMPLICIT_KEY: 'put a value with ": " in it into quotes',
  MULTILINE_IMPLICIT_KEY: 'a member is written "name: value", its own members below it and further in',
  BAD_SCALAR_START: "put a value that starts with this character into quotes",
  MISSING_CHAR: "close what is opened, or put the value into quotes",
};

/** The parser's own words, and what to do about it. */
function syntaxText({ code, message }: YAMLParseError | YAMLWarning): string {
  const [said = code] = message.split("\n");
  const hint = HINTS[code];
  return hint === undefined ? said : `${said}; ${hint}`;
}

// A schema never changes, and writing it out takes as long as reading a hundred files.
const namesOf = new WeakMap<z.ZodType, readonly string[]>();

/** Every member that the shape has anywhere. */
function memberNames(schema: z.ZodType): readonly string[] {
  const known = namesOf.get(schema);
  if (known !== undefined) return known;
  const names = new Set<string>();
  JSON.stringify(z.toJSONSchema(schema, { io: "input" }), (key, value: unknown) => {
    if (key === "properties" && typeof value === "object" && value !== null)
      for (const name of Object.keys(value)) names.add(name);
    return value;
  });
  const all = [...names];
  namesOf.set(schema, all);
  return all;
}

export function wholeFile(file: string, message: string): Fault {
  return { file, line: 1, column: 1, path: "", message };
}

function aliasOffset(document: Document): number | undefined {
  let offset: number | undefined;
  visit(document, {
    Node(_key, node) {
      if (!isAlias(node)) return undefined;
      offset = node.range?.[0] ?? 0;
      return visit.BREAK;
    },
  });
  return offset;
}

/** Where a member stands, or the nearest one above it that is there. */
function position(
  document: Document,
  lines: LineCounter,
  fault: CompileFault,
): { line: number; column: number } {
  let node: unknown = document.contents;
  let offset = rangeStart(node) ?? 0;
  for (const step of fault.path) {
    const pair: Pair | undefined = isMap(node)
      ? node.items.find((item) => isScalar(item.key) && String(item.key.value) === String(step))
      : undefined;
    const next: unknown =
      pair?.value ??
      (typeof node === "object" && node !== null && "items" in node ? itemAt(node.items, step) : undefined);
    if (next === undefined && pair === undefined) break;
    const name = rangeStart(pair?.key);
    offset = (fault.atKey === true ? name : undefined) ?? rangeStart(next) ?? name ?? offset;
    node = next;
  }
  const plain = isScalar(node) && typeof node.value === "string" && document.contents !== node;
  // Inside a quoted or block text columns shift; only a plain one line is counted into.
  const inner = plain && isScalar(node) && node.type === "PLAIN" ? (fault.offset ?? 0) : 0;
  const { line, col } = lines.linePos(offset + inner);
  return { line, column: col };
}

function itemAt(items: unknown, step: string | number): unknown {
  return Array.isArray(items) && typeof step === "number" ? items[step] : undefined;
}

function rangeStart(node: unknown): number | undefined {
  return typeof node === "object" && node !== null && "range" in node ? (node as Node).range?.[0] : undefined;
}
