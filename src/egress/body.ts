import type { Flow } from "./line.ts";

/** More than this unread stops the connection's reading. */
const AHEAD_BYTES = 128 * 1024;

/** An answer's body as it comes, read once. Reading slowly makes the sender slow. */
export class Incoming implements AsyncIterable<Buffer> {
  readonly #cancel: () => void;
  #chunks: Buffer[] = [];
  #bytes = 0;
  #flow: Flow | undefined;
  #paused = false;
  #end: { readonly error: Error | undefined } | undefined;
  #wake: () => void = () => undefined;

  /** `cancel` ends the call: it is used when the reader stops before the end. */
  constructor(cancel: () => void) {
    this.#cancel = cancel;
  }

  start(flow: Flow): void {
    this.#flow = flow;
  }

  push(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    if (this.#bytes >= AHEAD_BYTES && !this.#paused) {
      this.#paused = true;
      this.#flow?.pause();
    }
    this.#wake();
  }

  /** With an error the reader gets it after what had come before it. */
  end(error?: Error): void {
    this.#end ??= { error };
    this.#wake();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer> {
    try {
      for (;;) {
        const chunk = this.#chunks.shift();
        if (chunk !== undefined) {
          this.#bytes -= chunk.length;
          yield chunk;
        } else if (this.#end !== undefined) {
          if (this.#end.error !== undefined) throw this.#end.error;
          return;
        } else {
          this.#more();
          // What resuming delivered at once is there already.
          if (this.#chunks.length === 0 && this.#end === undefined) await this.#next();
        }
      }
    } finally {
      this.#chunks = [];
      if (this.#end === undefined) this.#cancel();
    }
  }

  #more(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#flow?.resume();
  }

  #next(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}

type Pulled = IteratorResult<Uint8Array>;

/** A request's body, read once, which several connections may be tried for while none has written any of it. */
export class Outgoing {
  readonly #source: AsyncIterator<Uint8Array>;
  #pending: Promise<Pulled> | undefined;
  #taken: Pulled | undefined;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /**
   * For one connection, from the beginning. `failed` hears what the source throws. Once `end` is called nothing more is
   * given, even where the source is being waited for.
   */
  attempt(failed: (error: unknown) => void): AsyncIterable<Uint8Array> & { readonly end: () => void } {
    // A connection that wrote nothing may have been given one chunk, which it lost.
    let again = this.#taken;
    let over = false;
    let wake: () => void = () => undefined;
    const next = (): Promise<Pulled> => {
      if (over) return Promise.resolve({ done: true, value: undefined });
      if (again !== undefined) {
        const first = again;
        again = undefined;
        return Promise.resolve(first);
      }
      return new Promise((resolve) => {
        wake = () => resolve({ done: true, value: undefined });
        this.#pending ??= this.#source.next();
        this.#pending.then(
          (pulled) => {
            if (over) return;
            this.#pending = undefined;
            this.#taken = pulled;
            resolve(pulled);
          },
          (error: unknown) => {
            if (!over) failed(error);
          },
        );
      });
    };
    return {
      [Symbol.asyncIterator]: () => ({ next }),
      end: () => {
        over = true;
        wake();
      },
    };
  }

  /** No further connection is tried. */
  close(): void {
    this.#source.return?.()?.catch(() => undefined);
  }
}
