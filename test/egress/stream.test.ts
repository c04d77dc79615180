import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { setTimeout as delay } from "node:timers/promises";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import type { StreamedAnswer, StreamedRequest, StreamedResult } from "../../src/egress/egress.ts";
import { at, httpServer, room, tcpServer } from "./servers.ts";

/** A streamed request to `url` with loopback permitted. */
function streamed(url: string, changes: Partial<StreamedRequest> = {}): StreamedRequest {
  return {
    method: "POST",
    url,
    headers: [],
    body: undefined,
    allowedHosts: ["127.0.0.1"],
    allowLoopback: true,
    timeoutMs: 10_000,
    answerWithinMs: 5_000,
    ...changes,
  };
}

function answerOf(result: StreamedResult): StreamedAnswer {
  if (result.kind !== "answer") throw new Error(result.cause);
  return result;
}

async function whole(body: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function* of(...texts: string[]): AsyncGenerator<Uint8Array> {
  for (const text of texts) yield Buffer.from(text);
}

async function read(request: IncomingMessage): Promise<string> {
  return (await whole(request)).toString("latin1");
}

const cause = (name: string) => expect.objectContaining({ metadata: { cause: name } });

describe("a streamed request", () => {
  it("is sent in chunks, or with the length it is said to have", async () => {
    const seen: unknown[] = [];
    const port = await httpServer(async (request, response) => {
      const body = await read(request);
      seen.push([request.headers["transfer-encoding"], request.headers["content-length"], body]);
      response.end();
    });
    const egress = room();
    for (const bodyBytes of [undefined, 6]) {
      const result = await egress.stream(streamed(at(port), { body: of("abc", "", "def"), bodyBytes }));
      await whole(answerOf(result).body);
    }
    expect(seen).toEqual([
      ["chunked", undefined, "abcdef"],
      [undefined, "6", "abcdef"],
    ]);
  });

  it("never has another length than it is said to have", async () => {
    const { port, seen } = await tcpServer(() => undefined);
    for (const texts of [["abc"], ["abc", "defg"]]) {
      const result = room().stream(streamed(at(port), { body: of(...texts), bodyBytes: 6 }));
      expect(await result).toEqual({ kind: "unknown", cause: "request_length_mismatch" });
    }
    expect(seen()).not.toContain("defg");
  });

  it("waits for the other side to take it", async () => {
    const { port } = await tcpServer((socket) => socket.pause());
    let given = 0;
    async function* endless(): AsyncGenerator<Uint8Array> {
      for (;;) {
        given += 65_536;
        yield Buffer.alloc(65_536);
      }
    }
    const stop = new AbortController();
    const result = room().stream(streamed(at(port), { body: endless(), signal: stop.signal }));
    await delay(300);
    const before = given;
    await delay(100);
    expect(given).toBe(before);
    expect(given).toBeLessThan(16 * 1024 * 1024);
    stop.abort();
    expect(await result).toEqual({ kind: "unknown", cause: "aborted" });
  });

  it("ends with what its source throws, and the connection with it", async () => {
    const { port, emptied } = await tcpServer(() => undefined);
    async function* failing(): AsyncGenerator<Uint8Array> {
      yield Buffer.from("abc");
      throw new Error("the caller's own");
    }
    await expect(room().stream(streamed(at(port), { body: failing() }))).rejects.toThrow("the caller's own");
    await emptied();
  });

  it("does not keep its source waiting once the answer is there", async () => {
    const { port } = await tcpServer((socket) =>
      socket.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"),
    );
    let released = false;
    const source: AsyncIterable<Uint8Array> = {
      [Symbol.asyncIterator]: () => {
        let first = true;
        return {
          next: () => {
            if (!first) return new Promise(() => undefined);
            first = false;
            return Promise.resolve({ done: false, value: Buffer.from("abc") });
          },
          return: async () => {
            released = true;
            return { done: true, value: undefined };
          },
        };
      },
    };
    const egress = room();
    const result = await egress.stream(streamed(at(port), { body: source }));
    expect((await whole(answerOf(result).body)).toString()).toBe("ok");
    await delay(10);
    expect(released).toBe(true);
  });

  it("goes out whole on another connection when the pooled one had been closed", async () => {
    const bodies: string[] = [];
    const port = await httpServer(async (request, response) => {
      bodies.push(await read(request));
      response.end();
      if (bodies.length === 1) setTimeout(() => request.socket.destroy(), 5);
    });
    const egress = room();
    for (const text of ["one", "two"]) {
      const result = await egress.stream(streamed(at(port), { body: of(text, "!") }));
      await whole(answerOf(result).body);
      await delay(30);
    }
    expect(bodies).toEqual(["one!", "two!"]);
  });
});

describe("a streamed answer", () => {
  it("begins before it ends, and brings its trailers", async () => {
    const port = await httpServer((_request, response) => {
      response.writeHead(200, { trailer: "x-sum" });
      response.write("first");
      setTimeout(() => {
        response.addTrailers({ "X-Sum": "9" });
        response.end("second");
      }, 50);
    });
    const answer = answerOf(await room().stream(streamed(at(port))));
    expect(answer.trailers()).toEqual([]);
    expect((await whole(answer.body)).toString()).toBe("firstsecond");
    expect(answer.trailers()).toEqual([["x-sum", "9"]]);
  });

  it("leaves its connection to the next request", async () => {
    const sockets = new Set<unknown>();
    const port = await httpServer((request, response) => {
      sockets.add(request.socket);
      response.end("x".repeat(300_000));
    });
    const egress = room();
    for (let i = 0; i < 3; i += 1) await whole(answerOf(await egress.stream(streamed(at(port)))).body);
    expect(sockets.size).toBe(1);
  });

  it("comes no faster than it is read, and is complete then", async () => {
    let written = 0;
    const total = 32 * 1024 * 1024;
    const port = await httpServer(async (_request, response) => {
      while (written < total) {
        written += 65_536;
        if (!response.write(Buffer.alloc(65_536, 7))) await once(response, "drain");
      }
      response.end();
    });
    const answer = answerOf(await room().stream(streamed(at(port))));
    await delay(300);
    expect(written).toBeLessThan(total / 2);
    expect((await whole(answer.body)).length).toBe(total);
  });

  it.each(["br", "gzip", "deflate, gzip", "unheard-of"])(
    "in the coding %s is kept when asked to be",
    async (coding) => {
      const port = await httpServer((_request, response) => {
        response.writeHead(200, { "content-encoding": coding }).end("as it is");
      });
      const answer = answerOf(await room().stream(streamed(at(port), { keepEncoding: true })));
      expect(answer.headers).toContainEqual(["content-encoding", coding]);
      expect((await whole(answer.body)).toString()).toBe("as it is");
    },
  );

  it.each([
    ["gzip", gzipSync("plain".repeat(100_000))],
    ["br", brotliCompressSync("plain".repeat(100_000))],
    ["gzip", Buffer.alloc(0)],
  ])("is decoded from %s as it comes", async (coding, body) => {
    const port = await httpServer((_request, response) => {
      response.writeHead(200, { "content-encoding": coding }).end(body);
    });
    const answer = answerOf(await room().stream(streamed(at(port))));
    expect(answer.headers.map(([name]) => name)).not.toContain("content-encoding");
    expect((await whole(answer.body)).length).toBe(body.length === 0 ? 0 : 500_000);
  });

  it("says why it breaks off: undecodable, cut, reset", async () => {
    const garbage = await httpServer((_request, response) => {
      response.writeHead(200, { "content-encoding": "gzip" }).end("no gzip");
    });
    await expect(whole(answerOf(await room().stream(streamed(at(garbage)))).body)).rejects.toEqual(
      cause("body_undecodable"),
    );
    const head = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf";
    const cut = await tcpServer((socket) => socket.end(head));
    await expect(whole(answerOf(await room().stream(streamed(at(cut.port)))).body)).rejects.toEqual(
      cause("connection_closed"),
    );
    const reset = await tcpServer((socket) => {
      socket.write(head, () => setTimeout(() => socket.resetAndDestroy(), 20));
    });
    await expect(whole(answerOf(await room().stream(streamed(at(reset.port)))).body)).rejects.toEqual(
      cause("connection_reset"),
    );
  });

  it("closes its connection when it is cancelled, or no longer read", async () => {
    for (const stop of ["cancel", "break"] as const) {
      const { port, emptied } = await tcpServer((socket) =>
        socket.write("HTTP/1.1 200 OK\r\ncontent-length: 9000\r\n\r\nhalf"),
      );
      const answer = answerOf(await room().stream(streamed(at(port))));
      if (stop === "cancel") answer.cancel();
      else for await (const _ of answer.body) break;
      await emptied();
    }
  });

  it("is not waited for longer than asked, from the end of the request on", async () => {
    const { port } = await tcpServer(() => undefined);
    async function* slow(): AsyncGenerator<Uint8Array> {
      for (let i = 0; i < 4; i += 1) {
        await delay(50);
        yield Buffer.from("a");
      }
    }
    const before = performance.now();
    const result = await room().stream(streamed(at(port), { body: slow(), answerWithinMs: 100 }));
    expect(result).toEqual({ kind: "unknown", cause: "timeout" });
    expect(performance.now() - before).toBeGreaterThan(280);
  });

  it("ends in the middle when its time is up, or the room closes", async () => {
    const { port } = await tcpServer((socket) =>
      socket.write("HTTP/1.1 200 OK\r\ncontent-length: 9000\r\n\r\nhalf"),
    );
    const late = answerOf(await room().stream(streamed(at(port), { timeoutMs: 100 })));
    await expect(whole(late.body)).rejects.toEqual(cause("timeout"));
    const egress = room();
    const open = answerOf(await egress.stream(streamed(at(port))));
    await egress.close();
    await expect(whole(open.body)).rejects.toEqual(cause("aborted"));
  });
});
