import { readFileSync } from "node:fs";
import { createServer as createHttp, type RequestListener } from "node:http";
import { createServer as createHttps } from "node:https";
import { type AddressInfo, connect, createServer as createTcp, type Socket } from "node:net";
import { onTestFinished } from "vitest";
import { systemClock } from "../../src/clock.ts";
import type { Dial } from "../../src/egress/dial.ts";
import { createEgress, type Egress, type EgressDeps, type OutboundRequest } from "../../src/egress/egress.ts";

export function fixture(name: string): string {
  return readFileSync(new URL(`./fixtures/${name}`, import.meta.url), "utf8");
}

/** The authority that signed the certificate for localhost, example.test, *.example.test and 127.0.0.1. */
export const CA = fixture("ca.pem");

type Listening = {
  listen(port: number, host: string, then: () => void): unknown;
  address(): AddressInfo | string | null;
};

export function listening(server: Listening): Promise<number> {
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      resolve(typeof address === "object" && address !== null ? address.port : 0);
    });
  });
}

/** A plain HTTP server on loopback; its port. */
export async function httpServer(listener: RequestListener): Promise<number> {
  const server = createHttp(listener);
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return listening(server);
}

/** An HTTPS server on loopback with the fixture certificate; its port. */
export async function httpsServer(listener: RequestListener): Promise<number> {
  const server = createHttps({ key: fixture("server.key"), cert: fixture("server.pem") }, listener);
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return listening(server);
}

/** A TCP server on loopback; its port, and every byte it has been sent. */
export async function tcpServer(
  onData: (socket: Socket, received: string) => void,
  onConnect: (socket: Socket) => void = () => {},
): Promise<{
  readonly port: number;
  readonly seen: () => string;
  readonly connections: () => number;
  readonly emptied: () => Promise<void>;
}> {
  const open = new Set<Socket>();
  let seen = "";
  let connections = 0;
  const server = createTcp((socket) => {
    connections += 1;
    open.add(socket);
    let received = "";
    socket.on("error", () => {});
    socket.on("close", () => open.delete(socket));
    socket.on("data", (chunk) => {
      seen += chunk.toString("latin1");
      received += chunk.toString("latin1");
      onData(socket, received);
    });
    onConnect(socket);
  });
  onTestFinished(() => {
    for (const socket of open) socket.destroy();
    server.close();
  });
  async function emptied(): Promise<void> {
    while (connections === 0 || open.size > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return { port: await listening(server), seen: () => seen, connections: () => connections, emptied };
}

/** A dialler that notes what it is asked and connects to `port` on loopback, whatever the address. */
export function recordingDial(port: number): { readonly dial: Dial; readonly dialled: string[] } {
  const dialled: string[] = [];
  const dial: Dial = (address, asked) => {
    dialled.push(`${address}:${asked}`);
    return new Promise((resolve, reject) => {
      const socket = connect({ host: "127.0.0.1", port });
      socket.once("connect", () => resolve(socket));
      socket.once("error", reject);
    });
  };
  return { dial, dialled };
}

/** A room that trusts the test authority, closed when the test ends. */
export function room(deps: Partial<EgressDeps> = {}): Egress {
  const egress = createEgress({ clock: systemClock(), ca: [CA], ...deps });
  onTestFinished(() => egress.close());
  return egress;
}

/** A POST to `url` with loopback permitted, on a fresh connection. */
export function post(url: string, changes: Partial<OutboundRequest> = {}): OutboundRequest {
  return {
    method: "POST",
    url,
    headers: [["content-type", "application/x-www-form-urlencoded"]],
    body: Buffer.from("grant_type=refresh_token"),
    allowedHosts: ["127.0.0.1", "localhost"],
    allowLoopback: true,
    fresh: true,
    timeoutMs: 5_000,
    maxBodyBytes: 64 * 1024,
    ...changes,
  };
}

/** The loopback URL of `port`. */
export function at(port: number, path = "/token"): string {
  return `http://127.0.0.1:${port}${path}`;
}

/** A dialler that hands its socket over only after the server has done `event` to it. */
export function lateDial(port: number, event: "close" | "readable"): Dial {
  return () =>
    new Promise((resolve) => {
      const socket = connect({ host: "127.0.0.1", port });
      socket.on("error", () => {});
      socket.once(event, () => resolve(socket));
    });
}
