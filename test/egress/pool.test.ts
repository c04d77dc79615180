import type { Socket } from "node:net";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { at, httpServer, post, room, tcpServer } from "./servers.ts";

/** Lets sockets be served for `turns` milliseconds without a timer. */
async function passing(turns: number): Promise<void> {
  for (const end = performance.now() + turns; performance.now() < end; ) {
    await new Promise((resolve) => setImmediate(resolve));
  }
}

const EMPTY = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

describe("the pool", () => {
  it("reuses a connection, except for fresh requests, which neither take nor leave one", async () => {
    const closing: (string | undefined)[] = [];
    const ports: (number | undefined)[] = [];
    const port = await httpServer((request, response) => {
      ports.push(request.socket.remotePort);
      closing.push(request.headers.connection);
      response.end("{}");
    });
    const egress = room();
    for (const fresh of [false, false, true, true, false]) await egress.request(post(at(port), { fresh }));
    expect([ports[1], ports[4]]).toEqual([ports[0], ports[0]]);
    expect(new Set(ports).size).toBe(3);
    expect(closing).toEqual(["keep-alive", "keep-alive", "close", "close", "keep-alive"]);
  });

  it("opens a new connection, unnoticed, when the server has closed an idle one", async () => {
    const server = await tcpServer((socket) => {
      socket.write(EMPTY, () => setTimeout(() => socket.destroy(), 10));
    });
    const egress = room();
    await egress.request(post(at(server.port), { fresh: false }));
    await new Promise((resolve) => setTimeout(resolve, 60));
    expect(await egress.request(post(at(server.port), { fresh: false }))).toMatchObject({ kind: "answer" });
    expect(server.connections()).toBe(2);
  });

  it("opens a new connection when an idle one turns out closed on the way to the first byte", async () => {
    const sockets: Socket[] = [];
    const server = await tcpServer(
      (socket) => socket.write(EMPTY),
      (socket) => sockets.push(socket),
    );
    const egress = room();
    const r = post(at(server.port), { fresh: false });
    await egress.request(r);
    // From a timer: the hang-up is read after the connection was chosen and before it is written to.
    await new Promise((resolve) => setTimeout(resolve, 5));
    sockets[0]?.destroy();
    let asked = 0;
    const beforeFirstByte = (): boolean => {
      asked += 1;
      return true;
    };
    expect(await egress.request({ ...r, beforeFirstByte })).toMatchObject({ kind: "answer" });
    expect([server.connections(), asked]).toEqual([2, 1]);
  });

  it("says unknown, and does not resend, when a reused connection dies under the request", async () => {
    let answered = 0;
    const server = await tcpServer((socket) => {
      answered += 1;
      if (answered === 1) socket.write(EMPTY);
      else socket.resetAndDestroy();
    });
    const egress = room();
    await egress.request(post(at(server.port), { fresh: false }));
    expect(await egress.request(post(at(server.port), { fresh: false }))).toEqual({
      kind: "unknown",
      cause: "connection_reset",
    });
    expect([server.connections(), answered]).toEqual([1, 2]);
  });

  it("never takes an answer that was pushed unasked for the next one's", async () => {
    const server = await tcpServer((socket) => {
      socket.write(EMPTY, () =>
        setTimeout(() => socket.write("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"), 10),
      );
    });
    const egress = room();
    await egress.request(post(at(server.port), { fresh: false }));
    await new Promise((resolve) => setTimeout(resolve, 60));
    const second = await egress.request(post(at(server.port), { fresh: false }));
    expect(second).toMatchObject({ kind: "answer", body: Buffer.alloc(0) });
    expect(server.connections()).toBe(2);
  });

  it("keeps no connection after an answer that was cut short, too large or said close", async () => {
    const server = await tcpServer((socket) =>
      socket.write("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}"),
    );
    const egress = room();
    for (const maxBodyBytes of [1, 2, 2])
      await egress.request(post(at(server.port), { fresh: false, maxBodyBytes }));
    expect(server.connections()).toBe(3);
  });

  it("runs 64 requests of one kind at once, the rest in turn, and lets a fresh one past", async () => {
    const waiting: (() => void)[] = [];
    let running = 0;
    let most = 0;
    const port = await httpServer((request, response) => {
      if (request.url === "/fresh") {
        response.end();
        return;
      }
      running += 1;
      most = Math.max(most, running);
      waiting.push(() => {
        running -= 1;
        response.end();
      });
    });
    const egress = room();
    const all = Array.from({ length: 70 }, () => egress.request(post(at(port), { fresh: false })));
    while (waiting.length < 64) await new Promise((resolve) => setTimeout(resolve, 5));
    const late = await egress.request(post(at(port), { fresh: false, timeoutMs: 30 }));
    expect(late).toEqual({ kind: "not_sent", cause: "timeout" });
    expect(await egress.request(post(at(port, "/fresh")))).toMatchObject({ kind: "answer" });
    const again = async (): Promise<void> => {
      const more = Array.from({ length: 64 }, () => egress.request(post(at(port), { fresh: false })));
      while (waiting.length < 64) await new Promise((resolve) => setTimeout(resolve, 5));
      for (const answer of waiting.splice(0)) answer();
      await Promise.all(more);
    };
    const pump = setInterval(() => {
      for (const answer of waiting.splice(0)) answer();
    }, 5);
    const kinds = (await Promise.all(all)).map((result) => result.kind);
    clearInterval(pump);
    expect(kinds).toEqual(Array.from({ length: 70 }, () => "answer"));
    await again(); // no place was lost to the one that gave up waiting
    expect(most).toBe(64);
  });

  it.each(["", "keep-alive: timeout=600\r\n"])(
    "closes a connection that was idle for 30 s, offered %j",
    async (offer) => {
      let closed = false;
      const server = await tcpServer(
        (socket) => socket.write(`HTTP/1.1 200 OK\r\n${offer}content-length: 0\r\n\r\n`),
        (socket) => socket.on("close", () => (closed = true)),
      );
      const egress = room();
      vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
      onTestFinished(() => {
        vi.useRealTimers();
      });
      await egress.request(post(at(server.port), { fresh: false }));
      await passing(30);
      vi.advanceTimersByTime(29_999);
      await passing(30);
      expect(closed).toBe(false);
      vi.advanceTimersByTime(1);
      await passing(30);
      expect(closed).toBe(true);
    },
  );

  it("closes with what is running ended and every connection gone", async () => {
    const server = await tcpServer(() => {});
    const egress = room();
    const running = egress.request(post(at(server.port), { fresh: false }));
    while (server.seen() === "") await new Promise((resolve) => setTimeout(resolve, 5));
    await egress.close();
    expect(await running).toEqual({ kind: "unknown", cause: "aborted" });
    await server.emptied();
  });
});
