import { readFileSync } from "node:fs";
import { LineCounter, parseDocument } from "yaml";
import type { z } from "zod";
import { type FieldViolation, KeyturnError, whyUnread } from "../errors.ts";
import { type Config, configSchema } from "./schema.ts";

const PREFIX = "KEYTURN_";
/** Read by the keyring itself, and removed from the environment there. */
const NOT_CONFIGURATION = new Set(["KEYTURN_KEYRING", "KEYTURN_CONFIG"]);
/** What Kubernetes puts into every pod beside a service that is called keyturn. */
const SERVICE_LINK = /^KEYTURN_(SERVICE_HOST|SERVICE_PORT|PORT)(_|$)/;

type Tree = { [key: string]: unknown };

/**
 * Flags over environment over file. INVALID_REQUEST names every faulty key with what it should be; nothing of a faulty
 * configuration is used.
 */
export function loadConfig(from: {
  /** Undefined: no file, only defaults. */
  readonly file: string | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Dotted paths: `listeners.data.socket`. */
  readonly flags: Readonly<Record<string, string>>;
}): Config {
  const tree = from.file === undefined ? { version: 1 } : readFile(from.file);
  /** Which variable gave the value at a path: an error names it. */
  const variables = new Map<string, string>();
  for (const [name, value] of Object.entries(from.env)) {
    if (
      value === undefined ||
      !name.startsWith(PREFIX) ||
      NOT_CONFIGURATION.has(name) ||
      SERVICE_LINK.test(name)
    )
      continue;
    const path = name.slice(PREFIX.length).toLowerCase().split("__");
    set(tree, path, scalar(value));
    variables.set(path.join("."), name);
  }
  for (const [path, value] of Object.entries(from.flags)) set(tree, path.split("."), scalar(value));
  const parsed = configSchema.safeParse(tree);
  if (parsed.success) return parsed.data;
  const found = parsed.error.issues.flatMap(violations).map(({ field, description }) => {
    const variable = variables.get(field);
    return { field, description: variable === undefined ? description : `${description} (${variable})` };
  });
  throw faulty(from.file ?? "the configuration", found);
}

function readFile(path: string): Tree {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    throw faulty(path, [{ field: "--config", description: whyUnread(error) }], error);
  }
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: true });
  const [fault] = document.errors;
  if (fault !== undefined) {
    const { line, col } = lines.linePos(fault.pos[0]);
    const [what = "not YAML"] = fault.message.split("\n", 1);
    // The library says once more where.
    const description = what.replace(/ at line \d+, column \d+:?$/, "");
    throw faulty(path, [{ field: `${line}:${col}`, description }]);
  }
  let tree: unknown;
  try {
    // A configuration needs no aliases, and a few of them nested are a bomb.
    tree = document.toJS({ maxAliasCount: 0 });
  } catch (error) {
    throw faulty(
      path,
      [{ field: "*", description: "values written out; YAML aliases are not resolved" }],
      error,
    );
  }
  if (typeof tree === "object" && tree !== null && !Array.isArray(tree)) return tree as Tree;
  throw faulty(path, [{ field: "version", description: "a mapping that starts with `version: 1`" }]);
}

function set(tree: Tree, path: readonly string[], value: unknown): void {
  const last = path.at(-1);
  if (last === undefined) return;
  let at = tree;
  for (const part of path.slice(0, -1)) {
    const next = at[part];
    const child: Tree =
      typeof next === "object" && next !== null && !Array.isArray(next) ? (next as Tree) : {};
    at[part] = child;
    at = child;
  }
  at[last] = value;
}

/** Numbers and booleans as the file would have them; everything else is text. */
function scalar(text: string): unknown {
  if (/^(true|false)$/.test(text)) return text === "true";
  if (/^\d{1,15}$/.test(text)) return Number(text);
  return text;
}

function violations(issue: z.core.$ZodIssue): readonly FieldViolation[] {
  const path = issue.path.join(".");
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((name) => ({
      field: path === "" ? name : `${path}.${name}`,
      description: "there is no such key",
    }));
  }
  return [{ field: path === "" ? "version" : path, description: issue.message }];
}

function faulty(where: string, found: readonly FieldViolation[], cause?: unknown): KeyturnError {
  const list = found.map(({ field, description }) => `${field}: ${description}`).join("; ");
  return new KeyturnError("INVALID_REQUEST", `${where}: ${list}`, { violations: found, cause });
}
