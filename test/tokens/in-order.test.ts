import { expect, it } from "vitest";
import { inOrder } from "../../src/tokens/in-order.ts";

const soon = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

it("gives the results in the order of the items, however long each takes", async () => {
  async function* items() {
    yield* [30, 1, 20, 2, 10];
  }
  const got: number[] = [];
  for await (const ms of inOrder(items(), 3, (each) => soon(each).then(() => each))) got.push(ms);
  expect(got).toEqual([30, 1, 20, 2, 10]);
});

it("reads no further than it works, and works on no more than it may", async () => {
  let read = 0;
  let working = 0;
  let most = 0;
  async function* items() {
    for (; read < 50; ) {
      read += 1;
      yield read;
    }
  }
  const work = async (item: number) => {
    working += 1;
    most = Math.max(most, working);
    await soon(1);
    working -= 1;
    return item;
  };
  let given = 0;
  for await (const _ of inOrder(items(), 4, work)) {
    given += 1;
    expect(read - given).toBeLessThanOrEqual(5);
    await soon(1);
  }
  expect([given, most]).toEqual([50, 4]);
});

it("gives a result to a source that waits for it before it goes on", async () => {
  let wake: () => void = () => undefined;
  async function* items() {
    for (let item = 0; item < 3; item += 1) {
      const answered = new Promise<void>((resolve) => {
        wake = resolve;
      });
      yield item;
      await answered;
    }
  }
  const got: number[] = [];
  for await (const item of inOrder(items(), 64, async (each) => each)) {
    got.push(item);
    wake();
  }
  expect(got).toEqual([0, 1, 2]);
});

it("lets what has begun end when nobody listens any more", async () => {
  let ended = 0;
  async function* items() {
    yield* [1, 2, 3];
    await new Promise(() => undefined);
  }
  const work = async (item: number) => {
    await soon(item * 5);
    ended += 1;
    return item;
  };
  for await (const _ of inOrder(items(), 3, work)) break;
  expect(ended).toBe(3);
});
