import { invalid } from "../errors.ts";
import { durationMsOf, timeMsOf } from "./when.ts";

/** The options as given, read out by kind. A value that is not of its kind is INVALID_REQUEST, and never repeated. */
export class Options {
  readonly #values: ReadonlyMap<string, readonly string[]>;

  constructor(values: ReadonlyMap<string, readonly string[]>) {
    this.#values = values;
  }

  has(name: string): boolean {
    return this.#values.has(name);
  }

  /** Empty when absent: what an unset string is on the wire. */
  text(name: string): string {
    return this.#values.get(name)?.at(-1) ?? "";
  }

  texts(name: string): readonly string[] {
    return this.#values.get(name) ?? [];
  }

  /** INVALID_REQUEST when it is absent or empty. */
  required(name: string): string {
    const text = this.text(name);
    if (text === "") throw invalid(`--${name}`, "is needed");
    return text;
  }

  whole(name: string, fallback: number, { min = 0, max = 2_147_483_647 } = {}): number {
    return this.has(name) ? wholeOf(`--${name}`, this.text(name), { min, max }) : fallback;
  }

  /** In milliseconds. */
  duration(name: string): number | undefined {
    if (!this.has(name)) return undefined;
    const ms = durationMsOf(this.text(name));
    if (ms === undefined) throw invalid(`--${name}`, "a whole number and its unit: 30s, 15m, 24h");
    return ms;
  }

  /** In epoch milliseconds. */
  time(name: string): number | undefined {
    if (!this.has(name)) return undefined;
    const ms = timeMsOf(this.text(name));
    if (ms === undefined) throw invalid(`--${name}`, "a time such as 2026-11-24T08:30:00Z, or a day");
    return ms;
  }

  /** `--label team=crm --label tier=1`. */
  pairs(name: string): Record<string, string> {
    const pairs: [string, string][] = this.texts(name).map((text) => {
      const at = text.indexOf("=");
      if (at < 1) throw invalid(`--${name}`, "key=value");
      return [text.slice(0, at), text.slice(at + 1)];
    });
    return Object.fromEntries(pairs);
  }
}

/** INVALID_REQUEST when `text` is not a whole number from `min` to `max`. */
export function wholeOf(field: string, text: string, { min = 0, max = 2_147_483_647 } = {}): number {
  const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= min && value <= max) return value;
  throw invalid(field, `a whole number from ${min} to ${max}`);
}
