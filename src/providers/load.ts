import { readdirSync, readFileSync, statSync } from "node:fs";
import { basename, extname, join } from "node:path";
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
} from "yaml";
import { compileProvider } from "./compile.ts";
import type { CompileFault } from "./compiler.ts";
import type { Provider } from "./provider.ts";
import { providerFile } from "./schema.ts";
import { shapeFaults } from "./shape-faults.ts";

const MAX_FILE_BYTES = 262_144;
const ENDINGS = [".yaml", ".yml", ".json"];
const NAME = /^[a-z0-9][a-z0-9-]{0,63}$/;

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

/** All providers of one moment. Never changed: a reload makes another one. */
export interface Catalogue {
  get(name: string): Provider | undefined;
  /** The path it was read from; undefined when it was not read from a file. */
  source(name: string): string | undefined;
  /** Sorted by name. */
  readonly names: readonly string[];
}

export type Loaded =
  | { readonly ok: true; readonly catalogue: Catalogue }
  | { readonly ok: false; readonly faults: readonly Fault[] };

/** `NAME.yaml:12:5: credentials.format: …`, as compilers write it. */
export function faultText(fault: Fault): string {
  return `${fault.file}:${fault.line}:${fault.column}: ${fault.path === "" ? "" : `${fault.path}: `}${fault.message}`;
}

/** Reads every provider file of `directories`, a later one's files instead of an earlier one's of the same name. All or nothing. */
export function loadCatalogue(directories: readonly string[]): Loaded {
  const files = new Map<string, string>();
  const faults: Fault[] = [];
  for (const directory of directories) {
    const here = new Map<string, string>();
    for (const entry of entriesOf(directory, faults)) {
      const name = basename(entry, extname(entry));
      const twin = here.get(name);
      const file = join(directory, entry);
      if (twin !== undefined)
        faults.push(wholeFile(file, `one file a provider: ${twin} describes ${name} too`));
      here.set(name, file);
    }
    for (const [name, file] of here) files.set(name, file);
  }
  const providers = new Map<string, Provider>();
  for (const [name, file] of files) {
    const read = readProvider(file, name);
    if ("faults" in read) faults.push(...read.faults);
    else providers.set(name, read);
  }
  return faults.length > 0 ? { ok: false, faults } : { ok: true, catalogue: catalogueOf(providers, files) };
}

export function catalogueOf(
  providers: ReadonlyMap<string, Provider>,
  sources: ReadonlyMap<string, string> = new Map(),
): Catalogue {
  return {
    get: (name) => providers.get(name),
    source: (name) => sources.get(name),
    names: [...providers.keys()].sort(),
  };
}

/** Checks the text of one file as loading would; `file` is what faults call it. Empty: it would load. */
export function lintProvider(text: string, file: string): readonly Fault[] {
  const parsed = parseProvider(text, file, basename(file, extname(file)));
  return "faults" in parsed ? parsed.faults : [];
}

function entriesOf(directory: string, faults: Fault[]): readonly string[] {
  try {
    // schema.json is what editors complete the others by.
    return readdirSync(directory)
      .filter(
        (entry) => ENDINGS.includes(extname(entry)) && entry !== "schema.json" && !entry.startsWith("."),
      )
      .sort();
  } catch (error) {
    faults.push(wholeFile(directory, `cannot be read (${codeOf(error)})`));
    return [];
  }
}

function readProvider(file: string, name: string): Provider | { readonly faults: readonly Fault[] } {
  try {
    if (statSync(file).size > MAX_FILE_BYTES)
      return { faults: [wholeFile(file, `is larger than ${MAX_FILE_BYTES} bytes`)] };
    return parseProvider(readFileSync(file, "utf8"), file, name);
  } catch (error) {
    return { faults: [wholeFile(file, `cannot be read (${codeOf(error)})`)] };
  }
}

/** The provider that `text` describes, or everything that is wrong with it. */
export function parseProvider(
  text: string,
  file: string,
  name: string,
): Provider | { readonly faults: readonly Fault[] } {
  if (!NAME.test(name))
    return {
      faults: [wholeFile(file, `the file's name is the provider's: expected ${NAME.source}, got "${name}"`)],
    };
  if (text.length > MAX_FILE_BYTES)
    return { faults: [wholeFile(file, `is larger than ${MAX_FILE_BYTES} bytes`)] };
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const problems = [...document.errors, ...document.warnings];
  if (problems.length > 0) {
    const faults = problems.slice(0, 20).map((problem): Fault => {
      const { line, col } = lines.linePos(problem.pos[0]);
      return { file, line, column: col, path: "", message: problem.message.split("\n")[0] ?? problem.code };
    });
    return { faults };
  }
  const alias = aliasOffset(document);
  if (alias !== undefined) {
    const { line, col } = lines.linePos(alias);
    return {
      faults: [
        {
          file,
          line,
          column: col,
          path: "",
          message: "aliases (*name) are not allowed; write the value out",
        },
      ],
    };
  }
  const at = (fault: CompileFault): Fault => ({
    file,
    ...position(document, lines, fault),
    path: dotted(fault.path),
    message: `expected ${fault.expected}`,
  });
  const shape = providerFile.safeParse(document.toJS());
  if (!shape.success)
    return {
      faults: shapeFaults(shape.error.issues).map((fault) => ({ ...at(fault), message: fault.message })),
    };
  const { provider, faults } = compileProvider(name, shape.data);
  return faults.length > 0 ? { faults: faults.map(at) } : provider;
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

function dotted(path: readonly (string | number)[]): string {
  return path.join(".");
}

function wholeFile(file: string, message: string): Fault {
  return { file, line: 1, column: 1, path: "", message };
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "unknown";
}
