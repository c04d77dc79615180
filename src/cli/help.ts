import type { Command, Option } from "./command.ts";
import { CONNECTION_OPTIONS, GLOBAL_OPTIONS } from "./global-options.ts";
import type { Paint } from "./paint.ts";
import { usageOf } from "./parse.ts";

const INTRODUCTION = `Keyturn keeps third-party tokens alive for your integrated accounts, beside your app.

Try it:         keyturn demo
Run it:         keyturn serve --config keyturn.yaml
Get a token:    keyturn token ACCOUNT --show-token
What is wrong:  keyturn accounts explain ACCOUNT
`;

const EXIT_CODES = `0 done · 1 failed or partly · 2 usage or configuration · 3 not found
4 sidecar or backend unavailable · 5 re-authorization needed · 130 interrupted
`;

/** Help for what `words` name: one command, a group of them, or everything. Undefined when they name nothing. */
export function helpFor(
  words: readonly string[],
  commands: readonly Command[],
  paint: Paint,
): string | undefined {
  const [first, second] = words;
  if (first === undefined) return overview(commands, paint);
  const name = second === undefined ? first : `${first} ${second}`;
  const one = commands.find((each) => each.name === name) ?? commands.find((each) => each.name === first);
  if (one !== undefined) return commandHelp(one, paint);
  const group = commands.filter((each) => each.name.startsWith(`${first} `));
  return group.length === 0 || second !== undefined ? undefined : groupHelp(first, group, paint);
}

function overview(commands: readonly Command[], paint: Paint): string {
  return [
    INTRODUCTION,
    section("Commands", list(commands), paint),
    section("Options of every command", optionLines(GLOBAL_OPTIONS), paint),
    section("Exit codes", EXIT_CODES, paint),
    "keyturn COMMAND --help shows examples.\n",
  ].join("\n");
}

function groupHelp(group: string, commands: readonly Command[], paint: Paint): string {
  const examples = commands.flatMap((each) => each.examples.slice(0, 1));
  return [
    `Usage: keyturn ${group} COMMAND\n`,
    section("Commands", list(commands), paint),
    section("Examples", exampleLines(examples, paint), paint),
    `keyturn ${group} COMMAND --help says more.\n`,
  ].join("\n");
}

function commandHelp(command: Command, paint: Paint): string {
  const { summary, about, options, examples, listener } = command;
  const hidden = listener === undefined ? CONNECTION_OPTIONS : [];
  const global = Object.fromEntries(
    Object.entries(GLOBAL_OPTIONS).filter(([name]) => !hidden.includes(name)),
  );
  const hasOptions = Object.keys(options).length > 0;
  return [
    `Usage: ${usageOf(command)}${hasOptions ? " [OPTIONS]" : ""}\n`,
    `${summary}.\n`,
    ...(about === undefined ? [] : [`${about}\n`]),
    ...(hasOptions ? [section("Options", optionLines(options), paint)] : []),
    section("Options of every command", optionLines(global), paint),
    section("Examples", exampleLines(examples, paint), paint),
  ].join("\n");
}

function section(title: string, body: string, paint: Paint): string {
  return `${paint("bold", `${title}:`)}\n${body.replace(/^(?=.)/gm, "  ")}`;
}

function list(commands: readonly Command[]): string {
  return columns(commands.map(({ name, summary }) => [name, summary]));
}

function optionLines(options: Readonly<Record<string, Option>>): string {
  return columns(
    Object.entries(options).map(([name, { value, help, many, choices }]) => {
      const short = name === "help" ? "-h, " : "";
      const extra = choices === undefined ? "" : `: ${choices.join(", ")}`;
      return [
        `${short}--${name}${value === undefined ? "" : ` ${value}`}`,
        `${help}${extra}${many === true ? " (may be repeated)" : ""}`,
      ];
    }),
  );
}

function exampleLines(examples: Command["examples"], paint: Paint): string {
  return examples.map(({ line, says }) => `${paint("dim", `# ${says}`)}\n${line}\n`).join("");
}

function columns(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `${left.padEnd(width)}  ${right}\n`).join("");
}
