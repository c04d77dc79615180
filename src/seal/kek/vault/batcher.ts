/** What came of one item: its value, or the error that its asker gets. */
export type Outcome<O> = { readonly value: O } | { readonly error: unknown };

/** Sends many items as one request and returns as many outcomes, in their order. Rejects when the whole request failed. */
export type SendBatch<I, O> = (items: readonly I[], signal: AbortSignal) => Promise<readonly Outcome<O>[]>;

export interface BatcherOptions<I, O> {
  readonly send: SendBatch<I, O>;
  /** Items in one request. */
  readonly maxItems: number;
  /** Requests at a time. What comes while as many are on their way shares the next one. */
  readonly maxRequests: number;
  /** Gets a value whose asker had gone before it came. */
  readonly late: (value: O) => void;
}

interface Waiting<I, O> {
  readonly item: I;
  readonly signal: AbortSignal;
  readonly resolve: (value: O) => void;
  readonly reject: (error: unknown) => void;
}

/** Nothing waits for company: an item goes at once, unless enough requests are on their way already. */
export class Batcher<I, O> {
  readonly #options: BatcherOptions<I, O>;
  #queue: Waiting<I, O>[] = [];
  #onTheirWay = 0;

  constructor(options: BatcherOptions<I, O>) {
    this.#options = options;
  }

  /** Rejects with the signal's reason when that aborts first. */
  ask(item: I, signal: AbortSignal): Promise<O> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason);
      const waiting: Waiting<I, O> = { item, signal, resolve, reject };
      signal.addEventListener(
        "abort",
        () => {
          this.#queue = this.#queue.filter((other) => other !== waiting);
          reject(signal.reason);
        },
        { once: true },
      );
      this.#queue.push(waiting);
      this.#next();
    });
  }

  #next(): void {
    const { maxItems, maxRequests } = this.#options;
    if (this.#queue.length === 0 || this.#onTheirWay >= maxRequests) return;
    const batch = this.#queue.splice(0, maxItems);
    this.#onTheirWay += 1;
    void this.#send(batch).finally(() => {
      this.#onTheirWay -= 1;
      this.#next();
    });
  }

  async #send(batch: readonly Waiting<I, O>[]): Promise<void> {
    try {
      const outcomes = await this.#options.send(
        batch.map(({ item }) => item),
        whenAllAborted(batch.map(({ signal }) => signal)),
      );
      batch.forEach((waiting, at) => {
        this.#settle(waiting, outcomes[at]);
      });
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
  }

  #settle({ signal, resolve, reject }: Waiting<I, O>, outcome: Outcome<O> | undefined): void {
    if (outcome === undefined) reject(new Error("a batch with too few outcomes"));
    else if ("error" in outcome) reject(outcome.error);
    else if (signal.aborted) this.#options.late(outcome.value);
    else resolve(outcome.value);
  }
}

/** Aborts when nobody is left who waits. */
function whenAllAborted(signals: readonly AbortSignal[]): AbortSignal {
  const all = new AbortController();
  let left = signals.length;
  for (const signal of signals) {
    signal.addEventListener(
      "abort",
      () => {
        left -= 1;
        if (left === 0) all.abort();
      },
      { once: true },
    );
  }
  return all.signal;
}
