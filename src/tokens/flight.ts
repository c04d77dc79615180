import type { SlotKey } from "./account.ts";
import type { Priority } from "./gate.ts";
import type { Ask } from "./token.ts";

/** How a flight ended for those who wait: undefined means the records say it all. */
export type FlightEnd = Error | undefined;

/** One refresh on its way, shared by everyone in this process who needs it. */
export class Flight {
  readonly key: SlotKey;
  readonly ask: Ask;
  /** Resolves, never rejects, when those who wait may go on. */
  readonly ended: Promise<FlightEnd>;
  readonly end: (how: FlightEnd) => void;
  /** True while it waits for a permit, a budget or its turn, before anything was asked of anyone. */
  queued = true;
  /** True once a request was made for it: whatever it came to, nobody needs to look for something else to do. */
  hasSent = false;
  #isEnded = false;
  #isRaised = false;
  #minValidityMs: number;
  #afterRejection: boolean;
  #onRaise: () => void = () => undefined;

  constructor(ask: Ask) {
    const { promise, resolve } = Promise.withResolvers<FlightEnd>();
    this.key = ask.key;
    this.ask = ask;
    this.ended = promise;
    this.end = (how) => {
      this.#isEnded = true;
      resolve(how);
    };
    this.#minValidityMs = ask.minValidityMs;
    this.#afterRejection = ask.rejected !== undefined;
  }

  /** Another one who needs it: the longest validity asked for counts, and callers are not left in the back row. */
  join(ask: Ask): this {
    this.#minValidityMs = Math.max(this.#minValidityMs, ask.minValidityMs);
    this.#afterRejection ||= ask.rejected !== undefined;
    if (ask.trigger === "demand") {
      this.#isRaised = true;
      this.#onRaise();
    }
    return this;
  }

  onRaise(raise: () => void): void {
    this.#onRaise = raise;
  }

  get isEnded(): boolean {
    return this.#isEnded;
  }

  get minValidityMs(): number {
    return this.#minValidityMs;
  }

  get afterRejection(): boolean {
    return this.#afterRejection;
  }

  get priority(): Priority {
    return this.#isRaised || this.ask.trigger === "operator" ? "demand" : this.ask.trigger;
  }
}
