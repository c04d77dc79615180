import { isIP, type Socket } from "node:net";
import type { Destination } from "./hosts.ts";

/** A proxy that everything outside is reached through (RFC 9110 §9.3.6). It resolves the names, not we. */
export interface ConnectProxy {
  readonly secure: boolean;
  readonly host: string;
  readonly port: number;
  /** The value of `Proxy-Authorization`; undefined: none. May hold a secret. */
  readonly authorization: string | undefined;
  /** Hosts that are reached directly: exact, or `.example.com` for everything below. */
  readonly except: readonly string[];
}

const MAX_HEAD_BYTES = 16 * 1024;

/** What a proxy says instead of opening the way, as the cause of `not_sent`. */
export class ProxyRefusal extends Error {
  readonly code: string;

  constructor(status: number | undefined) {
    super("refused by the proxy");
    this.code =
      status === 407
        ? "proxy_auth_required"
        : status === undefined
          ? "proxy_broken"
          : `proxy_status_${status}`;
  }
}

/** True when `to` is reached through the proxy. This machine itself never is. */
export function isProxied(proxy: ConnectProxy | undefined, to: Destination): proxy is ConnectProxy {
  if (proxy === undefined || !to.secure) return false;
  if (
    to.host === "localhost" ||
    to.host.endsWith(".localhost") ||
    to.host.startsWith("127.") ||
    to.host === "::1"
  )
    return false;
  return !proxy.except.some((host) => (host.startsWith(".") ? to.host.endsWith(host) : to.host === host));
}

/** Asks for the way to `to` on an open connection to the proxy. Rejects with ProxyRefusal when it is not given. */
export function openTunnel(
  socket: Socket,
  proxy: ConnectProxy,
  to: Destination,
  signal: AbortSignal,
): Promise<Socket> {
  const authority = `${isIP(to.host) === 6 ? `[${to.host}]` : to.host}:${to.port}`;
  const head = [
    `CONNECT ${authority} HTTP/1.1`,
    `Host: ${authority}`,
    ...(proxy.authorization === undefined ? [] : [`Proxy-Authorization: ${proxy.authorization}`]),
  ];
  return new Promise((resolve, reject) => {
    let received = Buffer.alloc(0);
    const end = (then: () => void): void => {
      socket.off("data", data);
      socket.off("error", fail);
      socket.off("close", fail);
      signal.removeEventListener("abort", fail);
      then();
    };
    const fail = (): void =>
      end(() => {
        socket.destroy();
        reject(new ProxyRefusal(undefined));
      });
    const data = (chunk: Buffer): void => {
      received = Buffer.concat([received, chunk]);
      const at = received.indexOf("\r\n\r\n");
      if (at === -1 && received.length <= MAX_HEAD_BYTES) return;
      const status = /^HTTP\/1\.[01] ([0-9]{3})(?: |\r)/.exec(received.toString("latin1", 0, 64))?.[1];
      // Nobody behind the proxy speaks first in TLS: more than the head is not the way that was asked for.
      const isOpen = status?.startsWith("2") === true && at !== -1 && at + 4 === received.length;
      end(() => {
        socket.pause();
        if (isOpen) return resolve(socket);
        socket.destroy();
        reject(new ProxyRefusal(status === undefined || status.startsWith("2") ? undefined : Number(status)));
      });
    };
    socket.on("data", data);
    socket.once("error", fail);
    socket.once("close", fail);
    signal.addEventListener("abort", fail, { once: true });
    if (signal.aborted) return fail();
    socket.write(`${head.join("\r\n")}\r\n\r\n`);
  });
}
