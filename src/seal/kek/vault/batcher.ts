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
  /** Undefined while it is in the queue. */
  batch: Batch | undefined;
}

/** A request on its way. */
interface Batch {
  /** How many of its items somebody still waits for. */
  waiting: number;
  readonly abandoned: AbortController;
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
  async ask(item: I, signal: AbortSignal): Promise<O> {
    signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<O>();
    const waiting: Waiting<I, O> = { item, signal, resolve, reject, batch: undefined };
    const leave = () => this.#leave(waiting);
    signal.addEventListener("abort", leave);
    this.#queue.push(waiting);
    this.#next();
    try {
      return await promise;
    } finally {
      signal.removeEventListener("abort", leave);
    }
  }

  #leave(waiting: Waiting<I, O>): void {
    waiting.reject(waiting.signal.reason);
    const { batch } = waiting;
    if (batch === undefined) {
      this.#queue = this.#queue.filter((other) => other !== waiting);
      return;
    }
    batch.waiting -= 1;
    if (batch.waiting === 0) batch.abandoned.abort();
  }

  #next(): void {
    const { maxItems, maxRequests } = this.#options;
    if (this.#queue.length === 0 || this.#onTheirWay >= maxRequests) return;
    const askers = this.#queue.splice(0, maxItems);
    this.#onTheirWay += 1;
    void this.#send(askers).finally(() => {
      this.#onTheirWay -= 1;
      this.#next();
    });
  }

  async #send(askers: readonly Waiting<I, O>[]): Promise<void> {
    const batch: Batch = { waiting: askers.length, abandoned: new AbortController() };
    for (const asker of askers) asker.batch = batch;
    try {
      const items = askers.map(({ item }) => item);
      const outcomes = await this.#options.send(items, batch.abandoned.signal);
      askers.forEach((asker, at) => {
        this.#settle(asker, outcomes[at]);
      });
    } catch (error) {
      for (const { reject } of askers) reject(error);
    }
  }

  #settle({ signal, resolve, reject }: Waiting<I, O>, outcome: Outcome<O> | undefined): void {
    if (outcome === undefined) reject(new Error("a batch with too few outcomes"));
    else if ("error" in outcome) reject(outcome.error);
    else if (signal.aborted) this.#options.late(outcome.value);
    else resolve(outcome.value);
  }
}
