import { createServer } from "node:http";
import { connect } from "node:net";
import { describe, expect, it, onTestFinished } from "vitest";
import type { ConnectProxy } from "../../src/egress/connect-proxy.ts";
import { at, httpServer, httpsServer, listening, post, recordingDial, room, tcpServer } from "./servers.ts";

const HOST = "login.example.test";
const AUTHORIZATION = `Basic ${Buffer.from("keyturn:pr0xy-secret").toString("base64")}`;

/** A real CONNECT proxy; it reaches every name at `port` on this machine. */
async function proxyTo(port: number) {
  const asked: (string | undefined)[] = [];
  const server = createServer((_request, response) => response.writeHead(400).end());
  server.on("connect", (request, socket) => {
    asked.push(request.url);
    socket.on("error", () => {});
    if (request.headers["proxy-authorization"] !== AUTHORIZATION) {
      socket.end("HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n");
      return;
    }
    const upstream = connect(port, "127.0.0.1", () => {
      socket.write("HTTP/1.1 200 Connection Established\r\n\r\n");
      upstream.pipe(socket).pipe(upstream);
    });
    upstream.on("error", () => socket.destroy());
  });
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { asked, port: await listening(server) };
}

const proxyAt = (port: number, more: Partial<ConnectProxy> = {}): ConnectProxy => ({
  secure: false,
  host: "127.0.0.1",
  port,
  authorization: AUTHORIZATION,
  except: [],
  ...more,
});
const request = (fresh = true) =>
  post(`https://${HOST}/token`, { allowedHosts: [HOST], allowLoopback: false, fresh });
const noNames = async (): Promise<string[]> => {
  throw new Error("nobody here may resolve names");
};

async function vendor() {
  const headers: string[][] = [];
  const port = await httpsServer((incoming, response) => {
    headers.push(incoming.rawHeaders);
    response.end("{}");
  });
  return { port, headers };
}

describe("a proxy", () => {
  it("is asked for the way with its credentials; the provider sees none of them, and TLS ends at the provider", async () => {
    const { port, headers } = await vendor();
    const proxy = await proxyTo(port);
    const egress = room({ proxy: proxyAt(proxy.port), resolve: noNames });
    expect(await egress.request(request())).toMatchObject({ kind: "answer", status: 200 });
    expect(proxy.asked).toEqual([`${HOST}:443`]);
    expect(JSON.stringify(headers)).not.toMatch(/proxy/i);
  });

  it("keeps the way it was given for the next request", async () => {
    const { port } = await vendor();
    const proxy = await proxyTo(port);
    const egress = room({ proxy: proxyAt(proxy.port), resolve: noNames });
    for (let n = 0; n < 3; n += 1)
      expect(await egress.request(request(false))).toMatchObject({ status: 200 });
    expect(proxy.asked).toHaveLength(1);
  });

  it("that wants other credentials, or breaks, leaves the request unsent with its cause", async () => {
    const { port, headers } = await vendor();
    const proxy = await proxyTo(port);
    const other = room({ proxy: proxyAt(proxy.port, { authorization: "Basic eDp5" }), resolve: noNames });
    expect(await other.request(request())).toEqual({ kind: "not_sent", cause: "proxy_auth_required" });
    const causes = [
      ["HTTP/1.1 502 Bad Gateway\r\n\r\n", "proxy_status_502"],
      ["HTTP/1.1 200 OK\r\n\r\nhello", "proxy_broken"],
      ["nonsense\r\n\r\n", "proxy_broken"],
      ["", "proxy_broken"],
    ] as const;
    for (const [says, cause] of causes) {
      const broken = await tcpServer((socket) => socket.end(says));
      const egress = room({ proxy: proxyAt(broken.port), resolve: noNames });
      expect(await egress.request(request())).toEqual({ kind: "not_sent", cause });
    }
    expect(headers).toEqual([]);
  });

  it("is not trusted: a certificate for another name ends it as it does without one", async () => {
    const { port, headers } = await vendor();
    const proxy = await proxyTo(port);
    const egress = room({ proxy: proxyAt(proxy.port), resolve: noNames });
    const url = "https://login.other.test/token";
    const to = post(url, { allowedHosts: ["login.other.test"], allowLoopback: false });
    expect(await egress.request(to)).toEqual({ kind: "not_sent", cause: "tls_certificate_invalid" });
    expect(headers).toEqual([]);
  });

  it("is not asked for this machine, nor for the hosts that are excepted", async () => {
    const proxy = await tcpServer((socket) => socket.destroy());
    const local = await httpServer((_incoming, response) => response.end("{}"));
    const { port } = await vendor();
    const { dial, dialled } = recordingDial(port);
    const direct = room({ proxy: proxyAt(proxy.port) });
    expect(await direct.request(post(at(local)))).toMatchObject({ status: 200 });
    for (const except of [[HOST], [".example.test"]]) {
      const egress = room({ proxy: proxyAt(1, { except }), dial, resolve: async () => ["93.184.216.34"] });
      expect(await egress.request(request())).toMatchObject({ status: 200 });
    }
    expect(dialled).toEqual(["93.184.216.34:443", "93.184.216.34:443"]);
    expect(proxy.connections()).toBe(0);
  });

  it("may itself be reached over TLS, with its certificate verified", async () => {
    const { port } = await vendor();
    const plain = await proxyTo(port);
    const { createServer: createTls } = await import("node:tls");
    const { fixture } = await import("./servers.ts");
    const front = createTls({ key: fixture("server.key"), cert: fixture("server.pem") }, (socket) => {
      const behind = connect(plain.port, "127.0.0.1");
      socket.pipe(behind).pipe(socket);
      socket.on("error", () => behind.destroy());
      behind.on("error", () => socket.destroy());
    });
    onTestFinished(() => void front.close());
    const proxyPort = await listening(front);
    const over = (host: string, ca?: readonly string[]) =>
      room({
        proxy: proxyAt(proxyPort, { secure: true, host }),
        resolve: async () => ["127.0.0.1"],
        ...(ca === undefined ? {} : { ca }),
      }).request(request());
    expect(await over("localhost")).toMatchObject({ status: 200 });
    expect(await over("proxy.other.test")).toMatchObject({ kind: "not_sent" });
    expect(await over("localhost", [])).toMatchObject({ kind: "not_sent" });
  });
});
