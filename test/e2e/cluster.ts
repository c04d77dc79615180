import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ClientReadableStream } from "@grpc/grpc-js";
import { afterAll, onTestFinished } from "vitest";
import { systemClock } from "../../src/clock.ts";
import { EventService, type WatchEventsResponse } from "../../src/gen/keyturn/v1/event_service_pb.js";
import { type Simulator, type SimulatorOptions, startSimulator } from "../../src/simulator/simulator.ts";
import { type Etcd, type EtcdOptions, startEtcd } from "../backends/etcd.ts";
import { startOpenBao } from "../backends/openbao.ts";
import { freshKey } from "../seal/vault/stage.ts";
import { type Caller, connectAccount, type GrantOptions, putSimulatorClient } from "./harness.ts";
import { type OnEnd, type ServeOptions, type Serving, serve } from "./serving-process.ts";

export interface ClusterOptions {
  /** How many are started at once, named `s0`, `s1` …. */
  readonly sidecars: number;
  readonly etcd?: EtcdOptions;
  readonly simulator?: Partial<SimulatorOptions>;
  /** The `kek:` line of every sidecar. Default: a key in an OpenBao of the cluster's own. */
  readonly kek?: string;
  /** Further lines of every sidecar's configuration. */
  readonly config?: string;
  /** Takes what ends it all; it goes with the test unless given. */
  readonly onEnd?: OnEnd;
}

export interface MemberOptions extends Pick<ServeOptions, "script" | "words"> {
  /** Further lines of YAML. */
  readonly config?: string;
  /** Where this one finds etcd, when not at its own addresses. */
  readonly endpoints?: readonly string[];
}

/** Several sidecars, a process each, over one etcd and one Vault, and the simulated provider that they share. */
export interface Cluster {
  readonly etcd: Etcd;
  readonly simulator: Simulator;
  readonly sidecars: readonly Serving[];
  /** The first sidecar's admin listener. */
  readonly admin: Caller;
  /** One more, or one that died again on its own state directory. */
  serve(name: string, options?: MemberOptions): Promise<Serving>;
  /** What a sidecar of this kind is started with, for one that runs elsewhere. */
  settings(name: string, options?: MemberOptions): { readonly stateDir: string; readonly config: string };
  /** An account with a grant of the simulator's, its access token expired unless said otherwise. */
  connect(id: string, grant?: GrantOptions): ReturnType<typeof connectAccount>;
}

export async function cluster(options: ClusterOptions): Promise<Cluster> {
  const onEnd = options.onEnd ?? onTestFinished;
  const folder = mkdtempSync(join(tmpdir(), "keyturn-cluster-"));
  const [etcd, kek, simulator] = await Promise.all([
    startEtcd(options.etcd),
    options.kek ?? startKek(folder, onEnd),
    startSimulator({ clock: systemClock(), ...options.simulator }),
  ]);
  onEnd(async () => {
    await Promise.all([etcd.stop(), simulator.close()]);
    rmSync(folder, { recursive: true, force: true });
  });
  const settings = (name: string, { config = "", endpoints = etcd.urls }: MemberOptions = {}) => ({
    stateDir: join(folder, name),
    config: [
      `store: { backend: etcd, endpoints: [${endpoints.map((url) => `"${url}"`).join(", ")}] }`,
      kek,
      options.config ?? "",
      config,
    ].join("\n"),
  });
  const serveOne = (name: string, member: MemberOptions = {}) => {
    const { script, words = [] } = member;
    return serve({ ...settings(name, member), onEnd, words, ...(script === undefined ? {} : { script }) });
  };
  const names = Array.from({ length: options.sidecars }, (_, n) => `s${n}`);
  const sidecars = await Promise.all(names.map((name) => serveOne(name)));
  const [first] = sidecars;
  if (first === undefined) throw new Error("a cluster needs a sidecar");
  await putSimulatorClient(first.admin);
  return {
    etcd,
    simulator,
    sidecars,
    admin: first.admin,
    serve: serveOne,
    settings,
    connect: (id, grant) => connectAccount(first.admin, simulator, id, grant),
  };
}

/** A key in an OpenBao, as the line of a sidecar's configuration. */
async function startKek(folder: string, onEnd: OnEnd): Promise<string> {
  const bao = await startOpenBao();
  onEnd(() => bao.stop());
  const { key, token } = await freshKey(bao);
  const tokenFile = join(folder, "vault-token");
  writeFileSync(tokenFile, token.reveal(), { mode: 0o600 });
  return `kek: { backend: vault-transit, vault: { address: "${bao.url}", key: ${key}, token_file: ${tokenFile} } }`;
}

/** The events of some accounts as a subscriber of one sidecar gets them. */
export function subscribe(data: Caller, accountIds: readonly string[], afterCursor = "") {
  const stream: ClientReadableStream<WatchEventsResponse> = data.stream(EventService.method.watchEvents, {
    afterCursor,
    accountIds: [...accountIds],
  });
  const seen: string[] = [];
  let cursor = "";
  stream.on("data", (answer: WatchEventsResponse) => {
    cursor = answer.cursor;
    const { event } = answer;
    if (event !== undefined) seen.push(`${event.accountId} ${event.type}`);
  });
  stream.on("error", () => undefined);
  return { seen, cursor: () => cursor, end: () => stream.cancel() };
}

/** Collects what is to be done after all tests of a file, and does it then, the last first. */
export function afterAllTests(): OnEnd {
  const works: (() => Promise<void>)[] = [];
  afterAll(async () => {
    for (const work of works.reverse()) await work();
  });
  return (work) => works.push(work);
}

/** Many callers at once. */
export function times<T>(count: number, act: (n: number) => Promise<T>): Promise<readonly T[]> {
  return Promise.all(Array.from({ length: count }, (_, n) => act(n)));
}
