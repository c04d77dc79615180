import { parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { Database } from "./database.ts";
import {
  type Failure,
  type FromWorker,
  GATE,
  type Reply,
  type Request,
  type WorkerStart,
} from "./protocol.ts";

// Runs as the worker's entry: the one thread that waits for this disk. It imports little, because the first GetToken
// of a new process waits for it.

const SQLITE_FULL = 13;
/** Transactions made durable together at most, so that the first of many is not answered too late. */
const MOST_AT_ONCE = 256;

const start: WorkerStart = workerData;
const port = parentPort;
if (port === null) throw new Error("this file is the entry of a worker thread");
const gate = start.gate === undefined ? undefined : new Int32Array(start.gate);
const database = new Database(start);
let latestBootMs = start.bootMs;

const say = (message: FromWorker) => port.postMessage(message);

function pass(deadly: number): void {
  if (gate === undefined) return;
  while (Atomics.load(gate, 0) === GATE.wait) Atomics.wait(gate, 0, GATE.wait);
  if (Atomics.load(gate, 0) === deadly) throw new Error("the gate was told to end this worker");
}

function failed(requests: readonly Request[], failure: Failure, error: unknown): void {
  const message = error instanceof Error ? error.message : String(error);
  say({ replies: requests.map(({ id }) => ({ id, failure, message })) });
}

function isFull(error: unknown): boolean {
  // Primary result code in the low byte.
  return error instanceof Error && "errcode" in error && (Number(error.errcode) & 0xff) === SQLITE_FULL;
}

type Writing = Extract<Request, { readonly transaction: unknown }>;

function write(requests: readonly Writing[], nowMs: number, bootMs: number): void {
  if (requests.length === 0) return;
  try {
    const transactions = requests.map(({ transaction }) => transaction);
    const results = database.transact(transactions, nowMs, bootMs, () => pass(GATE.dieBeforeCommit));
    pass(GATE.dieAfterCommit);
    say({ replies: results.map((result, n): Reply => ({ id: requests[n]?.id ?? 0, ...result })) });
  } catch (error) {
    if (!isFull(error)) {
      failed(requests, "doubtful", error);
      // The file is opened anew, to see what is really on the disk.
      throw error;
    }
    // One by one: what frees room, or needs little, still fits.
    if (requests.length === 1) failed(requests, "disk_full", error);
    else for (const request of requests) write([request], nowMs, bootMs);
  }
}

function run(requests: readonly Request[]): void {
  latestBootMs = requests.reduce((latest, { bootMs }) => Math.max(latest, bootMs), latestBootMs);
  const nowMs = requests.at(-1)?.nowMs ?? 0;
  const isExpired = ({ bootMs }: Request) => latestBootMs - bootMs > start.deadlineMs;
  const expired = requests.filter(isExpired);
  if (expired.length > 0) failed(expired, "expired", "waited too long for the disk");
  const alive = requests.filter((request) => !isExpired(request));
  // Reads do not wait for the fsync of writes that came with them: those have not been answered yet.
  const replies: Reply[] = [];
  for (const request of alive) {
    if (!("reads" in request)) continue;
    replies.push({ id: request.id, applied: true, ...database.read(request.reads, latestBootMs) });
  }
  if (replies.length > 0) say({ replies });
  write(
    alive.filter((request) => "transaction" in request),
    nowMs,
    latestBootMs,
  );
}

port.on("message", (first: Request | "close") => {
  const requests: Request[] = [];
  let message: Request | "close" | undefined = first;
  while (message !== undefined && message !== "close" && requests.length < MOST_AT_ONCE) {
    requests.push(message);
    if (requests.length < MOST_AT_ONCE) message = receiveMessageOnPort(port)?.message;
  }
  if (requests.length > 0) run(requests);
  if (message === "close") {
    database.close();
    port.close();
  }
});

const { epoch, revision } = database;
const missed = start.resumesAfter === undefined ? [] : database.logAfter(start.resumesAfter, start.log);
say({ opened: { epoch, revision, missed } });
