/**
 * Works on at most `atOnce` items at a time and gives the results in the order of the items, each as soon as it is its
 * turn: a source that waits for a result before it goes on gets it. `work` must not reject.
 */
export async function* inOrder<T, R>(
  items: AsyncIterable<T>,
  atOnce: number,
  work: (item: T) => Promise<R>,
): AsyncGenerator<R, void> {
  const iterator = items[Symbol.asyncIterator]();
  const underway: Promise<R>[] = [];
  let coming: Promise<IteratorResult<T>> | undefined = iterator.next();
  try {
    while (coming !== undefined || underway.length > 0) {
      const [head] = underway;
      const isFull = underway.length >= atOnce || coming === undefined;
      const first: IteratorResult<T> | "head" | undefined = isFull
        ? "head"
        : await Promise.race([coming, ...(head === undefined ? [] : [head.then(() => "head" as const)])]);
      if (first === "head") {
        underway.shift();
        if (head !== undefined) yield await head;
      } else if (first?.done === true) coming = undefined;
      else if (first !== undefined) {
        underway.push(work(first.value));
        coming = iterator.next();
      }
    }
  } finally {
    // What has begun ends, whoever stopped listening.
    await Promise.all(underway);
    coming?.catch(() => undefined);
  }
}
