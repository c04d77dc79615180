import { chmodSync, existsSync, lstatSync, mkdirSync, readFileSync, unlinkSync } from "node:fs";
import { connect } from "node:net";
import { dirname } from "node:path";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import { KeyturnError } from "../errors.ts";

/** Where a listener listens: one Unix socket, or one TCP port. */
export type Address =
  | { readonly kind: "socket"; readonly path: string; readonly mode: 0o660 | 0o600 }
  | {
      readonly kind: "tcp";
      readonly host: string;
      /** 0 takes a free one. */
      readonly port: number;
      readonly tls:
        | { readonly certificateFile: string; readonly keyFile: string; readonly clientCaFile: string }
        | undefined;
    };

export interface ServerLimits {
  readonly maxRequestBytes: number;
  readonly maxConcurrentStreams: number;
}

/** A server with its limits set; nothing is bound yet. */
export function createServer({ maxRequestBytes, maxConcurrentStreams }: ServerLimits): Server {
  return new Server({
    // What is somewhat too large is told so in our words (call.ts); what is far too large is not even read.
    "grpc.max_receive_message_length": 2 * maxRequestBytes,
    "grpc.max_send_message_length": -1,
    "grpc.max_concurrent_streams": maxConcurrentStreams,
    "grpc.keepalive_time_ms": 60_000,
    "grpc.keepalive_timeout_ms": 20_000,
    // Statistics that no service of ours shows; they cost a tenth of a warm GetToken.
    "grpc.enable_channelz": 0,
  });
}

/** Binds and returns the port, 0 for a socket. INVALID_REQUEST names the address that cannot be had. */
export async function bind(server: Server, address: Address, field: string): Promise<number> {
  if (address.kind === "tcp") {
    return listen(server, `${address.host}:${address.port}`, credentialsOf(address.tls), field);
  }
  mkdirSync(dirname(address.path), { recursive: true, mode: 0o750 });
  await removeStale(address.path, field);
  // Nobody may connect in the moment between bind and chmod.
  const before = process.umask(0o777 & ~address.mode);
  try {
    await listen(server, `unix:${address.path}`, ServerCredentials.createInsecure(), field);
  } finally {
    process.umask(before);
  }
  chmodSync(address.path, address.mode);
  return 0;
}

/** Removes the socket of a process that has died; one that still answers is somebody's. */
async function removeStale(path: string, field: string): Promise<void> {
  if (!existsSync(path)) return;
  if (!lstatSync(path).isSocket()) throw taken(field, `${path} exists and is not a socket`);
  if (await answers(path)) throw taken(field, `another process listens on ${path}`);
  unlinkSync(path);
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

function listen(
  server: Server,
  target: string,
  credentials: ServerCredentials,
  field: string,
): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync(target, credentials, (error, port) => {
      if (error === null) resolve(port);
      else reject(taken(field, `cannot listen on ${target}: ${error.message}`));
    });
  });
}

function taken(field: string, description: string): KeyturnError {
  return new KeyturnError("INVALID_REQUEST", `${field}: ${description}`, {
    violations: [{ field, description }],
  });
}

/** Over TLS a listener asks for a client certificate, and takes none that its CA has not signed. */
function credentialsOf(tls: Extract<Address, { kind: "tcp" }>["tls"]): ServerCredentials {
  if (tls === undefined) return ServerCredentials.createInsecure();
  const pair = { cert_chain: readFileSync(tls.certificateFile), private_key: readFileSync(tls.keyFile) };
  return ServerCredentials.createSsl(readFileSync(tls.clientCaFile), [pair], true);
}

/** No new calls; those running have `limitMs`, then they are cut. */
export async function closeServer(server: Server, limitMs: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, limitMs);
  });
  await Promise.race([closed, limit]);
  clearTimeout(timer);
  server.forceShutdown();
}
