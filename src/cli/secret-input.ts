import { isUtf8 } from "node:buffer";
import { readFileSync, statSync } from "node:fs";
import { invalid, whyUnread } from "../errors.ts";
import { Secret } from "../tokens/secret.ts";
import type { Io } from "./io.ts";
import type { Options } from "./options.ts";

/** More is no secret but a mistake. */
const MAX_BYTES = 1_048_576;

/**
 * What an option's file holds, or stdin for `-`, without the line break at its end. Undefined when the option is absent.
 * `path` is given where the option has several. INVALID_REQUEST when it cannot be read, is empty or stdin is wanted twice; never with any of the content.
 */
export type ReadSecret = (name: string, path?: string) => Promise<Secret | undefined>;

export function secretReader(options: Options, io: Io): ReadSecret {
  let stdinTakenBy: string | undefined;
  return async (name, given) => {
    if (!options.has(name)) return undefined;
    const path = given ?? options.required(name);
    const isTaken = stdinTakenBy !== undefined && (stdinTakenBy !== name || given !== undefined);
    if (path === "-" && isTaken) {
      throw invalid(`--${name}`, `stdin is read by --${stdinTakenBy} already; put one of them into a file`);
    }
    if (path === "-") stdinTakenBy = name;
    const text = path === "-" ? await readStdin(name, io) : readFile(name, path);
    const secret = text.replace(/\r?\n$/, "");
    if (secret === "") throw invalid(`--${name}`, path === "-" ? "stdin is empty" : "the file is empty");
    return new Secret(secret);
  };
}

function readFile(name: string, path: string): string {
  let bytes: Buffer;
  try {
    if (statSync(path).size > MAX_BYTES) throw new RangeError();
    bytes = readFileSync(path);
  } catch (error) {
    const why = error instanceof RangeError ? `a file of at most ${MAX_BYTES} bytes` : whyUnread(error);
    throw invalid(`--${name}`, why);
  }
  if (bytes.length > MAX_BYTES) throw invalid(`--${name}`, `at most ${MAX_BYTES} bytes`);
  return textOf(name, bytes);
}

/** A secret that is not text would be stored as another one. */
function textOf(name: string, bytes: Buffer): string {
  if (!isUtf8(bytes)) throw invalid(`--${name}`, "text in UTF-8; encode what is binary as its provider says");
  return bytes.toString("utf8");
}

async function readStdin(name: string, io: Io): Promise<string> {
  if ("isTTY" in io.stdin && io.stdin.isTTY === true) {
    io.stderr.write(`Type what --${name} asks for; Ctrl-D on a line of its own ends it.\n`);
  }
  const { stdin, signal } = io;
  // A terminal that says nothing must not outlive Ctrl-C.
  const stop = () => {
    if ("destroy" in stdin && typeof stdin.destroy === "function") stdin.destroy(signal.reason);
  };
  signal.throwIfAborted();
  signal.addEventListener("abort", stop, { once: true });
  try {
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of stdin) {
      const bytes = Buffer.from(chunk);
      size += bytes.length;
      if (size > MAX_BYTES) throw invalid(`--${name}`, `at most ${MAX_BYTES} bytes`);
      chunks.push(bytes);
    }
    return textOf(name, Buffer.concat(chunks));
  } finally {
    signal.removeEventListener("abort", stop);
  }
}
