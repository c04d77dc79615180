import type { VirtualTime } from "./virtual-time.ts";

const KEPT_LINES = 4_000;

/** An invariant that did not hold; ends the run. */
export class Violation extends Error {
  readonly invariant: string;

  constructor(invariant: string, what: string) {
    super(`${invariant}: ${what}`);
    this.name = "Violation";
    this.invariant = invariant;
  }
}

/** What happened, line by line: a hash of all of it, the last lines to print, how often each thing was seen. */
export class Chronicle {
  readonly coverage = new Map<string, number>();
  readonly lines: string[] = [];
  readonly #time: VirtualTime;
  #hash = 0x811c9dc5;
  #hash2 = 0x1b873593;
  #violation: Violation | undefined;

  constructor(time: VirtualTime) {
    this.#time = time;
  }

  get violation(): Violation | undefined {
    return this.#violation;
  }

  /** Equal for equal histories. */
  get hash(): string {
    return [this.#hash, this.#hash2].map((half) => (half >>> 0).toString(16).padStart(8, "0")).join("");
  }

  say(who: string, what: string): void {
    const line = `${(this.#time.nowMs / 1000).toFixed(3).padStart(10)} ${who.padEnd(6)} ${what}`;
    for (let i = 0; i < line.length; i += 1) {
      const code = line.charCodeAt(i);
      this.#hash = Math.imul(this.#hash ^ code, 0x01000193);
      this.#hash2 = (Math.imul(this.#hash2, 33) ^ code) | 0;
    }
    this.lines.push(line);
    if (this.lines.length > 2 * KEPT_LINES) this.lines.splice(0, KEPT_LINES);
  }

  seen(what: string): void {
    this.coverage.set(what, (this.coverage.get(what) ?? 0) + 1);
  }

  /** The first one counts; what follows it is its consequence. */
  broken(invariant: string, what: string): void {
    this.#violation ??= new Violation(invariant, what);
    this.say("!!", `${invariant}: ${what}`);
  }
}
