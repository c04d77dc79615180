/** What is kept of a body for sending it a second time. */
const KEPT_BYTES = 256 * 1024;

/**
 * A streamed body that can be read a second time from its beginning while it is short. Only the newest reader is served;
 * what an earlier one had asked for is not lost. While a reader has one chunk, the next one is fetched.
 */
export class Replayable implements AsyncIterable<Uint8Array> {
  readonly #source: AsyncIterator<Uint8Array>;
  #kept: Uint8Array[] = [];
  #keptBytes = 0;
  /** How many chunks before `#kept` are gone. */
  #gone = 0;
  #overflowed = false;
  #ended = false;
  #failure: { readonly error: unknown } | undefined;
  #pulling: Promise<void> | undefined;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** False once more has passed than is kept. */
  get isWhole(): boolean {
    return !this.#overflowed;
  }

  [Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    let at = 0;
    return {
      next: async () => {
        while (at - this.#gone >= this.#kept.length) {
          if (this.#failure !== undefined) throw this.#failure.error;
          if (this.#ended) return { done: true, value: undefined };
          await this.#pull();
        }
        const value = this.#kept[at - this.#gone] ?? new Uint8Array();
        at += 1;
        if (this.#overflowed) this.#drop(at);
        if (at - this.#gone >= this.#kept.length) void this.#pull();
        return { done: false, value };
      },
    };
  }

  /** Never rejects: who reads on is told of a failure. */
  #pull(): Promise<void> {
    this.#pulling ??= this.#fetch().finally(() => {
      this.#pulling = undefined;
    });
    return this.#pulling;
  }

  async #fetch(): Promise<void> {
    if (this.#ended || this.#failure !== undefined) return;
    try {
      const pulled = await this.#source.next();
      if (pulled.done === true) {
        this.#ended = true;
        return;
      }
      this.#kept.push(pulled.value);
      this.#keptBytes += pulled.value.length;
      if (this.#keptBytes > KEPT_BYTES) this.#overflowed = true;
    } catch (error) {
      this.#failure = { error };
    }
  }

  #drop(until: number): void {
    this.#kept = this.#kept.slice(until - this.#gone);
    this.#gone = until;
  }
}
