import { createHash, type Hash } from "node:crypto";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import * as z from "zod";
import { invalid } from "../../errors.ts";
import type { Row } from "./rows.ts";

const shape = z.strictObject({
  version: z.literal(1),
  /** The last line up to which every line has its result. */
  line: z.int().min(0),
  /** SHA-256 of everything up to there. */
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
});
type Mark = z.output<typeof shape>;

/** A crash costs what was done since, which is then found unchanged. */
const WRITE_EVERY_MS = 1_000;

/** How far an import has come, beside its file, so that a stopped one goes on. Holds nothing of the file's content. */
export class ImportMark {
  readonly #path: string;
  readonly #from: Mark | undefined;
  readonly #read: Hash = createHash("sha256");
  #hasPassed = false;
  #reached: Omit<Mark, "version"> | undefined;
  #writtenAtMs = 0;

  private constructor(path: string, from: Mark | undefined) {
    this.#path = path;
    this.#from = from;
  }

  /** INVALID_REQUEST when `resume` finds a mark that cannot be read. Without one an import starts at the first line. */
  static beside(file: string, resume: boolean): ImportMark {
    const path = `${file}.import-mark`;
    return new ImportMark(path, resume ? readMark(path) : undefined);
  }

  /** Of everything read up to and with this row. */
  digestWith({ raw }: Row): string {
    return this.#read.update(raw).update("\n").copy().digest("hex");
  }

  /** True when an earlier run has its result. INVALID_REQUEST when the file has changed since. */
  isDone(line: number, sha256: string): boolean {
    const from = this.#from;
    if (from === undefined || this.#hasPassed) return false;
    if (line < from.line) return true;
    if (line !== from.line || sha256 !== from.sha256)
      throw invalid("--resume", `the file has changed up to line ${from.line}; import it without --resume`);
    this.#hasPassed = true;
    return true;
  }

  /** Every line up to this one has its result. */
  reach(line: number, sha256: string, nowMs: number): void {
    this.#reached = { line, sha256 };
    if (nowMs - this.#writtenAtMs < WRITE_EVERY_MS) return;
    this.#writtenAtMs = nowMs;
    this.write();
  }

  /** False when the place beside the file cannot be written. */
  write(): boolean {
    if (this.#reached === undefined) return true;
    try {
      writeFileSync(this.#path, `${JSON.stringify({ version: 1, ...this.#reached })}\n`, { mode: 0o600 });
      return true;
    } catch {
      return false;
    }
  }

  /** All of the file has its results. */
  remove(): void {
    rmSync(this.#path, { force: true });
  }
}

function readMark(path: string): Mark | undefined {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
  try {
    return shape.parse(JSON.parse(text));
  } catch {
    throw invalid("--resume", `${path} is damaged; remove it and import without --resume`);
  }
}
