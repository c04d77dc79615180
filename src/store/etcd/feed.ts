import type { Etcd3, IWatchRequest, IWatchResponse } from "etcd3";
import type { Clock } from "../../clock.ts";
import { endOf, type KvRow, type KvView } from "../kv.ts";
import type { EtcdClient } from "./client.ts";
import { inLogOrder, rowOf } from "./ranges.ts";

/** How often etcd is asked for a sign of life on the stream: a quiet log needs nobody to write into it. */
const ASK_EVERY_MS = 2_000;
/** A stream that has been silent for this long is dead, whatever the connection says. */
const SILENT_MS = 10_000;
/** A watch that is not even accepted within this is tried at another endpoint. */
const ACCEPT_MS = 3_000;
const FIRST_PAUSE_MS = 50;
const MAX_PAUSE_MS = 1_000;

/** Transactions that are read at once when the stream has missed some. */
export const CATCH_UP_ROWS = 2_000;

/** `set_back`: the store is an older one than it was. */
export type Gap = "dropped" | "set_back";

export interface FeedDeps {
  readonly client: EtcdClient;
  readonly clock: Clock;
  /** Prefix of the log's keys. */
  readonly log: string;
  /** At most `CATCH_UP_ROWS` rows of the log from a revision on, in order; the view's revision is now's. */
  readonly readLog: (fromRevision: number) => Promise<KvView>;
  /** Whether rows after this revision may have been dropped from the log already. */
  readonly hasDropped: (afterRevision: number) => Promise<boolean>;
  /** A transaction's rows, in key order. */
  readonly tell: (rows: readonly KvRow[]) => void;
  /** A stream stands, the first one or one after another. */
  readonly onStands: () => void;
  /** A stream that stood, or was to stand, has failed. */
  readonly onEnded: () => void;
  /** Rows may have been missed for good; the store is at this revision. */
  readonly onGap: (why: Gap, revision: number) => void;
  readonly report: (error: unknown) => void;
}

type WatchOptions = NonNullable<Parameters<Etcd3["watchClient"]["watch"]>[0]>;
type Interceptor = NonNullable<WatchOptions["interceptors"]>[number];

/** The stream cannot go on where it was; the log's keys can. */
class Missed extends Error {}

/**
 * The one watch of this process. It tells every transaction of the log exactly once, in order: a stream that breaks is
 * made again after the last one told, and what etcd has compacted meanwhile is read from the log's own keys.
 */
export class Feed {
  readonly #deps: FeedDeps;
  readonly #closing = new AbortController();
  #told: number;
  #heardAtBootMs = Number.NEGATIVE_INFINITY;
  #isLive = false;
  #running: Promise<void> = Promise.resolve();

  /** Tells what comes after `told`. */
  constructor(deps: FeedDeps, told: number) {
    this.#deps = deps;
    this.#told = told;
  }

  /** Boot clock: when the stream was last known to be whole. What had happened by then has been told. */
  get heardAtBootMs(): number {
    return this.#heardAtBootMs;
  }

  /** True while everything older than a few seconds has been told. */
  get isCurrent(): boolean {
    return this.#isLive && this.#deps.clock.boot() - this.#heardAtBootMs < SILENT_MS;
  }

  /** Resolves when the watch stands for the first time, or after the first attempt has failed. */
  async open(): Promise<void> {
    const first = Promise.withResolvers<void>();
    this.#running = this.#run(first.resolve);
    await first.promise;
  }

  /** The store is another one: what comes after this revision of it is told, however much had been told of the other. */
  restart(told: number): void {
    this.#told = told;
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#running;
  }

  async #run(stands: () => void): Promise<void> {
    const { signal } = this.#closing;
    const { client, clock, report, onEnded } = this.#deps;
    for (let pauseMs = FIRST_PAUSE_MS; !signal.aborted; pauseMs = Math.min(pauseMs * 2, MAX_PAUSE_MS)) {
      const connection = client.connect();
      try {
        await this.#watch(connection, () => {
          pauseMs = FIRST_PAUSE_MS;
          stands();
        });
      } catch (error) {
        this.#isLive = false;
        if (signal.aborted) break;
        onEnded();
        if (error instanceof Missed) await this.#catchUp().catch(report);
        else if (pauseMs === FIRST_PAUSE_MS) report(error);
        client.moveOn();
      } finally {
        connection.close();
      }
      stands();
      await clock.sleep(pauseMs, signal).catch(() => undefined);
    }
    this.#isLive = false;
    stands();
  }

  /** Rejects when the stream is over, for whatever reason. */
  async #watch(connection: Etcd3, stands: () => void): Promise<void> {
    const { clock, onStands } = this.#deps;
    const over = Promise.withResolvers<never>();
    over.promise.catch(() => undefined);
    const done = new AbortController();
    const stream = await connection.watchClient.watch({ interceptors: [requireLeader] });
    let heardAtBootMs = clock.boot();
    let isAccepted = false;
    stream.on("error", over.reject);
    stream.on("end", () => over.reject(new Error("etcd ended the watch")));
    stream.on("data", (answer) => {
      if (answer.canceled) {
        over.reject(refusalOf(answer));
        return;
      }
      if (answer.created && Number(answer.header.revision) < this.#told) {
        // This member lags behind, or the store was set back.
        over.reject(new Missed("etcd is behind what it has told before"));
        return;
      }
      heardAtBootMs = clock.boot();
      this.#heardAtBootMs = heardAtBootMs;
      this.#isLive = true;
      isAccepted = true;
      if (answer.created) {
        stands();
        onStands();
      }
      this.#tell(answer.events.map(({ kv }) => rowOf(kv)));
    });
    const askForLife = async () => {
      // A dead connection and a dead server look like a quiet one; but a quiet one answers.
      while (!done.signal.aborted) {
        await clock.sleep(ASK_EVERY_MS, done.signal).catch(() => undefined);
        const silentMs = clock.boot() - heardAtBootMs;
        if (silentMs > (isAccepted ? SILENT_MS : ACCEPT_MS))
          over.reject(new Error("the watch has fallen silent"));
        else if (!done.signal.aborted) stream.write({ progress_request: {} });
      }
    };
    const closing = () => over.reject(new Error("closing"));
    this.#closing.signal.addEventListener("abort", closing);
    try {
      stream.write(this.#request());
      void askForLife();
      await over.promise;
    } finally {
      this.#closing.signal.removeEventListener("abort", closing);
      done.abort();
      stream.cancel();
    }
  }

  #request(): IWatchRequest {
    const { log } = this.#deps;
    return {
      create_request: {
        key: Buffer.from(log),
        range_end: Buffer.from(endOf(log)),
        // What has been told already, once more: a watch from a revision that is still to come gets no sign of life.
        start_revision: Math.max(1, this.#told),
        // The janitor's deletions are no news.
        filters: ["Nodelete"],
      },
    };
  }

  #tell(rows: readonly KvRow[]): void {
    for (const [revision, group] of Map.groupBy(inLogOrder(rows), (row) => row.revision)) {
      if (revision <= this.#told) continue;
      this.#told = revision;
      this.#deps.tell(group);
    }
  }

  /** From the log's own keys, which outlive etcd's history of them. */
  async #catchUp(): Promise<void> {
    const { readLog, hasDropped, onGap } = this.#deps;
    if (await hasDropped(this.#told)) onGap("dropped", this.#told);
    for (;;) {
      const { rows, revision } = await readLog(this.#told + 1);
      if (revision < this.#told) {
        this.#told = revision;
        onGap("set_back", revision);
        return;
      }
      const found = rows.flat();
      const isLast = found.length < CATCH_UP_ROWS;
      // A transaction that the page may have cut is read again.
      const lastWhole = isLast ? revision : (found.at(-1)?.revision ?? 0) - 1;
      this.#tell(found.filter((row) => row.revision <= lastWhole));
      this.#told = Math.max(this.#told, lastWhole);
      if (isLast) return;
    }
  }
}

/**
 * A member that is cut off from the others answers on as if nothing happened. With this, which etcd's own client calls
 * `WithRequireLeader`, it ends the stream instead when it has had no leader for three elections' time.
 */
const requireLeader: Interceptor = (options, nextCall) => {
  const call = nextCall(options);
  const start = call.start.bind(call);
  call.start = (metadata, listener) => {
    const own = metadata.clone();
    own.set("hasleader", "true");
    start(own, listener);
  };
  // Its type asks for grpc-js's own class, of which only this interface is used.
  return call as ReturnType<Interceptor>;
};

function refusalOf({ compact_revision, cancel_reason }: IWatchResponse): Error {
  if (Number(compact_revision) > 0) return new Missed("etcd has compacted what comes next");
  return new Error(`etcd refused the watch: ${cancel_reason}`);
}
