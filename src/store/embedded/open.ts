import { randomUUID } from "node:crypto";
import { dirname, join } from "node:path";
import { Worker } from "node:worker_threads";
import type { Clock } from "../../clock.ts";
import type { EventLog, Store } from "../../tokens/store.ts";
import { RecordEventLog } from "../event-log.ts";
import { sweepEvents } from "../janitor.ts";
import { eventsUnder, pathUnder, rootOf, SESSION_KINDS } from "../keys.ts";
import { RecordStore } from "../records.ts";
import { holdDirectory, makePrivate } from "./directory.ts";
import { EmbeddedKv, type Spawn } from "./embedded-kv.ts";
import type { WorkerStart } from "./protocol.ts";

const DEADLINE_MS = 5_000;

export interface EmbeddedOptions {
  readonly directory: string;
  readonly environment: string;
  readonly clock: Clock;
  /** Longest that a call waits for the disk; 5 s. */
  readonly deadlineMs?: number;
  /** What went wrong without a caller to tell it to: a worker that died, a listener that threw. */
  readonly report?: (error: unknown) => void;
  /** Most pages of 4 KiB that the database may have; for tests of a full disk. */
  readonly maxPages?: number;
  /** Stops the worker around its commits, as `GATE` says; for tests of a slow disk. */
  readonly gate?: SharedArrayBuffer;
}

export interface EmbeddedStore {
  readonly store: Store;
  readonly events: EventLog;
  /** Random per database file; beside the journal it tells a replaced one. */
  readonly epoch: string;
  /** Drops events past their retention; call it every few minutes. Returns how many went. */
  sweep(signal?: AbortSignal): Promise<number>;
  /** Lets what was sent end, then gives the directory back. */
  close(): Promise<void>;
}

/**
 * Opens the store in a state directory that nobody else may hold meanwhile. STORE_UNAVAILABLE with cause
 * `state_directory_in_use` at once when somebody does.
 */
export async function openEmbeddedStore(options: EmbeddedOptions): Promise<EmbeddedStore> {
  const { directory, environment, clock } = options;
  const held = holdDirectory(directory);
  const root = rootOf(environment);
  const log = root + eventsUnder();
  const kv = new EmbeddedKv({
    clock,
    log,
    spawn: spawner(options, root),
    deadlineMs: options.deadlineMs ?? DEADLINE_MS,
    report: options.report ?? (() => undefined),
  });
  try {
    const { epoch } = await kv.open();
    return {
      store: new RecordStore(kv, root),
      events: new RecordEventLog(kv, root, epoch),
      epoch,
      sweep: (signal) => sweepEvents({ kv, root, clock }, signal),
      async close() {
        await kv.close();
        held.release();
      },
    };
  } catch (error) {
    held.release();
    throw error;
  }
}

function spawner(options: EmbeddedOptions, root: string): Spawn {
  const { directory, clock, deadlineMs, maxPages, gate } = options;
  const file = join(directory, "store.sqlite");
  return (resumesAfter) => {
    makePrivate(file);
    const start: WorkerStart = {
      file,
      newEpoch: randomUUID(),
      log: root + eventsUnder(),
      session: SESSION_KINDS.map((kind) => root + pathUnder(kind, [])),
      resumesAfter,
      nowMs: clock.now(),
      bootMs: clock.boot(),
      deadlineMs: deadlineMs ?? DEADLINE_MS,
      maxPages,
      gate,
    };
    return new Worker(workerFile(), {
      name: "store",
      workerData: start,
      env: {},
      resourceLimits: { maxYoungGenerationSizeMb: 2 },
    });
  };
}

/** From source the worker is a file here; the bundle has its own beside itself. */
function workerFile(): URL | string {
  if (import.meta.filename?.endsWith(".ts")) return new URL("./worker.ts", import.meta.url);
  return join(dirname(__filename), "store-worker.cjs");
}
