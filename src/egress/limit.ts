/**
 * Ends one request, wherever it is; the first cause counts. An AbortController does the same at a cost that is felt when
 * every request has one.
 */
export class Limit {
  #cause: string | undefined;
  #heard: (() => void) | undefined;

  /** In one word; undefined while the request may go on. */
  get cause(): string | undefined {
    return this.#cause;
  }

  end(cause: string): void {
    if (this.#cause !== undefined) return;
    this.#cause = cause;
    this.#heard?.();
  }

  /** Whoever has the request now hears of its end, once; nobody else does any more. */
  hear(heard: (() => void) | undefined): void {
    this.#heard = heard;
  }
}
