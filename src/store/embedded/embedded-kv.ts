import { setImmediate as turn } from "node:timers/promises";
import type { Worker } from "node:worker_threads";
import type { Clock } from "../../clock.ts";
import { KeyturnError } from "../../errors.ts";
import type { Kv, KvRead, KvResult, KvRow, KvTransaction, KvView, KvWrite } from "../kv.ts";
import { unavailable } from "../unavailable.ts";
import type { Failure, FromWorker, RawRow, Reply, Request } from "./protocol.ts";

/** More unanswered calls than this are refused at once, so that a stalled disk does not fill the memory. */
const MOST_IN_FLIGHT = 10_000;
/** A worker that could not open the file is not started again sooner. */
const RESPAWN_MS = 1_000;

/** Starts a worker; `resumesAfter` undefined: the first one of this process. */
export type Spawn = (resumesAfter: number | undefined) => Worker;

export interface EmbeddedKvDeps {
  readonly clock: Clock;
  readonly spawn: Spawn;
  /** Prefix of the log's keys. */
  readonly log: string;
  readonly deadlineMs: number;
  /** What a listener threw. */
  readonly report: (error: unknown) => void;
}

interface Call {
  readonly request: Request;
  readonly untilBootMs: number;
  readonly resolve: (result: KvResult) => void;
  readonly reject: (error: KeyturnError) => void;
}

/** The main thread's side of the worker. Never blocks. */
export class EmbeddedKv implements Kv {
  readonly #deps: EmbeddedKvDeps;
  readonly #closing = new AbortController();
  readonly #listeners = new Set<(rows: readonly KvRow[]) => void>();
  /** Sent and not answered; includes those that nobody waits for any more. */
  readonly #inFlight = new Map<number, Call>();
  /** Of those, the ones somebody waits for, oldest first. */
  readonly #waiting = new Map<number, Call>();
  #worker: Worker | undefined;
  #spawnedAtBootMs = 0;
  #watching = false;
  #lastId = 0;
  /** Revision up to which followers have been told. */
  #told = 0;

  constructor(deps: EmbeddedKvDeps) {
    this.#deps = deps;
  }

  /** Opens the file. Resolves with its epoch; rejects with STORE_UNAVAILABLE. */
  open(): Promise<{ readonly epoch: string }> {
    return new Promise((resolve, reject) => this.#spawn(undefined, resolve, reject));
  }

  /** Lets what was sent end, then closes the file. */
  async close(): Promise<void> {
    this.#closing.abort();
    const worker = this.#worker;
    if (worker === undefined) return;
    const ended = new Promise((resolve) => worker.once("exit", resolve));
    worker.postMessage("close");
    await ended;
  }

  async read(reads: readonly KvRead[]): Promise<KvView> {
    return this.#call((head) => ({ ...head, reads }));
  }

  async transact(transaction: KvTransaction): Promise<KvResult> {
    return this.#call((head) => ({ ...head, transaction }));
  }

  follow(listener: (rows: readonly KvRow[]) => void): () => void {
    // A function of its own, so that one listener added twice is told twice.
    const own = (rows: readonly KvRow[]) => listener(rows);
    this.#listeners.add(own);
    return () => this.#listeners.delete(own);
  }

  #call(make: (head: Pick<Request, "id" | "nowMs" | "bootMs">) => Request): Promise<KvResult> {
    const { clock, deadlineMs } = this.#deps;
    const bootMs = clock.boot();
    const worker = this.#liveWorker(bootMs);
    if (this.#inFlight.size >= MOST_IN_FLIGHT) {
      throw unavailable("store_stalled", "Too many calls wait for the state directory's disk.", false);
    }
    this.#lastId += 1;
    const id = this.#lastId;
    const request = make({ id, nowMs: clock.now(), bootMs });
    return new Promise((resolve, reject) => {
      const call: Call = { request, untilBootMs: bootMs + deadlineMs, resolve, reject };
      this.#inFlight.set(id, call);
      this.#waiting.set(id, call);
      worker.postMessage(request);
      if (!this.#watching) void this.#watch();
    });
  }

  #liveWorker(bootMs: number): Worker {
    if (this.#closing.signal.aborted) throw unavailable("store_closed", "The store is closed.", false);
    if (this.#worker === undefined && bootMs - this.#spawnedAtBootMs >= RESPAWN_MS) this.#respawn();
    if (this.#worker !== undefined) return this.#worker;
    throw unavailable("store_worker_died", "The store's worker cannot open its file; see the log.", false);
  }

  #respawn(): void {
    this.#spawn(this.#told, () => undefined, this.#deps.report);
  }

  #spawn(
    resumesAfter: number | undefined,
    opened: (of: { readonly epoch: string }) => void,
    failed: (error: KeyturnError) => void,
  ): void {
    const worker = this.#deps.spawn(resumesAfter);
    this.#worker = worker;
    this.#spawnedAtBootMs = this.#deps.clock.boot();
    let isOpen = false;
    let lastError: unknown;
    worker.on("message", (message: FromWorker) => {
      if ("replies" in message) return this.#settle(message.replies);
      isOpen = true;
      if (resumesAfter === undefined) this.#told = message.opened.revision;
      else this.#tellMissed(message.opened.missed);
      opened(message.opened);
    });
    worker.on("error", (error) => {
      lastError = error;
    });
    worker.once("exit", () => {
      this.#worker = undefined;
      this.#failAll(lastError);
      if (this.#closing.signal.aborted) return;
      const why = lastError instanceof Error ? lastError.message : "it ended";
      if (!isOpen) {
        const message = `The state directory's database cannot be opened: ${why}`;
        return failed(unavailable("store_not_opened", message, false, lastError));
      }
      this.#deps.report(
        unavailable("store_worker_died", `The store's worker ended: ${why}`, false, lastError),
      );
      this.#respawn();
    });
  }

  /** Answers that have come are taken first, however late this thread is itself. */
  async #watch(): Promise<void> {
    this.#watching = true;
    const { clock } = this.#deps;
    try {
      for (;;) {
        const [oldest] = this.#waiting.values();
        if (oldest === undefined) return;
        await clock.sleep(Math.max(1, oldest.untilBootMs - clock.boot()), this.#closing.signal);
        await turn();
        this.#giveUp(clock.boot());
      }
    } catch {
      // closing: the worker's last answers, or its end, settle what still waits
    } finally {
      this.#watching = false;
    }
  }

  #giveUp(bootMs: number): void {
    for (const [id, call] of this.#waiting) {
      if (call.untilBootMs > bootMs) return;
      this.#waiting.delete(id);
      const ambiguous = "transaction" in call.request;
      call.reject(
        unavailable("store_stalled", "The state directory's disk did not answer in time.", ambiguous),
      );
    }
  }

  #failAll(error: unknown): void {
    for (const call of this.#waiting.values()) {
      const ambiguous = "transaction" in call.request;
      call.reject(unavailable("store_worker_died", "The store's worker ended.", ambiguous, error));
    }
    this.#waiting.clear();
    this.#inFlight.clear();
  }

  #settle(replies: readonly Reply[]): void {
    for (const reply of replies) {
      const call = this.#inFlight.get(reply.id);
      this.#inFlight.delete(reply.id);
      this.#waiting.delete(reply.id);
      if (call === undefined) continue;
      if ("failure" in reply) {
        call.reject(failureOf(reply.failure, reply.message, call.request));
        continue;
      }
      const { applied, revision } = reply;
      if (applied && "transaction" in call.request) this.#tell(call.request.transaction.writes, revision);
      call.resolve({ applied, revision, rows: reply.rows.map((rows) => rows.map(rowOf)) });
    }
  }

  #tell(writes: readonly KvWrite[], revision: number): void {
    const rows: KvRow[] = [];
    for (const write of writes) {
      if (!("put" in write) || !write.put.startsWith(this.#deps.log)) continue;
      rows.push({ key: write.put, value: write.value, createRevision: revision, revision });
    }
    this.#told = Math.max(this.#told, revision);
    if (rows.length > 0) this.#tellAll(rows.sort((a, b) => (a.key < b.key ? -1 : 1)));
  }

  #tellMissed(missed: readonly RawRow[]): void {
    for (const rows of Map.groupBy(missed.map(rowOf), (row) => row.revision).values()) {
      this.#told = Math.max(this.#told, rows[0]?.revision ?? 0);
      this.#tellAll(rows);
    }
  }

  #tellAll(rows: readonly KvRow[]): void {
    for (const listener of [...this.#listeners]) {
      try {
        listener(rows);
      } catch (error) {
        this.#deps.report(error);
      }
    }
  }
}

function rowOf([key, value, createRevision, revision]: RawRow): KvRow {
  return { key, value, createRevision, revision };
}

function failureOf(failure: Failure, message: string, request: Request): KeyturnError {
  switch (failure) {
    case "disk_full":
      return new KeyturnError("STATE_DISK_FULL", "The state directory's disk is full; nothing was written.", {
        cause: message,
      });
    case "expired":
      return unavailable("store_stalled", "The state directory's disk did not answer in time.", false);
    case "doubtful":
      return unavailable("store_write_failed", message, "transaction" in request);
  }
}
