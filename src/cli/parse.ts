import { parseArgs } from "node:util";
import { invalid, KeyturnError } from "../errors.ts";
import { suggest } from "../suggest.ts";
import type { Command, Option } from "./command.ts";
import { GLOBAL_OPTIONS } from "./global-options.ts";
import { Options } from "./options.ts";

/** What was asked for. */
export type Parsed =
  | { readonly kind: "version" }
  /** `asked` false: nothing to run was named, so the help goes to stderr and the exit code is 2. */
  | { readonly kind: "help"; readonly words: readonly string[]; readonly asked: boolean }
  | {
      readonly kind: "run";
      readonly command: Command;
      readonly args: readonly string[];
      readonly options: Options;
    };

interface Given {
  readonly name: string;
  readonly raw: string;
  readonly value: string | undefined;
  readonly inline: boolean;
}

/**
 * Options may stand anywhere, also before the command. INVALID_REQUEST for anything that cannot be meant; the message
 * repeats words and option names but never an option's value, which may be a secret in the wrong place.
 */
export function parse(argv: readonly string[], commands: readonly Command[]): Parsed {
  const known = new Map<string, Option>(Object.entries(GLOBAL_OPTIONS));
  for (const { options } of commands) for (const each of Object.entries(options)) known.set(...each);
  const { given, words } = tokens(argv, known);

  const unknown = given.find(({ name }) => !known.has(name));
  const match = find(words, commands);
  if (unknown !== undefined) throw unknownOption(unknown.raw, match?.command, known);

  const help = given.some(({ name }) => name === "help") || words[0] === "help";
  if (help) return { kind: "help", words: words[0] === "help" ? words.slice(1) : words, asked: true };
  if (given.some(({ name }) => name === "version")) return { kind: "version" };
  if (match === undefined) {
    const isGroup = commands.some(({ name }) => name.startsWith(`${words[0]} `));
    if (words.length === 0 || (isGroup && words.length === 1)) return { kind: "help", words, asked: false };
    throw unknownCommand(words, commands);
  }
  const { command, args } = match;
  const options = new Options(valuesOf(given, command, known));
  checkArguments(command, args);
  return { kind: "run", command, args, options };
}

function tokens(argv: readonly string[], known: ReadonlyMap<string, Option>) {
  const config = Object.fromEntries(
    [...known].map(([name, { value }]) => [
      name,
      { type: value === undefined ? ("boolean" as const) : ("string" as const), multiple: true },
    ]),
  );
  const parsed = parseArgs({
    args: [...argv],
    options: { ...config, help: { type: "boolean", short: "h", multiple: true } },
    allowPositionals: true,
    strict: false,
    tokens: true,
  });
  const given: Given[] = [];
  const words: string[] = [];
  for (const token of parsed.tokens) {
    if (token.kind === "positional") words.push(token.value);
    if (token.kind === "option") {
      given.push({
        name: token.name,
        raw: token.rawName,
        value: token.value,
        inline: token.inlineValue === true,
      });
    }
  }
  return { given, words };
}

function find(words: readonly string[], commands: readonly Command[]) {
  for (const length of [2, 1]) {
    const name = words.slice(0, length).join(" ");
    const command = commands.find((each) => each.name === name);
    if (command !== undefined && words.length >= length) return { command, args: words.slice(length) };
  }
  return undefined;
}

function valuesOf(given: readonly Given[], command: Command, known: ReadonlyMap<string, Option>) {
  const values = new Map<string, readonly string[]>();
  for (const { name, raw, value, inline } of given) {
    const option = command.options[name] ?? GLOBAL_OPTIONS[name];
    if (option === undefined) throw unknownOption(raw, command, known);
    if (option.value === undefined) {
      if (value !== undefined) throw invalid(raw, "takes no value");
      values.set(name, [""]);
      continue;
    }
    // `--socket --json` is a forgotten value; a lone dash is stdin.
    if (value === undefined || (!inline && value.startsWith("-") && value !== "-")) {
      throw invalid(raw, `needs a value: ${raw} ${option.value}`);
    }
    if (option.choices !== undefined && !option.choices.includes(value)) {
      throw invalid(raw, `one of ${option.choices.join(", ")}`);
    }
    const before = values.get(name) ?? [];
    if (before.length > 0 && option.many !== true) throw invalid(raw, "is given more than once");
    values.set(name, [...before, value]);
  }
  return values;
}

function checkArguments(command: Command, args: readonly string[]): void {
  const missing = command.arguments[args.length];
  if (missing !== undefined && missing.optional !== true) {
    throw invalid(missing.name, `is needed: ${usageOf(command)}`);
  }
  if (args.length > command.arguments.length && command.arguments.at(-1)?.many !== true) {
    throw invalid("arguments", `${args.length - command.arguments.length} too many: ${usageOf(command)}`);
  }
}

/** `keyturn accounts get ACCOUNT`. */
export function usageOf({ name, arguments: args }: Command): string {
  const words = args.map(({ name: word, optional, many }) => {
    const text = many === true ? `${word}…` : word;
    return optional === true ? `[${text}]` : text;
  });
  return ["keyturn", name, ...words].join(" ");
}

const SECRET = /token|secret|password|key|username|credential/;

function unknownOption(raw: string, command: Command | undefined, known: ReadonlyMap<string, Option>) {
  const name = raw.replace(/^-+/, "");
  const own =
    command === undefined ? [...known.keys()] : Object.keys({ ...GLOBAL_OPTIONS, ...command.options });
  if (SECRET.test(name) && own.includes(`${name}-file`)) {
    return invalid(
      raw,
      `secrets never come on the command line, where every process can read them; use --${name}-file PATH, or --${name}-file - for stdin`,
    );
  }
  const of = command === undefined ? "keyturn" : `keyturn ${command.name}`;
  const meant = suggest(name, own).map((each) => `--${each}`);
  return invalid(
    raw,
    `is not an option of \`${of}\`${meant.length > 0 ? `; did you mean ${meant.join(" or ")}?` : ""}`,
  );
}

function unknownCommand(words: readonly string[], commands: readonly Command[]): KeyturnError {
  const names = commands.map(({ name }) => name);
  const [first = "", second = ""] = words;
  const group = names
    .filter((name) => name.startsWith(`${first} `))
    .map((name) => name.slice(first.length + 1));
  const meant =
    group.length > 0
      ? suggest(second, group).map((name) => `${first} ${name}`)
      : suggest(first, [...new Set(names.map((name) => name.split(" ", 1)[0] ?? name))]);
  const typed = group.length > 0 ? `${first} ${second}` : first;
  const hint =
    meant.length > 0
      ? `Did you mean ${meant.map((name) => `\`keyturn ${name}\``).join(" or ")}?`
      : `\`keyturn ${group.length > 0 ? `${first} ` : ""}--help\` lists what there is.`;
  return new KeyturnError("INVALID_REQUEST", `There is no command \`keyturn ${typed}\`. ${hint}`);
}
