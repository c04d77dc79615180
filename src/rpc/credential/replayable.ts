/** What is kept of a body for sending it a second time. */
const KEPT_BYTES = 256 * 1024;

/**
 * A streamed body that can be read a second time from its beginning while it is short. Only the newest reader is served;
 * what an earlier one had asked for is not lost.
 */
export class Replayable implements AsyncIterable<Uint8Array> {
  readonly #source: AsyncIterator<Uint8Array>;
  #kept: Uint8Array[] = [];
  #keptBytes = 0;
  /** How many chunks before `#kept` are gone. */
  #gone = 0;
  #overflowed = false;
  #ended = false;
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
          if (this.#ended) return { done: true, value: undefined };
          await this.#pull();
        }
        const value = this.#kept[at - this.#gone] ?? new Uint8Array();
        at += 1;
        if (this.#overflowed) this.#drop(at);
        return { done: false, value };
      },
    };
  }

  #pull(): Promise<void> {
    this.#pulling ??= this.#source
      .next()
      .then((pulled) => {
        if (pulled.done === true) {
          this.#ended = true;
          return;
        }
        this.#kept.push(pulled.value);
        this.#keptBytes += pulled.value.length;
        if (this.#keptBytes > KEPT_BYTES) this.#overflowed = true;
      })
      .finally(() => {
        this.#pulling = undefined;
      });
    return this.#pulling;
  }

  #drop(until: number): void {
    this.#kept = this.#kept.slice(until - this.#gone);
    this.#gone = until;
  }
}
