import { checkSocketPath, defaultRuntimeDir, socketPath } from "./config/paths.ts";
import type { Config } from "./config/schema.ts";
import { KeyturnError } from "./errors.ts";
import type { Address } from "./rpc/listener.ts";
import type { ServersDeps } from "./rpc/servers.ts";

/** Where a sidecar of this configuration listens. INVALID_REQUEST for a path or a port that it may not listen at. */
export function addressesOf(
  config: Config,
  env: NodeJS.ProcessEnv,
  stateDir: string,
): ServersDeps["addresses"] {
  const runtimeDir = defaultRuntimeDir(env, stateDir);
  const { data, admin, http } = config.listeners;
  const tls = admin.tls;
  const withRules = config.callers.file !== undefined;
  return {
    data: addressOf("data", data, undefined),
    admin: addressOf(
      "admin",
      admin,
      tls === undefined
        ? undefined
        : { certificateFile: tls.certificate_file, keyFile: tls.key_file, clientCaFile: tls.client_ca_file },
    ),
    http: http === undefined ? undefined : tcpOf("http", http.tcp, undefined),
  };

  function addressOf(
    name: "data" | "admin",
    from: Config["listeners"]["data"],
    mutual: Extract<Address, { kind: "tcp" }>["tls"],
  ): Address {
    const field = `listeners.${name}`;
    if (from.tcp === undefined) {
      const path = checkSocketPath(from.socket ?? socketPath(runtimeDir, name), `${field}.socket`);
      return { kind: "socket", path, mode: name === "data" ? 0o660 : 0o600 };
    }
    return tcpOf(name, from.tcp, mutual);
  }

  function tcpOf(
    name: "data" | "admin" | "http",
    tcp: NonNullable<Config["listeners"]["data"]["tcp"]>,
    mutual: Extract<Address, { kind: "tcp" }>["tls"],
  ): Extract<Address, { kind: "tcp" }> {
    const field = `listeners.${name}`;
    if (!withRules && mutual === undefined && !tcp.allow_unauthenticated) {
      throw new KeyturnError(
        "INVALID_REQUEST",
        `${field}.tcp: a TCP port without caller tokens needs allow_unauthenticated: true`,
        {
          violations: [
            { field: `${field}.tcp.allow_unauthenticated`, description: "true, or set callers.file" },
          ],
        },
      );
    }
    return { kind: "tcp", host: tcp.host, port: tcp.port, tls: mutual };
  }
}
