import type { Clock } from "../clock.ts";
import type { Connection } from "./connection.ts";
import type { Io, Rooms } from "./io.ts";
import type { Options } from "./options.ts";
import type { Output } from "./output.ts";
import type { ReadSecret } from "./secret-input.ts";

/** A `--name` of a command. One name means the same everywhere: values are read before the command is known. */
export interface Option {
  /** Named in the help: `PATH`. Undefined: the option takes no value. */
  readonly value?: string;
  readonly help: string;
  /** May be given more than once. */
  readonly many?: true;
  readonly choices?: readonly string[];
}

export interface Argument {
  readonly name: string;
  readonly optional?: true;
  /** Takes all that follow. Only the last one may. */
  readonly many?: true;
}

export interface Example {
  readonly line: string;
  readonly says: string;
}

/** All that a command is given to work with. */
export interface Invocation {
  readonly args: readonly string[];
  readonly options: Options;
  readonly output: Output;
  readonly io: Io;
  readonly clock: Clock;
  readonly rooms: Rooms;
  /** Shared by all options of the command, so that two of them cannot both read stdin. */
  readonly readSecret: ReadSecret;
  /** To the sidecar's listener that the command names. Closed when the command is done. */
  connect(): Promise<Connection>;
}

export interface Command {
  /** `accounts list`. */
  readonly name: string;
  readonly summary: string;
  /** Which listener it asks; undefined: it runs here and asks no sidecar. */
  readonly listener: "data" | "admin" | undefined;
  readonly arguments: readonly Argument[];
  readonly options: Readonly<Record<string, Option>>;
  /** What a newcomer has to know, in paragraphs. */
  readonly about?: string;
  readonly examples: readonly Example[];
  /** Resolves to the exit code. */
  run(invocation: Invocation): Promise<number>;
}
