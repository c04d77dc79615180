import type { Io } from "./io.ts";
import { clip } from "./paint.ts";

const BAR_WIDTH = 30;
/** A log needs no line for every message. */
const LINE_EVERY_PERCENT = 10;

/** How far a long command is, on stderr: a bar on a terminal, a line every tenth otherwise. */
export class Progress {
  readonly #io: Io;
  #lastTenth = -1;
  #isBarOpen = false;

  constructor(io: Io) {
    this.#io = io;
  }

  show(what: string, done: number, total: number): void {
    const percent = total === 0 ? 100 : Math.min(100, Math.floor((done / total) * 100));
    const { stderr } = this.#io;
    if (stderr.isTTY === true) {
      const filled = Math.round((percent / 100) * BAR_WIDTH);
      const bar = "█".repeat(filled) + "░".repeat(BAR_WIDTH - filled);
      const text = `${what} ${bar} ${percent} % (${done}/${total})`;
      stderr.write(`\r\u001b[K${clip(text, (stderr.columns ?? 80) - 1)}`);
      this.#isBarOpen = true;
      return;
    }
    const tenth = Math.floor(percent / LINE_EVERY_PERCENT);
    if (tenth === this.#lastTenth) return;
    this.#lastTenth = tenth;
    stderr.write(`${what} ${percent} % (${done}/${total})\n`);
  }

  /** Leaves the bar's line, so that what follows starts on its own. May be called again. */
  end(): void {
    if (this.#isBarOpen) this.#io.stderr.write("\n");
    this.#isBarOpen = false;
  }
}
