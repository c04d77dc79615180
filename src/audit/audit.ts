import type { Writable } from "node:stream";
import type { Clock } from "../clock.ts";
import { invalid, KeyturnError } from "../errors.ts";
import { auditFault } from "./fault.ts";
import { type AuditQuery, queryAudit } from "./query.ts";
import { type AuditEntry, type AuditRecord, type ChainHead, EMPTY_CHAIN, formatRecord } from "./record.ts";
import { type OpenSegment, openOnDisk, SegmentSink } from "./segment-sink.ts";
import { dayOf } from "./segments.ts";
import { type AuditSink, streamSink } from "./sink.ts";
import { type MovedAside, recoverTail } from "./tail.ts";
import { WarmOpens, type WarmSum, warmEntry } from "./warm-opens.ts";

const DAY_MS = 86_400_000;
/** A warm opening is written down at most a minute after it happened. */
const SUM_MS = 50_000;
/** Lines written by one fdatasync. */
const BATCH_LINES = 500;
/** Beyond this many waiting records, warm openings are summed even when each is wanted. */
const MAX_WAITING = 10_000;

export interface AuditOptions {
  readonly instance: string;
  readonly clock: Clock;
  /** A folder of segments, or a stream whose reader keeps the lines. */
  readonly to:
    | { readonly directory: string; readonly openSegment?: OpenSegment }
    /** `after`: the head kept in the store, so that the chain does not start anew with each process. */
    | { readonly stream: Writable; readonly after?: ChainHead };
  /** Every warm opening has a record of its own. */
  readonly everyOpen?: boolean;
  /** 400 when absent. */
  readonly retentionDays?: number;
  /** Size from which on a segment gets no further line; 64 MiB when absent. */
  readonly segmentBytes?: number;
}

/** The trail of one instance. */
export interface Audit {
  /** Resolves when the record is durable. STATE_DISK_FULL, else STORE_UNAVAILABLE with the cause `audit`. */
  record(entry: AuditEntry): Promise<void>;
  /** Counts one opening of a cached token; never fails and never waits. */
  warmOpen(account: string, caller: string, purpose: string, tenant?: string): void;
  /** The newest durable record, for the store to remember. */
  head(): ChainHead;
  /** Durable records, oldest first. INVALID_REQUEST when they went to a stream. */
  query(filter: AuditQuery): AsyncIterable<AuditRecord>;
  /** Writes down what has been counted, then ends; rejects when that could not be written. */
  close(): Promise<void>;
}

/** Goes on with the chain that `to` holds. A crash's half-written end is moved aside and gets a record. */
export async function createAudit(options: AuditOptions): Promise<Audit> {
  try {
    const { to } = options;
    if ("stream" in to) return new Trail(options, streamSink(to.stream), to.after ?? EMPTY_CHAIN);
    const { directory, openSegment = openOnDisk } = to;
    const { head, last, movedAside } = await recoverTail(directory);
    const segmentBytes = options.segmentBytes ?? 64 * 1024 * 1024;
    const sink = await SegmentSink.open({ directory, openSegment, segmentBytes, last });
    const trail = new Trail(options, sink, head);
    try {
      for (const moved of movedAside) await trail.record(recoveredEntry(moved));
    } catch (error) {
      await sink.close();
      throw error;
    }
    return trail;
  } catch (error) {
    throw auditFault(error);
  }
}

interface Waiting {
  readonly entry: AuditEntry;
  readonly atMs: number;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

class Trail implements Audit {
  readonly #options: AuditOptions;
  readonly #sink: AuditSink;
  readonly #warm = new WarmOpens();
  readonly #closing = new AbortController();
  #head: ChainHead;
  #waiting: Waiting[] = [];
  #running: Promise<void> | undefined;
  #summing = false;
  #retainedDay = "";
  #closed: Promise<void> | undefined;

  constructor(options: AuditOptions, sink: AuditSink, head: ChainHead) {
    this.#options = options;
    this.#sink = sink;
    this.#head = head;
  }

  record(entry: AuditEntry): Promise<void> {
    if (this.#closed === undefined) return this.#add(entry);
    return Promise.reject(new KeyturnError("SHUTTING_DOWN", "The audit trail is closed."));
  }

  warmOpen(account: string, caller: string, purpose: string, tenant = ""): void {
    const open = { account, caller, purpose, tenant, count: 1, sinceMs: this.#options.clock.now() };
    const { everyOpen = false } = this.#options;
    const each = everyOpen && this.#closed === undefined && this.#waiting.length < MAX_WAITING;
    if (each) void this.#write(open);
    else this.#count(open);
  }

  head(): ChainHead {
    return this.#head;
  }

  query(filter: AuditQuery): AsyncIterable<AuditRecord> {
    const { to } = this.#options;
    if ("directory" in to) return queryAudit(to.directory, this.#head.seq, filter);
    throw invalid("audit", "this sidecar writes its audit trail to a stream; ask whoever keeps that");
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.#closing.abort();
    try {
      await this.#flush();
      const lost = this.#warm.take();
      if (lost.length > 0) throw auditFault(undefined);
    } finally {
      while (this.#running !== undefined) await this.#running;
      await this.#sink.close();
    }
  }

  #add(entry: AuditEntry): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#waiting.push({ entry, atMs: this.#options.clock.now(), resolve, reject });
    this.#running ??= this.#run();
    return promise;
  }

  async #run(): Promise<void> {
    // Everything asked for in the same turn belongs to the first batch already.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      await this.#batch(this.#waiting.splice(0, BATCH_LINES));
      await this.#retain();
    }
    this.#running = undefined;
  }

  async #batch(batch: readonly Waiting[]): Promise<void> {
    const { instance, clock } = this.#options;
    const firstSeq = this.#head.seq + 1;
    let head = this.#head;
    let text = "";
    for (const { entry, atMs } of batch) {
      const next = formatRecord(entry, head, instance, atMs);
      head = next.head;
      text += `${next.line}\n`;
    }
    try {
      await this.#sink.append(Buffer.from(text, "latin1"), firstSeq, clock.now());
    } catch (error) {
      const fault = auditFault(error);
      for (const { reject } of batch) reject(fault);
      return;
    }
    this.#head = head;
    for (const { resolve } of batch) resolve();
  }

  /** Once a day. What cannot be dropped now is tried again tomorrow. */
  async #retain(): Promise<void> {
    const nowMs = this.#options.clock.now();
    if (this.#retainedDay === dayOf(nowMs)) return;
    this.#retainedDay = dayOf(nowMs);
    const days = this.#options.retentionDays ?? 400;
    const expired = await this.#sink.expired(nowMs - days * DAY_MS).catch(() => undefined);
    if (expired === undefined) return;
    const detail = {
      through_seq: String(expired.through.seq),
      through_hash: expired.through.hash,
      days: String(days),
    };
    // Behind this very loop, so it must not be waited for in it.
    void this.#add({ operation: "audit.retention", outcome: "ok", caller: "keyturn", detail })
      .then(() => expired.drop())
      .catch(() => undefined);
  }

  #count(sum: WarmSum): void {
    this.#warm.restore(sum);
    if (this.#summing || this.#closed !== undefined) return;
    this.#summing = true;
    void this.#options.clock.sleep(SUM_MS, this.#closing.signal).then(
      () => {
        this.#summing = false;
        return this.#flush();
      },
      () => undefined,
    );
  }

  async #flush(): Promise<void> {
    const sums = this.#warm.take();
    for (let at = 0; at < sums.length; at += BATCH_LINES) {
      await Promise.all(sums.slice(at, at + BATCH_LINES).map((sum) => this.#write(sum)));
    }
  }

  /** What cannot be written goes on being counted. */
  async #write(sum: WarmSum): Promise<void> {
    await this.#add(warmEntry(sum)).catch(() => this.#count(sum));
  }
}

function recoveredEntry({ segment, file, sizeBytes, sha256 }: MovedAside): AuditEntry {
  const detail = { segment, file, bytes: String(sizeBytes), sha256 };
  return { operation: "audit.recovered", outcome: "ok", caller: "keyturn", detail };
}
