import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { binaryOf, OPENBAO } from "./parts.ts";
import { freePorts } from "./ports.ts";
import { type Running, start } from "./running.ts";

export interface OpenBaoAnswer {
  readonly status: number;
  /** The whole JSON body; empty when there was none. */
  readonly body: Record<string, unknown>;
}

/** OpenBao on a free port of 127.0.0.1, initialised and unsealed, its Transit engine mounted at `transit`. */
export interface OpenBao {
  /** Such as `http://127.0.0.1:41234`. */
  readonly url: string;
  readonly port: number;
  readonly rootToken: string;
  /** `request("POST", "transit/keys/keyturn")`; the path is what follows `/v1/`. As root unless a token is given. */
  request(method: string, path: string, body?: object, token?: string): Promise<OpenBaoAnswer>;
  /** The same, and any other status than 2xx is an error. */
  act(method: string, path: string, body?: object): Promise<Record<string, unknown>>;
  /** A token with exactly these policies; `period` or `ttl` such as `5s`. */
  token(options: {
    readonly policies: readonly string[];
    readonly ttl?: string;
    readonly period?: string;
  }): Promise<string>;
  /** Writes a policy from its HCL. */
  policy(name: string, hcl: string): Promise<void>;
  seal(): Promise<void>;
  unseal(): Promise<void>;
  freeze(): void;
  thaw(): void;
  kill(): Promise<void>;
  /** After `kill`: on the same data and port, unsealed. */
  restart(): Promise<void>;
  output(): string;
  /** Ends the process and removes its data. */
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Starts OpenBao on storage that survives its end, initialises and unseals it, and mounts Transit. Close what it returns. */
export async function startOpenBao(): Promise<OpenBao> {
  const binary = binaryOf(OPENBAO);
  const folder = mkdtempSync(join(tmpdir(), "keyturn-openbao-"));
  const [port = 0, clusterPort = 0] = await freePorts(2);
  const url = `http://127.0.0.1:${port}`;
  const file = join(folder, "config.json");
  mkdirSync(join(folder, "data"));
  const configuration = {
    storage: { raft: { path: join(folder, "data"), node_id: "only", performance_multiplier: 1 } },
    listener: {
      tcp: {
        address: `127.0.0.1:${port}`,
        cluster_address: `127.0.0.1:${clusterPort}`,
        tls_disable: true,
      },
    },
    api_addr: url,
    cluster_addr: `http://127.0.0.1:${clusterPort}`,
    log_level: "warn",
  };
  writeFileSync(file, JSON.stringify(configuration));
  const send = async (
    method: string,
    path: string,
    body: object | undefined,
    token: string | undefined,
  ): Promise<OpenBaoAnswer> => {
    const answer = await fetch(`${url}/v1/${path}`, {
      method,
      headers: token === undefined ? {} : { "x-vault-token": token },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(10_000),
    });
    const text = await answer.text();
    return { status: answer.status, body: text === "" ? {} : (JSON.parse(text) as Record<string, unknown>) };
  };
  const begin = () =>
    start(binary, ["server", `-config=${file}`], async () => {
      const { status } = await send("GET", "sys/seal-status", undefined, undefined);
      return status === 200;
    });
  let running: Running = await begin();
  const asRoot = async (method: string, path: string, body?: object) => {
    const { status, body: answer } = await send(method, path, body, rootToken);
    if (status >= 300) throw new Error(`OpenBao answered ${status} to ${method} ${path}`);
    return answer;
  };
  const initialised = await send("PUT", "sys/init", { secret_shares: 1, secret_threshold: 1 }, undefined);
  const { keys, root_token: rootToken } = initialised.body as {
    readonly keys: readonly string[];
    readonly root_token: string;
  };
  const unseal = async () => {
    await asRoot("PUT", "sys/unseal", { key: keys[0] });
    // Unsealed is not yet ready: it has to lead, and to mount its engines. A standby's answer is another status.
    for (let tries = 0; tries < 200; tries += 1) {
      if ((await send("GET", "sys/health", undefined, undefined)).status === 200) return;
      await new Promise((resolve) => setTimeout(resolve, 30));
    }
    throw new Error(`OpenBao does not get ready: ${running.output().slice(-2_000)}`);
  };
  await unseal();
  await asRoot("POST", "sys/mounts/transit", { type: "transit" });
  const stop = async () => {
    await running.kill();
    rmSync(folder, { recursive: true, force: true });
  };
  return {
    url,
    port,
    rootToken,
    request: (method, path, body, token = rootToken) => send(method, path, body, token),
    act: asRoot,
    token: async ({ policies, ttl, period }) => {
      const asked = { policies, no_default_policy: true, ttl, period, renewable: true };
      const { auth } = await asRoot("POST", "auth/token/create", asked);
      return (auth as { readonly client_token: string }).client_token;
    },
    policy: async (name, policy) => {
      await asRoot("PUT", `sys/policies/acl/${name}`, { policy });
    },
    seal: async () => {
      await asRoot("PUT", "sys/seal");
    },
    unseal,
    freeze: () => running.freeze(),
    thaw: () => running.thaw(),
    kill: () => running.kill(),
    restart: async () => {
      running = await begin();
      await unseal();
    },
    output: () => running.output(),
    stop,
    [Symbol.asyncDispose]: stop,
  };
}
