import { randomUUID } from "node:crypto";
import type { IResponseHeader } from "etcd3";
import type { Clock } from "../../clock.ts";
import type { Key } from "../../tokens/records.ts";
import type { Store } from "../../tokens/store.ts";
import { markOf, NO_MARK, RecordEventLog } from "../event-log.ts";
import { sweepEvents } from "../janitor.ts";
import {
  EVENT_CLASSES,
  eventMarkPath,
  eventsUnder,
  identityPath,
  pathOf,
  pathUnder,
  rootOf,
} from "../keys.ts";
import { RecordStore } from "../records.ts";
import type { EtcdAccess } from "./access.ts";
import { EtcdClient } from "./client.ts";
import { EtcdKv } from "./etcd-kv.ts";
import { CATCH_UP_ROWS, Feed, type Gap } from "./feed.ts";
import { Leases } from "./leases.ts";
import { Session } from "./session.ts";
import { TailLog } from "./tail-log.ts";
import { Witness } from "./witness.ts";

export interface EtcdOptions {
  readonly access: EtcdAccess;
  readonly environment: string;
  /** Before `/keyturn/<environment>/`, for an etcd that others use too. */
  readonly prefix?: string;
  readonly clock: Clock;
  /** In [0, 1): which endpoint is asked first. */
  readonly random?: () => number;
  /** What went wrong without a caller to tell it to. */
  readonly report?: (error: unknown) => void;
  /** Events may have been missed for good: nothing remembered may be trusted unread. */
  readonly onGap?: (why: Gap, revision: number) => void;
  /** How long a short lease is shared; for tests. */
  readonly leaseBucketMs?: number;
  /** Whose janitor's clock; for tests. Default: `clock`. */
  readonly sweepClock?: Clock;
}

export interface EtcdStore {
  readonly store: Store;
  readonly events: TailLog;
  readonly session: Session;
  /** Random per store, and kept by a restored one. */
  readonly epoch: string;
  /** This process has written a record that nobody else writes, and nobody removes: a store without it was set back. */
  remember(key: Key, revision: number): void;
  /** Drops events past their retention; call it every few minutes. Returns how many went. */
  sweep(signal?: AbortSignal): Promise<number>;
  /** Gives the session back, and so the locks, shards and membership of this process. */
  close(): Promise<void>;
}

/** Opens an environment's records in etcd. STORE_UNAVAILABLE when it cannot be had now. */
export async function openEtcdStore(options: EtcdOptions): Promise<EtcdStore> {
  const { access, environment, clock, prefix = "", leaseBucketMs } = options;
  const report = options.report ?? (() => undefined);
  const root = rootOf(environment, prefix);
  const log = root + eventsUnder();
  const witness: Witness = new Witness({
    read: (reads) => kv.readUnsure(reads),
    root,
    onSetBack: (revision) => onSetBack(revision),
  });
  const doubt = () => witness.doubt();
  const client = await EtcdClient.load(access, clock, options.random ?? Math.random, doubt);
  const session = new Session(client, clock, report);
  const sessionKeys = [root + pathUnder("member", []), root + pathUnder("shard", [])];
  const leases = new Leases(client, clock, leaseBucketMs);
  let onAnswer = (_header: IResponseHeader) => {};
  let onSetBack = (_revision: number) => {};
  const kv: EtcdKv = new EtcdKv({
    client,
    clock,
    leases,
    session,
    sessionKeys,
    onAnswer: (header) => onAnswer(header),
    sure: () => witness.sure(),
  });
  try {
    const { epoch, clusterId } = await identityOf(client, root);
    const { revision } = await kv.read([]);
    const records = new RecordEventLog(kv, root, `${epoch}-${clusterId}`);
    const events: TailLog = new TailLog(records, revision, () => feed);
    let cluster = clusterId;
    const onGap = (why: Gap, revision: number) => {
      events.forget(why === "set_back" ? `${epoch}-${cluster}` : undefined);
      options.onGap?.(why, revision);
    };
    const feed = new Feed(
      {
        client,
        clock,
        log,
        readLog: (fromRevision) => kv.read([{ log, fromRevision, limit: CATCH_UP_ROWS }]),
        hasDropped: async (afterRevision) => {
          const { rows } = await kv.read(EVENT_CLASSES.map((of) => ({ key: root + eventMarkPath(of) })));
          return rows.some(([mark]) => (markOf(mark) ?? NO_MARK).storeRevision > afterRevision);
        },
        tell: (rows) => {
          kv.tell(rows, report);
          for (const row of rows.slice(-1)) witness.told(row);
        },
        onStands: () => {
          // Whether the calls' own connection has broken, too, nobody says.
          witness.doubt();
          void witness.sure()?.catch(report);
        },
        onEnded: doubt,
        onGap,
        report,
      },
      revision,
    );
    onSetBack = (revision) => {
      witness.forget();
      feed.restart(revision);
      onGap("set_back", revision);
    };
    onAnswer = (header) => {
      if (header.cluster_id === cluster) return;
      // A snapshot restored under other names or addresses makes another cluster.
      cluster = header.cluster_id;
      onSetBack(Number(header.revision));
    };
    await Promise.all([session.open(), feed.open()]).catch(async (error: unknown) => {
      await feed.close();
      throw error;
    });
    return {
      store: new RecordStore(kv, root),
      events,
      session,
      epoch,
      remember: (key, revision) => witness.wrote({ key: root + pathOf(key), revision }),
      sweep: (signal) => sweepEvents({ kv, root, clock: options.sweepClock ?? clock }, signal),
      async close() {
        await feed.close();
        await session.close();
        client.close();
      },
    };
  } catch (error) {
    await session.close();
    client.close();
    throw error;
  }
}

/** The store's own name, made once, and the cluster's, which a restored one usually has another of. */
async function identityOf(
  client: EtcdClient,
  root: string,
): Promise<{ readonly epoch: string; readonly clusterId: string }> {
  const key = Buffer.from(root + identityPath);
  const answer = await client.call((etcd, options) =>
    etcd.kv.txn(
      {
        compare: [{ key, target: "Mod", result: "Equal", mod_revision: 0 }],
        success: [{ request_put: { key, value: Buffer.from(randomUUID()) } }, { request_range: { key } }],
        failure: [{ request_range: { key } }],
      },
      options,
    ),
  );
  const [row] = answer.responses.at(-1)?.response_range?.kvs ?? [];
  return { epoch: row?.value.toString() ?? "", clusterId: answer.header.cluster_id };
}
