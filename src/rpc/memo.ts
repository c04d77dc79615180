/** Remembers what costs to make, by a key of which there are few; who makes keys up gets no memory for it. */
export class Memo<T> {
  readonly #made = new Map<string, T>();
  readonly #most: number;

  constructor(most: number) {
    this.#most = most;
  }

  get(key: string, make: () => T): T {
    const known = this.#made.get(key);
    if (known !== undefined) return known;
    if (this.#made.size === this.#most) this.#made.clear();
    const made = make();
    this.#made.set(key, made);
    return made;
  }
}
