import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { systemClock } from "../../src/clock.ts";
import { type Simulator, type SimulatorOptions, startSimulator } from "../../src/simulator/simulator.ts";
import { type Etcd, type EtcdOptions, startEtcd } from "../backends/etcd.ts";
import { type Caller, connectAccount, type GrantOptions, putSimulatorClient } from "./harness.ts";
import { type Serving, serve } from "./serving-process.ts";

export interface ClusterOptions {
  readonly sidecars: number;
  readonly etcd?: EtcdOptions;
  /** Where sidecars find etcd, when not at its own addresses. */
  readonly endpoints?: (etcd: Etcd) => readonly string[];
  readonly simulator?: Partial<SimulatorOptions>;
  /** The `kek:` line of every sidecar. Default: a keyring that they share. */
  readonly kek?: string;
  /** Further lines of every sidecar's configuration. */
  readonly config?: string;
}

/** Several sidecars, a process each, over one etcd, and the simulated provider that they share. */
export interface Cluster {
  readonly etcd: Etcd;
  readonly simulator: Simulator;
  readonly sidecars: readonly Serving[];
  /** The first sidecar's admin listener. */
  readonly admin: Caller;
  /** One more, or one that died again on its own state directory. */
  serve(name: string, config?: string): Promise<Serving>;
  /** An account with a grant of the simulator's, its access token expired unless said otherwise. */
  connect(id: string, grant?: GrantOptions): ReturnType<typeof connectAccount>;
}

/** Starts it all; it goes with the test. */
export async function cluster(options: ClusterOptions): Promise<Cluster> {
  const folder = mkdtempSync(join(tmpdir(), "keyturn-cluster-"));
  const [etcd, simulator] = await Promise.all([
    startEtcd(options.etcd),
    startSimulator({ clock: systemClock(), ...options.simulator }),
  ]);
  onTestFinished(async () => {
    await Promise.all([etcd.stop(), simulator.close()]);
    rmSync(folder, { recursive: true, force: true });
  });
  const endpoints = options.endpoints?.(etcd) ?? etcd.urls;
  const serveOne = (name: string, config = "") =>
    serve({
      stateDir: join(folder, name),
      config: [
        `store: { backend: etcd, endpoints: [${endpoints.map((url) => `"${url}"`).join(", ")}] }`,
        options.kek ?? `kek: { keyring_file: ${join(folder, "keyring.json")} }`,
        options.config ?? "",
        config,
      ].join("\n"),
    });
  // The first one makes the keyring.
  const first = await serveOne("s0");
  const others = Array.from({ length: options.sidecars - 1 }, (_, n) => serveOne(`s${n + 1}`));
  const sidecars = [first, ...(await Promise.all(others))];
  await putSimulatorClient(first.admin);
  return {
    etcd,
    simulator,
    sidecars,
    admin: first.admin,
    serve: serveOne,
    connect: (id, grant) => connectAccount(first.admin, simulator, id, grant),
  };
}

/** Many callers of one sidecar at once. */
export function times<T>(count: number, act: (n: number) => Promise<T>): Promise<readonly T[]> {
  return Promise.all(Array.from({ length: count }, (_, n) => act(n)));
}
