import { accessSync, constants, existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { invalid } from "../errors.ts";

/** The longest path a Unix socket's address holds. */
const MAX_SOCKET_BYTES = 107;
const RUN = "/run/keyturn";

type Env = Readonly<Record<string, string | undefined>>;

/** Database, journal, keyring and audit trail when the configuration names no other place. */
export function defaultStateDir(env: Env): string {
  return join(env.XDG_STATE_HOME ?? join(homedir(), ".local", "state"), "keyturn");
}

/** Where the sockets' folders are: `/run/keyturn` if writable, else `$XDG_RUNTIME_DIR/keyturn`, else the state directory. */
export function defaultRuntimeDir(env: Env, stateDir: string): string {
  if (isWritable(RUN)) return RUN;
  return env.XDG_RUNTIME_DIR === undefined ? stateDir : join(env.XDG_RUNTIME_DIR, "keyturn");
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** Two folders, so that one listener's socket can be mounted into a pod without the other's. */
export function socketPath(runtimeDir: string, listener: "data" | "admin"): string {
  return join(runtimeDir, listener, "keyturn.sock");
}

/**
 * Where a client looks for a sidecar that was not told where to listen. One in `/run/keyturn` is found by users, too,
 * who may not write there.
 */
export function defaultSocket(env: Env, stateDir: string | undefined, listener: "data" | "admin"): string {
  const usual = socketPath(RUN, listener);
  if (existsSync(usual)) return usual;
  return socketPath(defaultRuntimeDir(env, stateDir ?? defaultStateDir(env)), listener);
}

/** INVALID_REQUEST when the kernel could not bind to it. */
export function checkSocketPath(path: string, field: string): string {
  if (Buffer.byteLength(path) <= MAX_SOCKET_BYTES) return path;
  throw invalid(
    field,
    `a socket path of at most ${MAX_SOCKET_BYTES} bytes; this one has ${Buffer.byteLength(path)}`,
  );
}
