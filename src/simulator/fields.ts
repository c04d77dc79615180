import { invalid } from "../errors.ts";

/** Reads the members of a JSON object, and fails with the path of the one that is wrong. */
export class Fields {
  readonly #members: ReadonlyMap<string, unknown>;
  readonly #path: string;
  readonly #read = new Set<string>();

  /** INVALID_REQUEST unless `value` is a JSON object. `path` is empty for the body itself. */
  constructor(value: unknown, path = "") {
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw invalid(path === "" ? "body" : path, "must be a JSON object");
    }
    this.#members = new Map(Object.entries(value));
    this.#path = path;
  }

  text(name: string): string | undefined {
    const value = this.#take(name);
    if (value === undefined) return undefined;
    if (typeof value !== "string" || value === "") throw this.wrong(name, "must be a non-empty string");
    return value;
  }

  flag(name: string): boolean | undefined {
    const value = this.#take(name);
    if (value === undefined || typeof value === "boolean") return value;
    throw this.wrong(name, "must be true or false");
  }

  integer(name: string, min: number, max: number): number | undefined {
    const value = this.#take(name);
    if (value === undefined) return undefined;
    if (typeof value === "number" && Number.isInteger(value) && value >= min && value <= max) return value;
    throw this.wrong(name, `must be a whole number from ${min} to ${max}`);
  }

  fraction(name: string): number | undefined {
    const value = this.#take(name);
    if (value === undefined) return undefined;
    if (typeof value === "number" && value >= 0 && value <= 1) return value;
    throw this.wrong(name, "must be a number from 0 to 1");
  }

  oneOf<T extends string>(name: string, allowed: readonly T[]): T | undefined {
    const value = this.#take(name);
    const found = allowed.find((choice) => choice === value);
    if (value !== undefined && found === undefined)
      throw this.wrong(name, `must be one of ${allowed.join(", ")}`);
    return found;
  }

  /** INVALID_REQUEST when `value` is undefined. */
  required<T>(name: string, value: T | undefined): T {
    if (value === undefined) throw this.wrong(name, "is required");
    return value;
  }

  /** Call last: INVALID_REQUEST for a member nobody asked for. */
  end(): void {
    for (const name of this.#members.keys())
      if (!this.#read.has(name)) throw this.wrong(name, "is not known here");
  }

  /** The error for the member `name`. */
  wrong(name: string, description: string): Error {
    return invalid(this.#path === "" ? name : `${this.#path}.${name}`, description);
  }

  #take(name: string): unknown {
    this.#read.add(name);
    return this.#members.get(name);
  }
}
