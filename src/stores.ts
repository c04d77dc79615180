import { readFileSync } from "node:fs";
import type { Clock } from "./clock.ts";
import type { Config } from "./config/schema.ts";
import { invalid, isReason } from "./errors.ts";
import type { Log } from "./log.ts";
import { holdDirectory } from "./store/embedded/directory.ts";
import { openEmbeddedStore } from "./store/embedded/open.ts";
import type { EtcdAccess } from "./store/etcd/access.ts";
import type { Gap } from "./store/etcd/feed.ts";
import { openEtcdStore } from "./store/etcd/open.ts";
import { upkeepFaults, upkeepOf } from "./store/etcd/upkeep.ts";
import type { Session } from "./tokens/membership.ts";
import type { Key } from "./tokens/records.ts";
import type { EventLog, Store } from "./tokens/store.ts";

/** The records, wherever they are. */
export interface OpenStore {
  readonly store: Store;
  readonly events: EventLog;
  /** Random per database; beside the journal it tells a replaced one. */
  readonly epoch: string;
  /** Undefined where there is only one sidecar. */
  readonly session: Session | undefined;
  /** This process has written a record that nobody else writes, and nobody removes: a store without it was set back. */
  remember(key: Key, revision: number): void;
  /** Drops events past their retention; call it every few minutes. */
  sweep(signal?: AbortSignal): Promise<unknown>;
  close(): Promise<void>;
}

export interface StoreOptions {
  readonly config: Config;
  readonly stateDir: string;
  readonly clock: Clock;
  readonly log: Log;
  /** Events may have been missed for good. */
  readonly onGap: (why: Gap, revision: number) => void;
  /** Ends the waiting for a store that does not answer. */
  readonly signal?: AbortSignal | undefined;
}

/** How long a start waits for an etcd that does not answer: it may be electing a leader, or share a busy machine. */
const PATIENCE_MS = 15_000;
const FIRST_PAUSE_MS = 250;
const MAX_PAUSE_MS = 2_000;

/** Opens the configured store, and takes the state directory, which holds journal and identity in either case. */
export async function openStore(options: StoreOptions): Promise<OpenStore> {
  return options.config.store.backend === "etcd" ? openShared(options) : openOwn(options);
}

async function openOwn({ config, stateDir, clock, log }: StoreOptions): Promise<OpenStore> {
  const store = await openEmbeddedStore({
    directory: stateDir,
    environment: config.environment,
    clock,
    report: (error) => log("the database failed", {}, error),
  });
  // Nobody changes its file while it is open; the next start compares what it finds with what lies beside it.
  return { ...store, session: undefined, remember: () => undefined };
}

async function openShared(options: StoreOptions): Promise<OpenStore> {
  const { config, stateDir, clock, log, onGap } = options;
  const held = holdDirectory(stateDir);
  try {
    const access = accessOf(config.store);
    const store = await patiently(options, () =>
      openEtcdStore({
        access,
        environment: config.environment,
        prefix: config.store.prefix,
        clock,
        report: (error) => log("the connection to etcd broke; it is made again", {}, error),
        onGap: (why, revision) => {
          log("the feed of changes has a gap", { why });
          onGap(why, revision);
        },
      }),
    );
    // Nobody waits for it: it is only for those who read the log.
    void upkeepOf(access).then(
      (upkeep) => {
        for (const fault of upkeepFaults(upkeep)) log(fault);
      },
      (error: unknown) => log("etcd's quota and history could not be looked into", {}, error),
    );
    return {
      ...store,
      close: async () => {
        await store.close();
        held.release();
      },
    };
  } catch (error) {
    held.release();
    throw error;
  }
}

/** Opens, again for a while as long as nothing answers; whoever reads the log is told each time. */
async function patiently<T>({ clock, log, signal }: StoreOptions, open: () => Promise<T>): Promise<T> {
  const untilBootMs = clock.boot() + PATIENCE_MS;
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, MAX_PAUSE_MS)) {
    try {
      return await open();
    } catch (error) {
      const leftMs = untilBootMs - clock.boot() - pauseMs;
      if (!isSilence(error) || leftMs <= 0) throw error;
      log("etcd does not answer yet: it is asked again", { for_seconds: Math.ceil(leftMs / 1_000) }, error);
      await clock.sleep(pauseMs, signal);
    }
  }
}

/** Not a refusal, which would be the same the next time. */
function isSilence(error: unknown): boolean {
  return isReason(error, "STORE_UNAVAILABLE") && error.metadata["cause"] !== "etcd_denied";
}

/** Reads the files that the configuration names. INVALID_REQUEST names the one that cannot be read. */
function accessOf({ endpoints = [], tls, username, password_file }: Config["store"]): EtcdAccess {
  const isSecure = endpoints.some((one) => one.startsWith("https:"));
  const login =
    username === undefined || password_file === undefined
      ? undefined
      : { username, password: read("store.password_file", password_file).toString("utf8").trimEnd() };
  return {
    endpoints,
    login,
    tls: isSecure
      ? {
          authority: tls?.ca_file === undefined ? undefined : read("store.tls.ca_file", tls.ca_file),
          certificate:
            tls?.certificate_file === undefined
              ? undefined
              : read("store.tls.certificate_file", tls.certificate_file),
          key: tls?.key_file === undefined ? undefined : read("store.tls.key_file", tls.key_file),
        }
      : undefined,
  };
}

function read(field: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch {
    throw invalid(field, `${path} cannot be read`);
  }
}
