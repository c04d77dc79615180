import { createHash } from "node:crypto";
import { isIP, type Socket } from "node:net";
import { createSecureContext, getCACertificates, type SecureContext, connect as tlsConnect } from "node:tls";
import { isReason } from "../errors.ts";
import { addressAllowed, type Permits } from "./addresses.ts";
import { connectCause } from "./causes.ts";
import { type ConnectProxy, isProxied, openTunnel, ProxyRefusal } from "./connect-proxy.ts";
import { type Dial, dialFirst } from "./dial.ts";
import { type Destination, notAllowed } from "./hosts.ts";
import type { Resolve } from "./resolve.ts";

/** What opening a connection needs of the world. */
export interface ConnectionDeps {
  readonly resolve: Resolve;
  readonly dial: Dial;
  readonly trust: Trust;
  /** Undefined: everything is reached directly. */
  readonly proxy: ConnectProxy | undefined;
}

/** A certificate with its key that our side of a TLS connection shows when asked, in PEM. */
export interface ClientCertificate {
  /** The client's own first. */
  readonly chain: string;
  readonly key: string;
}

/** Whom a connection trusts, and what it shows. The first never depends on the second. */
export type Trust = (certificate?: ClientCertificate) => SecureContext;

const MAX_CERTIFICATES = 64;

/** An open connection, TLS done and nothing of the request written; or why there is none. */
export type Opened =
  | { readonly kind: "open"; readonly socket: Socket }
  | { readonly kind: "failed"; readonly cause: string };

/**
 * The machine's certificate authorities (NODE_EXTRA_CA_CERTS included) and `ca`, in PEM; built on first use, and for the
 * client certificates used last.
 */
export function trustStore(ca: readonly string[]): Trust {
  const contexts = new Map<string, SecureContext>();
  return (certificate) => {
    const name = certificate === undefined ? "" : certificateName(certificate);
    const known = contexts.get(name);
    // Naming authorities replaces the default ones, and costs 14 ms of parsing; so only when there are any.
    const named = ca.length === 0 ? {} : { ca: [...getCACertificates("default"), ...ca] };
    const shown = certificate === undefined ? {} : { cert: certificate.chain, key: certificate.key };
    const context = known ?? createSecureContext({ ...named, ...shown, minVersion: "TLSv1.2" });
    contexts.delete(name);
    contexts.set(name, context);
    const [oldest] = contexts.keys();
    if (contexts.size > MAX_CERTIFICATES && oldest !== undefined) contexts.delete(oldest);
    return context;
  };
}

/** Tells connections that show different certificates apart, without showing any of their keys. */
export function certificateName({ chain, key }: ClientCertificate): string {
  return createHash("sha256").update(chain).update("\0").update(key).digest("base64url");
}

function startTls(tcp: Socket, host: string, context: SecureContext, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = tlsConnect({
      socket: tcp,
      secureContext: context,
      rejectUnauthorized: true, // said aloud, or NODE_TLS_REJECT_UNAUTHORIZED=0 would win
      ALPNProtocols: ["http/1.1"],
      // RFC 6066 §3: no IP address in SNI; the certificate is then checked against `host`.
      ...(isIP(host) === 0 ? { servername: host } : { host }),
    });
    const abort = (): void => {
      socket.destroy(new Error("aborted"));
    };
    signal.addEventListener("abort", abort, { once: true });
    socket.on("error", reject);
    socket.once("close", () => {
      signal.removeEventListener("abort", abort);
      reject(new Error("closed"));
    });
    socket.once("secureConnect", () => {
      signal.removeEventListener("abort", abort);
      resolve(socket);
    });
  });
}

function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => {
      reject(new Error("aborted"));
    };
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    work.then(resolve, reject).finally(() => {
      signal.removeEventListener("abort", abort);
    });
  });
}

/** The proxy's certificate is verified as any other's; the client's own is not shown to it. */
async function throughProxy(
  deps: ConnectionDeps,
  proxy: ConnectProxy,
  tcp: Socket,
  to: Destination,
  signal: AbortSignal,
): Promise<Socket> {
  const socket = proxy.secure ? await startTls(tcp, proxy.host, deps.trust(), signal) : tcp;
  return openTunnel(socket, proxy, to, signal);
}

/**
 * Resolves, checks every address, dials one of just those and starts TLS, all within `timeoutMs`. Throws
 * DESTINATION_NOT_ALLOWED when any address is not permitted; of what is reached through the proxy only the proxy knows. When `signal` aborts, its reason is the cause.
 */
export async function openConnection(
  deps: ConnectionDeps,
  to: Destination,
  permits: Permits & { readonly clientCertificate?: ClientCertificate },
  timeoutMs: number,
  signal: AbortSignal,
): Promise<Opened> {
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(), timeoutMs);
  const either = AbortSignal.any([signal, limit.signal]);
  let stage: "resolve" | "connect" | "tls" = "resolve";
  try {
    const proxied = isProxied(deps.proxy, to);
    const via = proxied ? deps.proxy : to;
    const addresses = isIP(via.host) === 0 ? await unlessAborted(deps.resolve(via.host), either) : [via.host];
    if (addresses.length === 0) return { kind: "failed", cause: "dns_not_found" };
    // One bad address spoils the name: which of them is dialled is up to the network, not to us.
    const reached = proxied ? [to.host].filter((host) => isIP(host) !== 0) : addresses;
    if (!reached.every((address) => addressAllowed(address, to.secure, permits))) {
      throw notAllowed("address_not_allowed", "it resolves to an address that is not permitted", to.host);
    }
    stage = "connect";
    const tcp = await dialFirst(deps.dial, addresses, via.port, either);
    const way = proxied ? await throughProxy(deps, deps.proxy, tcp, to, either) : tcp;
    stage = "tls";
    const context = () => deps.trust(permits.clientCertificate);
    const socket = to.secure ? await startTls(way, to.host, context(), either) : way;
    if (either.aborted) {
      socket.destroy();
      throw new Error("aborted");
    }
    return { kind: "open", socket };
  } catch (error) {
    if (isReason(error, "DESTINATION_NOT_ALLOWED")) throw error;
    if (error instanceof ProxyRefusal && !either.aborted) return { kind: "failed", cause: error.code };
    if (signal.aborted) return { kind: "failed", cause: String(signal.reason) };
    return { kind: "failed", cause: limit.signal.aborted ? "connect_timeout" : connectCause(stage, error) };
  } finally {
    clearTimeout(timer);
  }
}
