import type { Option } from "./command.ts";

/** Understood by every command. */
export const GLOBAL_OPTIONS: Readonly<Record<string, Option>> = {
  json: { help: "one JSON object a line (proto JSON)" },
  help: { help: "this text" },
  version: { help: "the version of keyturn" },
  config: {
    value: "PATH",
    help: "the sidecar's configuration, for where it listens (default: $KEYTURN_CONFIG)",
  },
  socket: {
    value: "PATH",
    help: "its Unix socket instead (without both: the one that `serve` opens by default)",
  },
  address: { value: "HOST:PORT", help: "its TCP listener instead of a socket" },
  timeout: { value: "DURATION", help: "give up after it (default 70s); streams go on until they end" },
  "caller-token-file": { value: "PATH", help: "file with this caller's token; - is stdin" },
  "tls-ca-file": { value: "PATH", help: "whom to trust at --address; needed for any host but this machine" },
  "tls-cert-file": { value: "PATH", help: "this caller's certificate, for a listener with mutual TLS" },
  "tls-key-file": { value: "PATH", help: "its key" },
};

/** Of no use to a command that asks no sidecar. */
export const CONNECTION_OPTIONS: readonly string[] = Object.keys(GLOBAL_OPTIONS).filter(
  (name) => !["json", "help", "version"].includes(name),
);
