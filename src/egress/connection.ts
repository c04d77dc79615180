import { isIP, type Socket } from "node:net";
import { createSecureContext, getCACertificates, type SecureContext, connect as tlsConnect } from "node:tls";
import { isReason } from "../errors.ts";
import { addressAllowed, type Permits } from "./addresses.ts";
import { connectCause } from "./causes.ts";
import { type Dial, dialFirst } from "./dial.ts";
import { type Destination, notAllowed } from "./hosts.ts";
import type { Resolve } from "./resolve.ts";

/** What opening a connection needs of the world. */
export interface ConnectionDeps {
  readonly resolve: Resolve;
  readonly dial: Dial;
  readonly trust: () => SecureContext;
}

/** An open connection, TLS done and nothing of the request written; or why there is none. */
export type Opened =
  | { readonly kind: "open"; readonly socket: Socket }
  | { readonly kind: "failed"; readonly cause: string };

/** The machine's certificate authorities (NODE_EXTRA_CA_CERTS included) and `ca`, in PEM; built on first use. */
export function trustStore(ca: readonly string[]): () => SecureContext {
  let context: SecureContext | undefined;
  return () => {
    if (context !== undefined) return context;
    // Naming authorities replaces the default ones, and costs 14 ms of parsing; so only when there are any.
    const named = ca.length === 0 ? {} : { ca: [...getCACertificates("default"), ...ca] };
    context = createSecureContext({ ...named, minVersion: "TLSv1.2" });
    return context;
  };
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

/**
 * Resolves, checks every address, dials one of just those and starts TLS, all within `timeoutMs`. Throws
 * DESTINATION_NOT_ALLOWED when any address is not permitted. When `signal` aborts, its reason is the cause.
 */
export async function openConnection(
  deps: ConnectionDeps,
  to: Destination,
  permits: Permits,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<Opened> {
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(), timeoutMs);
  const either = AbortSignal.any([signal, limit.signal]);
  let stage: "resolve" | "connect" | "tls" = "resolve";
  try {
    const addresses = isIP(to.host) === 0 ? await unlessAborted(deps.resolve(to.host), either) : [to.host];
    if (addresses.length === 0) return { kind: "failed", cause: "dns_not_found" };
    // One bad address spoils the name: which of them is dialled is up to the network, not to us.
    if (!addresses.every((address) => addressAllowed(address, to.secure, permits))) {
      throw notAllowed("address_not_allowed", "it resolves to an address that is not permitted", to.host);
    }
    stage = "connect";
    const tcp = await dialFirst(deps.dial, addresses, to.port, either);
    stage = "tls";
    const socket = to.secure ? await startTls(tcp, to.host, deps.trust(), either) : tcp;
    if (either.aborted) {
      socket.destroy();
      throw new Error("aborted");
    }
    return { kind: "open", socket };
  } catch (error) {
    if (isReason(error, "DESTINATION_NOT_ALLOWED")) throw error;
    if (signal.aborted) return { kind: "failed", cause: String(signal.reason) };
    return { kind: "failed", cause: limit.signal.aborted ? "connect_timeout" : connectCause(stage, error) };
  } finally {
    clearTimeout(timer);
  }
}
