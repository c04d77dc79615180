import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { tcpDial } from "../../src/egress/dial.ts";
import { at, httpServer, lateDial, post, room, tcpServer } from "./servers.ts";

describe("an answer", () => {
  it("carries status, headers in order, body and both times", async () => {
    const seen: unknown[] = [];
    const port = await httpServer((request, response) => {
      let body = "";
      request.on("data", (chunk) => (body += chunk));
      request.on("end", () => {
        seen.push(request.method, request.url, body, request.headers);
        response.writeHead(201, ["X-B", "1", "Set-Cookie", "a=1", "x-a", "2", "Set-Cookie", "b=2"]);
        response.end('{"ok":true}');
      });
    });
    const before = Date.now();
    const result = await room().request(post(at(port, "/token?x=1")));
    if (result.kind !== "answer") throw new Error(result.cause);
    expect(result.status).toBe(201);
    expect(result.body.toString()).toBe('{"ok":true}');
    expect(result.headers.slice(0, 4)).toEqual([
      ["x-b", "1"],
      ["set-cookie", "a=1"],
      ["x-a", "2"],
      ["set-cookie", "b=2"],
    ]);
    expect(result.requestedAtMs).toBeGreaterThanOrEqual(before);
    expect(result.receivedAtMs).toBeGreaterThanOrEqual(result.requestedAtMs);
    expect(seen.slice(0, 3)).toEqual(["POST", "/token?x=1", "grant_type=refresh_token"]);
    expect(seen[3]).toMatchObject({
      host: `127.0.0.1:${port}`,
      "accept-encoding": "identity",
      "content-length": "24",
    });
  });

  it("is a redirect too: it is never followed", async () => {
    const paths: (string | undefined)[] = [];
    const port = await httpServer((request, response) => {
      paths.push(request.url);
      response.writeHead(302, { location: "/elsewhere" }).end();
    });
    expect(await room().request(post(at(port)))).toMatchObject({ kind: "answer", status: 302 });
    expect(paths).toEqual(["/token"]);
  });

  it("may come after early hints, without a body, or to a HEAD", async () => {
    const port = await httpServer((request, response) => {
      response.writeEarlyHints({ link: "</a>; rel=preload" });
      if (request.method === "HEAD") response.writeHead(200, { "content-length": "999" }).end();
      else response.writeHead(204).end();
    });
    const egress = room();
    expect(await egress.request(post(at(port)))).toMatchObject({ kind: "answer", status: 204 });
    expect(await egress.request(post(at(port), { method: "HEAD", body: undefined }))).toMatchObject({
      kind: "answer",
      status: 200,
    });
  });

  it("is complete when only the end of the connection delimits it", async () => {
    const { port } = await tcpServer((socket) => socket.end("HTTP/1.1 200 OK\r\n\r\nall of it"));
    expect(await room().request(post(at(port)))).toMatchObject({
      kind: "answer",
      body: Buffer.from("all of it"),
    });
  });

  it("stays an answer when a reset follows the complete body", async () => {
    const { port } = await tcpServer((socket) => {
      socket.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", () =>
        setTimeout(() => socket.resetAndDestroy(), 20),
      );
    });
    expect(await room().request(post(at(port)))).toMatchObject({ kind: "answer", body: Buffer.from("{}") });
  });

  it("may be exactly as long as the limit", async () => {
    const port = await httpServer((_request, response) => response.end("x".repeat(100)));
    expect(await room().request(post(at(port), { maxBodyBytes: 100 }))).toMatchObject({ kind: "answer" });
    expect(await room().request(post(at(port), { maxBodyBytes: 99 }))).toEqual({
      kind: "unknown",
      cause: "body_too_large",
    });
  });

  it("is decoded when the server compresses unasked, and says so no more", async () => {
    const port = await httpServer((_request, response) => {
      response.writeHead(200, { "content-encoding": "gzip" }).end(gzipSync('{"a":1}'));
    });
    const result = await room().request(post(at(port)));
    if (result.kind !== "answer") throw new Error(result.cause);
    expect(result.body.toString()).toBe('{"a":1}');
    expect(result.headers.map(([name]) => name)).not.toContain("content-encoding");
  });
});

describe("a request is not_sent, and the server has seen no byte of it,", () => {
  it("when nobody listens", async () => {
    const { port } = await tcpServer(() => {});
    const egress = room({
      dial: async () => Promise.reject(Object.assign(new Error(), { code: "ECONNREFUSED" })),
    });
    expect(await egress.request(post(at(port)))).toEqual({ kind: "not_sent", cause: "connection_refused" });
  });

  it("when the name has no address", async () => {
    const egress = room({
      resolve: async () => Promise.reject(Object.assign(new Error(), { code: "ENOTFOUND" })),
    });
    expect(await egress.request(post("http://localhost/"))).toEqual({
      kind: "not_sent",
      cause: "dns_not_found",
    });
    expect(await room({ resolve: async () => [] }).request(post("http://localhost/"))).toEqual({
      kind: "not_sent",
      cause: "dns_not_found",
    });
  });

  it.each([true, false])("when it is withdrawn at the last moment (fresh: %s)", async (fresh) => {
    const server = await tcpServer(() => {});
    const egress = room();
    const result = await egress.request(post(at(server.port), { fresh, beforeFirstByte: () => false }));
    expect(result).toEqual({ kind: "not_sent", cause: "withdrawn" });
    await server.emptied();
    expect([server.seen(), server.connections()]).toEqual(["", 1]);
  });

  it("when the last-moment question throws, which is passed on", async () => {
    const server = await tcpServer(() => {});
    const beforeFirstByte = (): boolean => {
      throw new Error("lock gone");
    };
    await expect(room().request(post(at(server.port), { beforeFirstByte }))).rejects.toThrow("lock gone");
    await server.emptied();
    expect(server.seen()).toBe("");
  });

  it("when connecting takes longer than its limit", async () => {
    const egress = room({ dial: () => new Promise(() => {}) });
    expect(await egress.request(post(at(9), { connectTimeoutMs: 30 }))).toEqual({
      kind: "not_sent",
      cause: "connect_timeout",
    });
  });

  it("when the name is not resolved within the limit of connecting", async () => {
    const egress = room({ resolve: () => new Promise(() => {}) });
    const result = await egress.request(post("http://localhost/", { connectTimeoutMs: 30 }));
    expect(result).toEqual({ kind: "not_sent", cause: "connect_timeout" });
  });

  it("when the whole limit passes while connecting", async () => {
    const egress = room({ dial: () => new Promise(() => {}) });
    expect(await egress.request(post(at(9), { timeoutMs: 30 }))).toEqual({
      kind: "not_sent",
      cause: "timeout",
    });
  });

  it("when it is aborted before or while connecting", async () => {
    const egress = room({ dial: () => new Promise(() => {}) });
    const limit = new AbortController();
    setTimeout(() => limit.abort(), 20);
    expect(await egress.request(post(at(9), { signal: limit.signal }))).toEqual({
      kind: "not_sent",
      cause: "aborted",
    });
    expect(await egress.request(post(at(9), { signal: limit.signal }))).toEqual({
      kind: "not_sent",
      cause: "aborted",
    });
  });

  it("when the server hangs up before it is asked", async () => {
    const server = await tcpServer(
      () => {},
      (socket) => socket.resetAndDestroy(),
    );

    const result = await room({ dial: lateDial(server.port, "close") }).request(post(at(server.port)));
    expect([result.kind, server.seen()]).toEqual(["not_sent", ""]);
  });

  it("when the server speaks before it is asked", async () => {
    const server = await tcpServer(
      () => {},
      (socket) => socket.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
    );
    const result = await room({ dial: lateDial(server.port, "readable") }).request(post(at(server.port)));
    expect([result.kind, server.seen()]).toEqual(["not_sent", ""]);
  });

  it("when the room is closed", async () => {
    const egress = room();
    await egress.close();
    expect(await egress.request(post(at(9)))).toEqual({ kind: "not_sent", cause: "closed" });
  });

  it("when the room is closed while connecting", async () => {
    const egress = room({ dial: () => new Promise(() => {}) });
    const asked = egress.request(post(at(9)));
    await egress.close();
    expect(await asked).toEqual({ kind: "not_sent", cause: "aborted" });
  });
});

describe("the outcome is unknown, never not_sent,", () => {
  it("when the server resets after reading", async () => {
    const server = await tcpServer((socket) => socket.resetAndDestroy());
    expect(await room().request(post(at(server.port)))).toEqual({
      kind: "unknown",
      cause: "connection_reset",
    });
    expect(server.connections()).toBe(1);
  });

  it("when the server hangs up after reading, and nothing is sent twice", async () => {
    for (const fresh of [true, false]) {
      const server = await tcpServer((socket) => socket.end());
      const result = await room().request(post(at(server.port), { fresh, method: "GET", body: undefined }));
      expect(result).toEqual({ kind: "unknown", cause: "connection_closed" });
      expect(server.connections()).toBe(1);
      expect(server.seen().match(/GET /g)?.length).toBe(1);
    }
  });

  it.each([
    ["half a status line", "HTTP/1.1 20"],
    ["half the headers", "HTTP/1.1 200 OK\r\ncontent-le"],
    ["too short a body", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{}"],
    ["too short a last body", "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 10\r\n\r\n{}"],
    ["a chunk cut off", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\na\r\n{}"],
    ["no terminating chunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n"],
    [
      "no last terminating chunk",
      "HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n",
    ],
    ["no HTTP at all", "SSH-2.0-OpenSSH_9.6\r\n"],
    ["two lengths", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}"],
    ["headers without end", `HTTP/1.1 200 OK\r\nx: ${"y".repeat(40_000)}\r\n\r\n`],
    [
      "a switch of protocols",
      "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    ],
    ["nothing but an interim answer", "HTTP/1.1 103 Early Hints\r\n\r\n"],
  ])("when the answer is %s", async (_what, bytes) => {
    const server = await tcpServer((socket) => socket.end(bytes));
    const result = await room().request(post(at(server.port)));
    expect(result).toEqual({ kind: "unknown", cause: expect.stringMatching(/^[a-z_]+$/) });
    expect(server.connections()).toBe(1);
  });

  it("when a body that the connection's end delimits is cut off by a reset", async () => {
    const server = await tcpServer((socket) => {
      socket.write("HTTP/1.1 200 OK\r\n\r\nhalf", () => setTimeout(() => socket.resetAndDestroy(), 20));
    });
    expect(await room().request(post(at(server.port)))).toEqual({
      kind: "unknown",
      cause: "connection_reset",
    });
  });

  it("when no answer comes in time", async () => {
    const server = await tcpServer(() => {});
    expect(await room().request(post(at(server.port), { timeoutMs: 60 }))).toEqual({
      kind: "unknown",
      cause: "timeout",
    });
  });

  it("when the body drips past the limit of the whole", async () => {
    const port = await httpServer((_request, response) => {
      const drip = setInterval(() => response.write("x"), 10);
      response.on("close", () => clearInterval(drip));
    });
    expect(await room().request(post(at(port), { timeoutMs: 100 }))).toEqual({
      kind: "unknown",
      cause: "timeout",
    });
  });

  it("when it is aborted after the first byte", async () => {
    const limit = new AbortController();
    const server = await tcpServer(() => limit.abort());
    const result = await room().request(post(at(server.port), { signal: limit.signal }));
    expect(result).toEqual({ kind: "unknown", cause: "aborted" });
  });

  it("when the body is too large, which is then read no further", async () => {
    let closed = (): void => {};
    const hungUp = new Promise<void>((resolve) => (closed = resolve));
    const port = await httpServer((_request, response) => {
      const pour = setInterval(() => response.write("x".repeat(10_000)), 1);
      response.on("close", () => {
        clearInterval(pour);
        closed();
      });
    });
    expect(await room().request(post(at(port)))).toEqual({ kind: "unknown", cause: "body_too_large" });
    await hungUp;
  });

  it("when a small compressed body unpacks to a huge one", async () => {
    const port = await httpServer((_request, response) => {
      response.writeHead(200, { "content-encoding": "gzip" }).end(gzipSync(Buffer.alloc(20_000_000)));
    });
    expect(await room().request(post(at(port)))).toEqual({ kind: "unknown", cause: "body_too_large" });
  });
});

describe("the last-moment question", () => {
  it("is asked once, after connecting, in the same turn as the first byte is written", async () => {
    const server = await tcpServer((socket) => socket.end("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
    const order: string[] = [];
    const egress = room({
      dial: async (_address, port, signal) => {
        const socket = await tcpDial("127.0.0.1", port, signal);
        order.push("connected");
        const write = socket.write.bind(socket);
        Object.defineProperty(socket, "write", {
          configurable: true,
          value: (chunk: string) => {
            order.push("written");
            return write(chunk);
          },
        });
        return socket;
      },
    });
    const beforeFirstByte = (): boolean => {
      order.push("asked");
      queueMicrotask(() => order.push("next turn"));
      process.nextTick(() => order.push("next turn"));
      return true;
    };
    await egress.request(post(at(server.port), { body: undefined, beforeFirstByte }));
    expect(order).toEqual(["connected", "asked", "written", "next turn", "next turn"]);
  });
});
