/** What stands between a caller and a neighbour: open, failing, or silent for a while. */
export class Trouble {
  #act: (() => Promise<void>) | undefined;

  /** Every call fails with what `error` makes, until `end`. */
  fail(error: () => Error): void {
    this.#act = () => Promise.reject(error());
  }

  /** No call is answered until `end`; then those that waited are. */
  hang(): void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#act = () => promise;
    this.#resume = resolve;
  }

  #resume: () => void = () => undefined;

  end(): void {
    this.#act = undefined;
    this.#resume();
  }

  async pass(): Promise<void> {
    await this.#act?.();
  }
}
