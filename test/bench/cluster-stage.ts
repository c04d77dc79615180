import { readFileSync } from "node:fs";
import { join } from "node:path";
import { OAuthClientService } from "../../src/gen/keyturn/v1/oauth_client_service_pb.js";
import { type Etcd, startEtcd } from "../backends/etcd.ts";
import type { Bench, Sidecar } from "./bench.ts";

export interface ClusterStage {
  readonly etcd: Etcd;
  readonly sidecars: readonly Sidecar[];
  /** The configuration keys that make a sidecar one of them. */
  readonly set: Readonly<Record<string, string>>;
}

/** Sidecars out of the bundle over one etcd (fsync off), with the simulator's OAuth client `main`. */
export async function clusterOf(bench: Bench, count: number): Promise<ClusterStage> {
  const etcd = await startEtcd();
  bench.endsWith(() => etcd.stop());
  const set = {
    "store.backend": "etcd",
    "store.endpoints": etcd.only.url,
    "kek.keyring_file": join(bench.folder(), "keyring.json"),
  };
  // The first one makes the keyring.
  const sidecars = [await bench.sidecar({ set })];
  while (sidecars.length < count) sidecars.push(await bench.sidecar({ set }));
  await sidecars[0]?.admin.call(OAuthClientService.method.putClient, {
    provider: "simulator",
    name: "main",
    clientId: "demo-client",
    clientSecret: "demo-secret",
    caps: { maxConcurrent: 64 },
  });
  return { etcd, sidecars, set };
}

const TICK_MS = 10;

/** User and system time of a process, in milliseconds. */
export function cpuMsOf(pid: number): number {
  // The name, in brackets, may hold blanks.
  const fields = readFileSync(`/proc/${pid}/stat`, "latin1").split(") ")[1]?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
}

/** Resident memory of a process, in bytes. */
export function rssOf(pid: number): number {
  const kib = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1];
  return Number(kib) * 1_024;
}
