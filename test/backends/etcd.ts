import { execFileSync } from "node:child_process";
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { binaryOf, ETCD, ETCDUTL, type Part } from "./parts.ts";
import { freePorts } from "./ports.ts";
import { type Running, start } from "./running.ts";

export interface EtcdOptions {
  /** `OLDEST_ETCD` for 3.4. */
  readonly part?: Part;
  /** 1, or 3 for a cluster. */
  readonly members?: number;
  /** Waits for the disk with every write. Without it what is written survives kill -9, and not a power cut. */
  readonly isDurable?: boolean;
  /** Further flags of every member, such as `--quota-backend-bytes=…` or TLS files. */
  readonly flags?: readonly string[];
  /** `https` when the flags give the clients' side a certificate; readiness is then only that the port is open. */
  readonly scheme?: "http" | "https";
  /** Whether a member answers, for a scheme or flags that the usual look at `/health` does not fit. */
  readonly isReady?: (url: string) => Promise<boolean>;
}

/** One etcd process. Its data stay until the whole is stopped. */
export interface EtcdMember {
  /** Such as `http://127.0.0.1:41234`. */
  readonly url: string;
  readonly port: number;
  readonly pid: number;
  freeze(): void;
  thaw(): void;
  kill(): Promise<void>;
  /** After `kill`: on the same data and ports. */
  restart(): Promise<void>;
  output(): string;
}

/** A single etcd or a cluster, on free ports of 127.0.0.1, in a temporary folder. */
export interface Etcd {
  /** Where the data of all members are. */
  readonly folder: string;
  readonly urls: readonly string[];
  readonly members: readonly EtcdMember[];
  /** The first member; for a single one. */
  readonly only: EtcdMember;
  /** The member that leads. */
  leader(): Promise<EtcdMember>;
  /** A call of the JSON gateway, such as `("kv/range", { key: base64 })`, at the first member that answers. */
  call(path: string, body: object): Promise<Record<string, unknown>>;
  /** What the first member holds now, as `etcdctl snapshot save` takes it. */
  snapshot(): Promise<EtcdSnapshot>;
  /** Ends the processes and removes their data. */
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

export interface EtcdSnapshot {
  /** Kills a single etcd, and starts it on what `etcdutl snapshot restore` makes of the snapshot, with its further flags. */
  putBack(...flags: readonly string[]): Promise<void>;
}

/** Starts etcd and waits until it answers. Close what it returns: `await using etcd = await startEtcd()` does. */
export async function startEtcd(options: EtcdOptions = {}): Promise<Etcd> {
  const { part = ETCD, members: count = 1, flags = [], scheme = "http", isDurable = false } = options;
  const isReady = options.isReady ?? isHealthy;
  const binary = binaryOf(part);
  const folder = mkdtempSync(join(tmpdir(), "keyturn-etcd-"));
  const ports = await freePorts(2 * count);
  const names = Array.from({ length: count }, (_, n) => ({
    name: `m${n}`,
    port: ports[2 * n] ?? 0,
    url: `${scheme}://127.0.0.1:${ports[2 * n]}`,
    peer: `http://127.0.0.1:${ports[2 * n + 1]}`,
  }));
  const cluster = names.map(({ name, peer }) => `${name}=${peer}`).join(",");
  const begin = ({ name, url, peer }: (typeof names)[number]) =>
    start(
      binary,
      [
        `--name=${name}`,
        `--data-dir=${join(folder, name)}`,
        `--listen-client-urls=${url}`,
        `--advertise-client-urls=${url}`,
        `--listen-peer-urls=${peer}`,
        `--initial-advertise-peer-urls=${peer}`,
        `--initial-cluster=${cluster}`,
        "--initial-cluster-state=new",
        "--log-level=warn",
        // 3.4 does not know it.
        ...(isDurable || part !== ETCD ? [] : ["--unsafe-no-fsync"]),
        ...flags,
      ],
      () => isReady(url),
    );
  const running: Running[] = await Promise.all(names.map(begin));
  const members = names.map((of, n): EtcdMember => {
    const current = () => {
      const one = running[n];
      if (one === undefined) throw new Error("no such member");
      return one;
    };
    return {
      url: of.url,
      port: of.port,
      get pid() {
        return current().pid;
      },
      freeze: () => current().freeze(),
      thaw: () => current().thaw(),
      kill: () => current().kill(),
      restart: async () => {
        running[n] = await begin(of);
      },
      output: () => current().output(),
    };
  });
  const [only] = members;
  const [first] = names;
  if (only === undefined || first === undefined) throw new Error("a cluster needs a member");
  const stop = async () => {
    await Promise.all(running.map((one) => one.kill()));
    rmSync(folder, { recursive: true, force: true });
  };
  return {
    folder,
    urls: members.map(({ url }) => url),
    members,
    only,
    leader: async () => {
      for (const member of members) {
        const status = await post(member.url, "maintenance/status", {}).catch(() => undefined);
        const header = status?.header as { readonly member_id?: string } | undefined;
        if (header?.member_id !== undefined && status?.leader === header.member_id) return member;
      }
      throw new Error("no member leads");
    },
    call: async (path, body) => {
      let failure: unknown;
      for (const { url } of members) {
        try {
          return await post(url, path, body);
        } catch (error) {
          failure = error;
        }
      }
      throw failure;
    },
    snapshot: async () => {
      const file = join(folder, "snapshot.db");
      writeFileSync(file, await snapshotOf(only.url));
      return {
        putBack: async (...restoreFlags) => {
          const { name, peer } = first;
          const restored = join(folder, "restored");
          await only.kill();
          execFileSync(
            binaryOf(ETCDUTL),
            [
              "snapshot",
              "restore",
              file,
              `--name=${name}`,
              `--data-dir=${restored}`,
              `--initial-cluster=${cluster}`,
              `--initial-advertise-peer-urls=${peer}`,
              ...restoreFlags,
            ],
            { stdio: "pipe" },
          );
          rmSync(join(folder, name), { recursive: true });
          renameSync(restored, join(folder, name));
          await only.restart();
        },
      };
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

async function isHealthy(url: string): Promise<boolean> {
  const answer = await fetch(`${url}/health`, { signal: AbortSignal.timeout(1_000) });
  const { health } = (await answer.json()) as { readonly health?: string };
  return health === "true";
}

/** The bytes of the stream, whose end is their own SHA-256. */
async function snapshotOf(url: string): Promise<Buffer> {
  const answer = await fetch(`${url}/v3/maintenance/snapshot`, { method: "POST", body: "{}" });
  const lines = (await answer.text()).split("\n").filter((line) => line !== "");
  const parts = lines.map((line) => JSON.parse(line) as { readonly result?: { readonly blob?: string } });
  return Buffer.concat(parts.map(({ result }) => Buffer.from(result?.blob ?? "", "base64")));
}

async function post(url: string, path: string, body: object): Promise<Record<string, unknown>> {
  const answer = await fetch(`${url}/v3/${path}`, {
    method: "POST",
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(2_000),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`etcd answered ${answer.status} to ${path}: ${text}`);
  return JSON.parse(text) as Record<string, unknown>;
}
