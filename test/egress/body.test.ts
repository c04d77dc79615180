import { describe, expect, it } from "vitest";
import { Outgoing } from "../../src/egress/body.ts";

const never = (error: unknown) => {
  throw error;
};

async function rest(attempt: AsyncIterable<Uint8Array>): Promise<string> {
  let text = "";
  for await (const chunk of attempt) text += Buffer.from(chunk).toString();
  return text;
}

describe("a streamed request's body", () => {
  it("is given from its beginning to the next connection, when the last one lost the first chunk", async () => {
    async function* source(): AsyncGenerator<Uint8Array> {
      yield Buffer.from("one ");
      yield Buffer.from("two");
    }
    const body = new Outgoing(source());
    const lost = body.attempt(never);
    await lost[Symbol.asyncIterator]().next();
    lost.end();
    expect(await rest(body.attempt(never))).toBe("one two");
  });

  it("keeps what a lost connection was still waiting for", async () => {
    const gate = Promise.withResolvers<void>();
    async function* source(): AsyncGenerator<Uint8Array> {
      await gate.promise;
      yield Buffer.from("late");
    }
    const body = new Outgoing(source());
    const lost = body.attempt(never);
    const waiting = lost[Symbol.asyncIterator]().next();
    lost.end();
    expect(await waiting).toEqual({ done: true, value: undefined });
    gate.resolve();
    expect(await rest(body.attempt(never))).toBe("late");
  });
});
