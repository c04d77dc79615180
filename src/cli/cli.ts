import { systemClock } from "../clock.ts";
import { KeyturnError } from "../errors.ts";
import type { Invocation } from "./command.ts";
import { commands } from "./commands.ts";
import { type Connection, connect } from "./connection.ts";
import { EXIT } from "./exit.ts";
import { failureOf } from "./failure.ts";
import { helpFor } from "./help.ts";
import type { Io, Rooms } from "./io.ts";
import { Output } from "./output.ts";
import { paintFor } from "./paint.ts";
import { type Parsed, parse } from "./parse.ts";
import { report } from "./report.ts";
import { secretReader } from "./secret-input.ts";
import { type Target, targetOf } from "./target.ts";

/** Longer than the 60 s for which the sidecar lets a call wait. */
const TIMEOUT_MS = 70_000;

type Run = Extract<Parsed, { kind: "run" }>;

/** Runs one command line and resolves to its exit code; it never rejects. `argv` starts after the program's name. */
export async function cli(argv: readonly string[], io: Io, rooms: Rooms): Promise<number> {
  let parsed: Parsed;
  try {
    parsed = parse(argv, commands);
    if (parsed.kind === "help") return help(parsed, io);
  } catch (error) {
    const failure = failureOf(error, undefined);
    report(failure, io, argv.includes("--json"));
    return failure.exit;
  }
  if (parsed.kind === "version") {
    io.stdout.write(`${rooms.version}\n`);
    return EXIT.done;
  }
  return run(parsed, io, rooms);
}

function help({ words, asked }: Extract<Parsed, { kind: "help" }>, io: Io): number {
  const outlet = asked ? io.stdout : io.stderr;
  const text = helpFor(words, commands, paintFor(outlet, io.env));
  if (text === undefined) {
    throw new KeyturnError(
      "INVALID_REQUEST",
      "There is no such command. `keyturn --help` lists what there is.",
    );
  }
  outlet.write(text);
  return asked ? EXIT.done : EXIT.usage;
}

async function run({ command, args, options }: Run, io: Io, rooms: Rooms): Promise<number> {
  const machine = systemClock();
  const clock = io.clock ?? machine;
  const output = new Output(io, options.has("json"));
  let target: Target | undefined;
  let connection: Connection | undefined;
  const invocation: Invocation = {
    args,
    options,
    output,
    io,
    clock,
    rooms,
    readSecret: secretReader(options, io),
    connect: async () => {
      target = targetOf(options, command.listener ?? "admin", io.env, rooms.listeners);
      const callerToken = await invocation.readSecret("caller-token-file");
      const timeoutMs = options.duration("timeout") ?? TIMEOUT_MS;
      connection = await connect(target, { callerToken, clock: machine, timeoutMs, signal: io.signal });
      return connection;
    },
  };
  try {
    return await command.run(invocation);
  } catch (error) {
    if (io.signal.aborted) return EXIT.interrupted;
    const failure = failureOf(error, target);
    report(failure, io, output.json);
    return failure.exit;
  } finally {
    connection?.close();
  }
}
