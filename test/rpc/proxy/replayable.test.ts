import { setImmediate as turn } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { Replayable } from "../../../src/rpc/credential/replayable.ts";

/** Chunks of `bytes`, and how many were asked for. */
function source(chunks: number, bytes: number, failure?: Error) {
  const at = { asked: 0 };
  async function* give(): AsyncGenerator<Uint8Array> {
    for (let n = 0; n < chunks; n += 1) {
      at.asked += 1;
      yield Buffer.alloc(bytes, n);
    }
    if (failure !== undefined) throw failure;
  }
  return { at, body: new Replayable(give()) };
}

const firstsOf = async (body: AsyncIterable<Uint8Array>) => {
  const firsts: (number | undefined)[] = [];
  for await (const chunk of body) firsts.push(chunk[0]);
  return firsts;
};

describe("a body that may be sent again", () => {
  it("is whole for a second reader while it is short, whatever the first one had read", async () => {
    for (const read of [0, 1, 3]) {
      const { body } = source(3, 10);
      const first = body[Symbol.asyncIterator]();
      for (let n = 0; n < read; n += 1) await first.next();
      expect(await firstsOf(body)).toEqual([0, 1, 2]);
      expect(body.isWhole).toBe(true);
    }
  });

  it("is read one chunk ahead and no further", async () => {
    const { at, body } = source(100, 65_536);
    const reader = body[Symbol.asyncIterator]();
    for (let n = 1; n < 20; n += 1) {
      expect((await reader.next()).value?.[0]).toBe(n - 1);
      await turn();
      expect(at.asked).toBe(n + 1);
    }
    expect(body.isWhole).toBe(false);
  });

  it("tells its reader what its source throws, after what came before it, and nobody else", async () => {
    const { body } = source(2, 10, new Error("broken"));
    const reader = body[Symbol.asyncIterator]();
    await reader.next();
    await reader.next();
    await turn();
    await expect(reader.next()).rejects.toThrow("broken");
    await expect(firstsOf(body)).rejects.toThrow("broken");
  });
});
