import { EventEmitter } from "node:events";
import { Socket } from "node:net";
import type { Client, Dispatcher } from "undici";
import { describe, expect, it } from "vitest";
import { Limit } from "../../src/egress/limit.ts";
import { type Call, Line } from "../../src/egress/line.ts";

/** undici's Client as it behaves after some losses: the request goes back in the queue and starts once more. */
function requeueing(socket: Socket, sent: string[]): typeof Client {
  class Requeueing extends EventEmitter {
    dispatch(options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
      for (let i = 0; i < 2; i++) {
        let aborted = false;
        const abort = (): void => {
          aborted = true;
        };
        handler.onRequestStart?.(Object.assign(new EventEmitter(), { abort }) as never, null);
        if (aborted) continue;
        sent.push(options.method);
        socket.write("POST");
      }
      return true;
    }
    async destroy(): Promise<void> {}
  }
  return Requeueing as never;
}

describe("a line", () => {
  it("never writes a request twice, even when it is started again after a loss", async () => {
    const sent: string[] = [];
    const socket = new Socket();
    const line = new Line("", "https://example.test", socket, { Client: requeueing(socket, sent) });
    let asked = 0;
    const call: Call = {
      method: "POST",
      path: "/",
      headers: [],
      body: undefined,
      last: true,
      beforeFirstByte: () => {
        asked += 1;
        return true;
      },
      now: () => 0,
      limit: new Limit(),
    };
    expect(await line.exchange(call, { head: () => undefined, data: () => undefined })).toEqual({
      kind: "unknown",
      cause: "connection_closed",
    });
    expect([sent, asked]).toEqual([["POST"], 1]);
    line.destroy();
  });
});
