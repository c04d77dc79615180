import { type DescMessage, type JsonValue, type MessageShape, toJson } from "@bufbuild/protobuf";
import type { Io } from "./io.ts";
import { type Paint, paintFor } from "./paint.ts";
import { type Column, type Fact, facts, table } from "./table.ts";

const DEFAULT_COLUMNS = 80;

/** What a command says on stdout: text for people, or one JSON object a line. Notes go to stderr and only to people. */
export class Output {
  readonly json: boolean;
  readonly paint: Paint;
  readonly onTerminal: boolean;
  readonly #io: Io;

  constructor(io: Io, json: boolean) {
    this.#io = io;
    this.json = json;
    this.onTerminal = io.stdout.isTTY === true;
    this.paint = paintFor(io.stdout, io.env);
  }

  text(text: string): void {
    this.#io.stdout.write(text.endsWith("\n") ? text : `${text}\n`);
  }

  /** Members with default values are written out: a script reads `.intact` without asking whether it is there. */
  message<D extends DescMessage>(schema: D, message: MessageShape<D>): void {
    this.object(toJson(schema, message, { alwaysEmitImplicit: true }));
  }

  object(value: JsonValue): void {
    this.#io.stdout.write(`${JSON.stringify(value)}\n`);
  }

  table<T>(rows: readonly T[], columns: readonly Column<T>[], indent = ""): void {
    const width = this.onTerminal ? (this.#io.stdout.columns ?? DEFAULT_COLUMNS) : undefined;
    this.text(table(rows, columns, { paint: this.paint, width, indent }));
  }

  facts(pairs: readonly Fact[], indent = ""): void {
    const text = facts(pairs, { paint: this.paint, indent });
    if (text !== "") this.text(text);
  }

  /** For eyes, beside the output: never on stdout, nothing with `--json`. */
  note(text: string): void {
    if (!this.json) this.#io.stderr.write(`${text}\n`);
  }
}
