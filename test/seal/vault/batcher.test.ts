import { describe, expect, it } from "vitest";
import { Batcher } from "../../../src/seal/kek/vault/batcher.ts";

const turn = () => new Promise(setImmediate);

/** Doubles numbers; each request waits until it is let go. */
function doubling({ maxItems = 3, maxRequests = 2 } = {}) {
  const requests: { readonly items: readonly number[]; readonly signal: AbortSignal; go(): void }[] = [];
  const late: number[] = [];
  const batcher = new Batcher<number, number>({
    maxItems,
    maxRequests,
    late: (value) => late.push(value),
    send: (items, signal) =>
      new Promise((resolve) => {
        const go = () =>
          resolve(items.map((item) => (item < 0 ? { error: new Error(`no ${item}`) } : { value: item * 2 })));
        requests.push({ items, signal, go });
      }),
  });
  return { batcher, requests, late };
}

const waiting = () => new AbortController().signal;

describe("a batcher", () => {
  it("sends what comes alone at once, and what comes meanwhile together", async () => {
    const { batcher, requests } = doubling();
    const asked = [1, 2, 3, 4, 5, 6].map((item) => batcher.ask(item, waiting()));
    expect(requests.map(({ items }) => items)).toEqual([[1], [2]]);
    requests[0]?.go();
    await asked[0];
    await turn();
    expect(requests.map(({ items }) => items)).toEqual([[1], [2], [3, 4, 5]]);
    requests[1]?.go();
    await asked[1];
    await turn();
    for (const { go } of requests) go();
    await turn();
    for (const { go } of requests) go();
    expect(await Promise.all(asked)).toEqual([2, 4, 6, 8, 10, 12]);
  });

  it("fails the faulty item alone", async () => {
    const { batcher, requests } = doubling({ maxRequests: 1 });
    const first = batcher.ask(1, waiting());
    const rest = Promise.allSettled([batcher.ask(-2, waiting()), batcher.ask(3, waiting())]);
    requests[0]?.go();
    await first;
    await turn();
    requests[1]?.go();
    expect((await rest).map(({ status }) => status)).toEqual(["rejected", "fulfilled"]);
  });

  it("does not send what nobody waits for any more, ends a request when all have gone, and hands over what came late", async () => {
    const { batcher, requests, late } = doubling({ maxRequests: 1 });
    const gone = [new AbortController(), new AbortController(), new AbortController()];
    const asked = gone.map(({ signal }, at) => batcher.ask(at + 1, signal));
    const settled = Promise.allSettled([...asked, batcher.ask(9, waiting())]);
    gone[1]?.abort();
    expect(requests[0]?.signal.aborted).toBe(false);
    gone[0]?.abort();
    expect(requests[0]?.signal.aborted).toBe(true);
    requests[0]?.go();
    await turn();
    expect(late).toEqual([2]);
    expect(requests[1]?.items).toEqual([3, 9]);
    gone[2]?.abort();
    expect(requests[1]?.signal.aborted).toBe(false);
    requests[1]?.go();
    expect((await settled).map(({ status }) => status)).toEqual([
      "rejected",
      "rejected",
      "rejected",
      "fulfilled",
    ]);
    expect(late).toEqual([2, 6]);
  });
});
