import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { connect } from "./cli/connection.ts";
import { type Fleet, type FleetMember, playCluster } from "./cli/demo/cluster.ts";
import { systemClock } from "./clock.ts";
import { demoVendor } from "./demo-vendor.ts";
import { KeyturnError } from "./errors.ts";
import { startSimulator } from "./simulator/simulator.ts";

const TOKEN_LIFETIME_MS = 15_000;
const NAMES = ["a", "b", "c"] as const;

export interface ClusterDemoOptions {
  /** etcd's endpoints. */
  readonly etcd: readonly string[];
  /** OpenBao's or Vault's address, and the file with a token for its key `keyturn`. */
  readonly vault: string;
  readonly vaultTokenFile: string;
  /** How this program is started. */
  readonly command: readonly string[];
  readonly signal: AbortSignal;
  readonly say: (line: string) => void;
}

/** Three sidecars, a process each, over etcd and Vault, with a simulated provider. Returns the exit code. */
export async function clusterDemo(options: ClusterDemoOptions): Promise<number> {
  const { signal, say } = options;
  const clock = systemClock();
  const folder = mkdtempSync(join(tmpdir(), "keyturn-cluster-"));
  const simulator = await startSimulator({ clock, accessTokenLifetimeMs: TOKEN_LIFETIME_MS });
  const children: ChildProcess[] = [];
  const members: FleetMember[] = [];
  try {
    const environment = `demo-${Date.now().toString(36)}`;
    for (const name of NAMES) members.push(await startMember(name, environment, folder, options, children));
    const fleet: Fleet = {
      members,
      say,
      sleep: (ms) => clock.sleep(ms, signal),
      nowMs: () => clock.boot(),
      vendor: demoVendor(simulator),
    };
    await playCluster(fleet);
    return 0;
  } catch (error) {
    if (signal.aborted) return 130;
    say(error instanceof Error ? error.message : String(error));
    return 1;
  } finally {
    for (const member of members) member.close();
    await Promise.all(children.map(ended));
    await simulator.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function startMember(
  name: string,
  environment: string,
  folder: string,
  { etcd, vault, vaultTokenFile, command, signal }: ClusterDemoOptions,
  children: ChildProcess[],
): Promise<FleetMember> {
  const socket = (listener: "data" | "admin") => join(folder, name, `${listener}.sock`);
  const settings = {
    environment,
    state_dir: join(folder, name),
    "store.backend": "etcd",
    "store.endpoints": etcd.join(","),
    "kek.backend": "vault-transit",
    "kek.vault.address": vault,
    "kek.vault.token_file": vaultTokenFile,
    "listeners.data.socket": socket("data"),
    "listeners.admin.socket": socket("admin"),
  };
  const [program = process.execPath, ...words] = command;
  const flags = Object.entries(settings).flatMap(([key, value]) => ["--set", `${key}=${value}`]);
  const child = spawn(program, [...words, "serve", ...flags], { stdio: ["ignore", "ignore", "pipe"] });
  children.push(child);
  let shards = 0;
  const ready = Promise.withResolvers<void>();
  const lines: string[] = [];
  createInterface({ input: child.stderr }).on("line", (line) => {
    lines.push(line);
    const said = messageOf(line);
    if (said?.message === "ready") ready.resolve();
    if (said?.owned !== undefined) shards = said.owned;
  });
  child.once("exit", (code) =>
    ready.reject(
      new KeyturnError("INTERNAL_ERROR", `Sidecar ${name} ended with ${code}: ${lines.slice(-3).join(" ")}`),
    ),
  );
  await ready.promise;
  const from = { callerToken: undefined, clock: systemClock(), timeoutMs: 30_000, signal };
  const target = (listener: "data" | "admin") => ({
    address: `unix:${socket(listener)}`,
    shown: socket(listener),
    listener,
    tls: undefined,
  });
  const data = await connect(target("data"), from);
  const admin = await connect(target("admin"), from);
  return {
    name,
    pid: child.pid ?? 0,
    data,
    admin,
    shards: () => shards,
    kill: () => void child.kill("SIGKILL"),
    close: () => {
      data.close();
      admin.close();
      child.kill("SIGTERM");
    },
  };
}

function messageOf(line: string): { readonly message?: string; readonly owned?: number } | undefined {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => child.once("exit", () => resolve()));
}
