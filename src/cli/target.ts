import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { invalid, whyUnread } from "../errors.ts";
import type { Io, Listens, Rooms } from "./io.ts";
import type { Options } from "./options.ts";

/** Where a sidecar listens. */
export interface Target {
  /** As grpc-js wants it: `unix:/path`, or `host:port`. */
  readonly address: string;
  /** As people read it. */
  readonly shown: string;
  readonly listener: "data" | "admin";
  /** Undefined: in the clear, which only this machine's own addresses are asked in. */
  readonly tls:
    | { readonly ca: Buffer; readonly key: Buffer | null; readonly cert: Buffer | null }
    | undefined;
}

/** The longest path a Unix socket's address holds. */
const MAX_SOCKET_BYTES = 107;
const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/i;

/** INVALID_REQUEST when the options contradict each other or would send secrets over a network in the clear. */
export function targetOf(
  options: Options,
  listener: "data" | "admin",
  env: Io["env"],
  listeners: Rooms["listeners"],
): Target {
  if (options.has("socket") && options.has("address"))
    throw invalid("--address", "either --socket or --address, not both");
  const named = namedListener(options) ?? listeners(configOf(options, env), env)[listener];
  if ("socket" in named) {
    const path = resolve(named.socket);
    if (Buffer.byteLength(path) > MAX_SOCKET_BYTES) {
      throw invalid(
        "--socket",
        `a path of at most ${MAX_SOCKET_BYTES} bytes; this one has ${Buffer.byteLength(path)}`,
      );
    }
    return { address: `unix:${path}`, shown: path, listener, tls: undefined };
  }
  const { address } = named;
  const [, host, port] = /^(\[[0-9a-f:.]+\]|[a-z0-9.-]+):(\d{1,5})$/i.exec(address) ?? [];
  if (host === undefined || Number(port) < 1 || Number(port) > 65_535) {
    throw invalid("--address", "host:port, for example 127.0.0.1:7471");
  }
  const tls = options.has("tls-ca-file") ? tlsOf(options) : undefined;
  if (tls === undefined && !LOOPBACK.test(host)) {
    throw invalid("--tls-ca-file", `is needed for ${host}: secrets are not sent over a network in the clear`);
  }
  return { address, shown: address, listener, tls };
}

function namedListener(options: Options): Listens | undefined {
  if (options.has("address")) return { address: options.required("address") };
  return options.has("socket") ? { socket: options.required("socket") } : undefined;
}

/** The configuration file that is named; undefined when none is. */
export function configOf(options: Options, env: Io["env"]): string | undefined {
  return options.text("config") || env.KEYTURN_CONFIG || undefined;
}

function tlsOf(options: Options): NonNullable<Target["tls"]> {
  if (options.has("tls-key-file") !== options.has("tls-cert-file")) {
    throw invalid("--tls-cert-file", "--tls-cert-file and --tls-key-file go together");
  }
  const read = (name: string) => {
    try {
      return readFileSync(options.required(name));
    } catch (error) {
      throw invalid(`--${name}`, whyUnread(error));
    }
  };
  const own = options.has("tls-key-file");
  return {
    ca: read("tls-ca-file"),
    key: own ? read("tls-key-file") : null,
    cert: own ? read("tls-cert-file") : null,
  };
}
