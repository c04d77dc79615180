/** What a body begins with, read ahead of whoever reads it. */
export interface Peeked {
  /** The whole body, when it ended within the limit. */
  readonly whole: Buffer | undefined;
  /** All of it, still. */
  readonly body: AsyncIterable<Uint8Array>;
}

/** Reads up to about `maxBytes`. Throws what the body throws. */
export async function peek(source: AsyncIterable<Uint8Array>, maxBytes: number): Promise<Peeked> {
  const rest = source[Symbol.asyncIterator]();
  const begun: Uint8Array[] = [];
  let bytes = 0;
  let ended = false;
  while (bytes <= maxBytes && !ended) {
    const next = await rest.next();
    if (next.done === true) {
      ended = true;
    } else {
      begun.push(next.value);
      bytes += next.value.length;
    }
  }
  async function* all(): AsyncGenerator<Uint8Array> {
    yield* begun;
    if (!ended) yield* { [Symbol.asyncIterator]: () => rest };
  }
  return { whole: ended ? Buffer.concat(begun) : undefined, body: all() };
}
