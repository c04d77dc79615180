import type { IRangeResponse, IRequestOp, IResponseHeader, ITxnRequest, ITxnResponse } from "etcd3";
import type { Clock } from "../../clock.ts";
import { KeyturnError } from "../../errors.ts";
import type { Kv, KvRead, KvResult, KvRow, KvTransaction, KvView, KvWrite } from "../kv.ts";
import { DEADLINE_MS, type EtcdClient, LOG_DEADLINE_MS } from "./client.ts";
import { errorOf, failureOf } from "./failure.ts";
import type { Leases } from "./leases.ts";
import { inLogOrder, rangeOf, rowOf } from "./ranges.ts";
import type { Session } from "./session.ts";

/** etcd's default `--max-txn-ops`. */
const MOST_OPERATIONS = 128;
/** Below etcd's default `--max-request-bytes` of 1.5 MiB, keys and framing included. */
const MOST_REQUEST_BYTES = 1_400_000;

export interface EtcdKvDeps {
  readonly client: EtcdClient;
  readonly clock: Clock;
  readonly leases: Leases;
  readonly session: Pick<Session, "leaseId">;
  /** Prefixes of the keys that live under the session. */
  readonly sessionKeys: readonly string[];
  /** Looked at before anybody sees the answer. */
  readonly onAnswer: (header: IResponseHeader) => void;
  /** Whether what etcd answers may be believed; undefined: it may. */
  readonly sure: () => Promise<boolean> | undefined;
}

/** etcd's transactions, each with a deadline. */
export class EtcdKv implements Kv {
  readonly #deps: EtcdKvDeps;
  readonly #listeners = new Set<(rows: readonly KvRow[]) => void>();

  constructor(deps: EtcdKvDeps) {
    this.#deps = deps;
  }

  async read(reads: readonly KvRead[]): Promise<KvView> {
    const view = await this.readUnsure(reads);
    await this.#sure(false);
    return view;
  }

  /** Whatever else is known of the store. */
  async readUnsure(reads: readonly KvRead[]): Promise<KvView> {
    const isLog = reads.some((read) => "log" in read);
    const request: ITxnRequest = { compare: [], success: reads.map(readOf), failure: [] };
    const answer = await this.#deps.client.call((etcd, options) => etcd.kv.txn(request, options), {
      deadlineMs: isLog ? LOG_DEADLINE_MS : DEADLINE_MS,
    });
    this.#deps.onAnswer(answer.header);
    return viewOf(answer, reads, 0);
  }

  async transact(transaction: KvTransaction): Promise<KvResult> {
    try {
      return await this.#transact(transaction);
    } catch (error) {
      if (!isForLease(error)) throw error;
      // etcd does not know the lease that a put names, and so nothing has landed: with another one, once.
      this.#deps.leases.forget();
      return this.#transact(transaction);
    }
  }

  /** An answer that may be an older store's, or of one that has been set back since, counts as none. */
  async #sure(mayHaveLanded: boolean): Promise<void> {
    const looking = this.#deps.sure();
    if (looking === undefined) return;
    const isSame = await looking.catch((error: unknown) => {
      throw errorOf("doubtful", error, mayHaveLanded);
    });
    if (!isSame) throw errorOf("doubtful", new Error("etcd was set back meanwhile"), mayHaveLanded);
  }

  follow(listener: (rows: readonly KvRow[]) => void): () => void {
    // A name of its own for every call.
    const own = (rows: readonly KvRow[]) => listener(rows);
    this.#listeners.add(own);
    return () => this.#listeners.delete(own);
  }

  /** From the feed: hands one transaction's rows to the followers. */
  tell(rows: readonly KvRow[], report: (error: unknown) => void): void {
    for (const listener of [...this.#listeners]) {
      try {
        listener(rows);
      } catch (error) {
        report(error);
      }
    }
  }

  async #transact(transaction: KvTransaction): Promise<KvResult> {
    const { writes, readAfter, readInstead } = transaction;
    const request = await this.#request(transaction);
    const answer = await this.#deps.client.call((etcd, options) => etcd.kv.txn(request, options), {
      writes: writes.length > 0,
    });
    this.#deps.onAnswer(answer.header);
    await this.#sure(writes.length > 0);
    const view = answer.succeeded ? viewOf(answer, readAfter, writes.length) : viewOf(answer, readInstead, 0);
    return { applied: answer.succeeded, ...view };
  }

  async #request({ compares, writes, readAfter, readInstead }: KvTransaction): Promise<ITxnRequest> {
    const puts = await Promise.all(writes.map((write) => this.#writeOf(write)));
    const success = [...puts, ...readAfter.map(readOf)];
    const operations = Math.max(compares.length, success.length, readInstead.length);
    if (operations > MOST_OPERATIONS) {
      throw new KeyturnError(
        "INTERNAL_ERROR",
        `A transaction has ${operations} operations; etcd takes ${MOST_OPERATIONS}.`,
      );
    }
    checkSize(writes);
    return {
      compare: compares.map(({ key, revision }) => ({
        key: Buffer.from(key),
        target: "Mod",
        result: "Equal",
        mod_revision: revision,
      })),
      success,
      failure: readInstead.map(readOf),
    };
  }

  async #writeOf(write: KvWrite): Promise<IRequestOp> {
    if ("remove" in write) return { request_delete_range: { key: Buffer.from(write.remove) } };
    if ("removeFrom" in write) {
      return {
        request_delete_range: { key: Buffer.from(write.removeFrom), range_end: Buffer.from(write.to) },
      };
    }
    const key = Buffer.from(write.put);
    const value = Buffer.from(write.value.buffer, write.value.byteOffset, write.value.byteLength);
    const lease = await this.#leaseOf(write.put, write.ttlMs);
    return { request_put: lease === undefined ? { key, value } : { key, value, lease } };
  }

  async #leaseOf(key: string, ttlMs: number | undefined): Promise<string | undefined> {
    const { session, sessionKeys, leases } = this.#deps;
    if (sessionKeys.some((prefix) => key.startsWith(prefix))) return session.leaseId;
    return ttlMs === undefined ? undefined : leases.of(ttlMs);
  }
}

/** The ranges among the answers begin after those of the writes. */
function viewOf(answer: ITxnResponse, reads: readonly KvRead[], writes: number): KvView {
  return {
    revision: Number(answer.header.revision),
    rows: reads.map((read, n) => rowsOf(answer.responses[writes + n]?.response_range, read)),
  };
}

function readOf(read: KvRead): IRequestOp {
  return { request_range: rangeOf(read) };
}

function rowsOf(range: IRangeResponse | undefined, read: KvRead): readonly KvRow[] {
  const rows = (range?.kvs ?? []).map(rowOf);
  return "log" in read ? inLogOrder(rows) : rows;
}

function checkSize(writes: readonly KvWrite[]): void {
  let bytes = 0;
  for (const write of writes) if ("put" in write) bytes += write.put.length + write.value.byteLength;
  if (bytes <= MOST_REQUEST_BYTES) return;
  throw new KeyturnError(
    "INVALID_REQUEST",
    `What is to be stored has ${bytes} bytes; etcd takes ${MOST_REQUEST_BYTES} at once. Shorten labels, fields or the credential.`,
    {
      metadata: { cause: "store_request_too_large" },
      violations: [{ field: "*", description: `at most ${MOST_REQUEST_BYTES} bytes in one record` }],
    },
  );
}

function isForLease(error: unknown): boolean {
  return error instanceof KeyturnError && failureOf(error.cause) === "no_lease";
}
