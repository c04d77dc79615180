import { readdirSync, readFileSync, statSync } from "node:fs";
import { basename, extname, join } from "node:path";
import { KeyturnError } from "../errors.ts";
import { compileProvider } from "./compile.ts";
import { Compiled } from "./compiled.ts";
import { type Fault, MAX_FILE_BYTES, readDocument, wholeFile } from "./document.ts";
import type { Provider } from "./provider.ts";
import { providerFile } from "./schema.ts";

/** Of provider files. */
export const ENDINGS = [".yaml", ".yml", ".json"];
const NAME = /^[a-z0-9][a-z0-9-]{0,63}$/;

/** All providers of one moment. What it says never changes: a reload makes another one. */
export interface Catalogue {
  get(name: string): Provider | undefined;
  /** The path it was read from; undefined when it was not read from a file. */
  source(name: string): string | undefined;
  /** Sorted by name. */
  readonly names: readonly string[];
}

/** PROVIDER_NOT_FOUND. */
export function providerIn(catalogue: Catalogue, name: string): Provider {
  const provider = catalogue.get(name);
  if (provider !== undefined) return provider;
  throw new KeyturnError("PROVIDER_NOT_FOUND", "The provider's file is missing.", {
    metadata: { provider: name },
  });
}

export type Loaded =
  | { readonly ok: true; readonly catalogue: Catalogue }
  | { readonly ok: false; readonly faults: readonly Fault[] };

/** `NAME.yaml:12:5: credentials.format: …`, as compilers write it. */
export function faultText(fault: Fault): string {
  return `${fault.file}:${fault.line}:${fault.column}: ${fault.path === "" ? "" : `${fault.path}: `}${fault.message}`;
}

/** A directory of files that were checked when they were made, so that a start need not wait for all of them. */
export interface Checked {
  readonly directory: string;
  /** Told once of a file that does not load after all; its provider is then as if it had none. */
  readonly report: (faults: readonly Fault[]) => void;
}

/**
 * Reads every provider file of `directories`, a later one's files instead of an earlier one's of the same name. All or
 * nothing. Those of `checked` come before all of them, and are read when they are first asked for. `allowPrivate` names the
 * providers for which the operator permits private networks: no file can do that for itself.
 */
export function loadCatalogue(
  directories: readonly string[],
  checked?: Checked,
  allowPrivate: readonly string[] = [],
): Loaded {
  const permitted = (provider: Provider) =>
    allowPrivate.includes(provider.name) ? { ...provider, allowPrivate: true } : provider;
  const faults: Fault[] = [];
  const compiled = new Compiled();
  const unread = checked === undefined ? new Map<string, string>() : filesIn(checked.directory, faults);
  const files = new Map<string, string>();
  for (const directory of directories)
    for (const [name, file] of filesIn(directory, faults)) files.set(name, file);
  const providers = new Map<string, Provider>();
  for (const [name, file] of files) {
    unread.delete(name);
    const read = readProvider(file, name, compiled);
    if ("faults" in read) faults.push(...read.faults);
    else providers.set(name, permitted(read));
  }
  if (faults.length > 0) return { ok: false, faults };
  const sources = new Map([...unread, ...files]);
  const get = (name: string): Provider | undefined => {
    const file = unread.get(name);
    if (file === undefined) return providers.get(name);
    unread.delete(name);
    const read = readProvider(file, name, compiled);
    if ("faults" in read) checked?.report(read.faults);
    else providers.set(name, permitted(read));
    return providers.get(name);
  };
  return {
    ok: true,
    catalogue: { get, source: (name) => sources.get(name), names: [...sources.keys()].sort() },
  };
}

/** The provider files of one directory, by name. */
function filesIn(directory: string, faults: Fault[]): Map<string, string> {
  const files = new Map<string, string>();
  for (const entry of entriesOf(directory, faults)) {
    const name = basename(entry, extname(entry));
    const twin = files.get(name);
    const file = join(directory, entry);
    if (twin !== undefined)
      faults.push(wholeFile(file, `one file a provider: ${twin} describes ${name} too`));
    files.set(name, file);
  }
  return files;
}

/** A catalogue of providers that were not read from files. */
export function catalogueOf(providers: ReadonlyMap<string, Provider>): Catalogue {
  return {
    get: (name) => providers.get(name),
    source: () => undefined,
    names: [...providers.keys()].sort(),
  };
}

/** Checks the text of one file as loading would; `file` is what faults call it. Empty: it would load. */
export function lintProvider(text: string, file: string): readonly Fault[] {
  const parsed = parseProvider(text, file, basename(file, extname(file)));
  return "faults" in parsed ? parsed.faults : [];
}

/** Checks a file, or all files of a directory together. Empty: they would load. */
export function lintPath(path: string): readonly Fault[] {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory() === true) {
    const loaded = loadCatalogue([path]);
    return loaded.ok ? [] : loaded.faults;
  }
  const read = readProvider(path, basename(path, extname(path)), new Compiled());
  return "faults" in read ? read.faults : [];
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

function readProvider(
  file: string,
  name: string,
  compiled: Compiled,
): Provider | { readonly faults: readonly Fault[] } {
  try {
    if (statSync(file).size > MAX_FILE_BYTES)
      return { faults: [wholeFile(file, `is larger than ${MAX_FILE_BYTES} bytes`)] };
    return parseProvider(readFileSync(file, "utf8"), file, name, compiled);
  } catch (error) {
    return { faults: [wholeFile(file, `cannot be read (${codeOf(error)})`)] };
  }
}

/** The provider that `text` describes, or everything that is wrong with it. `compiled` is shared by the files of a load. */
export function parseProvider(
  text: string,
  file: string,
  name: string,
  compiled = new Compiled(),
): Provider | { readonly faults: readonly Fault[] } {
  if (!NAME.test(name))
    return {
      faults: [wholeFile(file, `the file's name is the provider's: expected ${NAME.source}, got "${name}"`)],
    };
  const read = readDocument(text, file, providerFile);
  if ("faults" in read) return read;
  const { provider, faults } = compileProvider(name, read.value, compiled);
  return faults.length > 0 ? { faults: faults.map(read.at) } : provider;
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "unknown";
}
