import { inspect } from "node:util";

const MASK = "[secret]";

/** A value that cannot print itself: not by string conversion, JSON, `util.inspect` or a debugger's dump of fields. */
export class Secret<T = string> {
  readonly #value: T;

  constructor(value: T) {
    this.#value = value;
  }

  /** The plain value. Call it at the last moment, and never inside a template for a log or an error. */
  reveal(): T {
    return this.#value;
  }

  toString(): string {
    return MASK;
  }

  toJSON(): string {
    return MASK;
  }

  [inspect.custom](): string {
    return MASK;
  }
}

/** What may be shown of a secret: its last four characters, and only when it is long enough to hide behind them. */
export function hintOf(secret: Secret): string {
  const value = secret.reveal();
  return value.length >= 16 ? `…${value.slice(-4)}` : "…";
}
