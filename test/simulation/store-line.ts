import { KeyturnError } from "../../src/errors.ts";
import type { StoredEvent } from "../../src/tokens/events.ts";
import type { EventLog, Store, Transaction, TransactionResult } from "../../src/tokens/store.ts";
import type { Ledger } from "./ledger.ts";
import type { Point, Process } from "./machine.ts";
import type { Weather } from "./weather.ts";

/** What a store call waits for its answer at most. */
const CALL_MS = 1_500;

interface Fate {
  readonly arrives: boolean;
  readonly isHeard: boolean;
  readonly outMs: number;
  readonly backMs: number;
}

/** One process's way to the shared store: takes time, loses requests and answers, and lets some arrive late. */
export class StoreLine {
  readonly store: Store;
  readonly events: EventLog;
  readonly #ledger: Ledger;
  readonly #process: Process;
  readonly #weather: Weather;

  constructor(ledger: Ledger, process: Process, weather: Weather) {
    this.#ledger = ledger;
    this.#process = process;
    this.#weather = weather;
    const { memory } = ledger;
    this.store = {
      read: (reads) => this.#call(false, () => memory.readNow(reads)),
      write: (transaction) => this.#write(transaction),
      scan: (kind, after, limit) => this.#call(false, () => memory.scanNow(kind, after, limit)),
    };
    this.events = {
      identity: memory.identity,
      read: (after, classes, limit) => this.#call(false, () => memory.eventsNow(after, classes, limit)),
      bounds: () => this.#call(false, () => memory.boundsNow()),
      follow: (listener) => this.#follow(listener),
    };
  }

  #write(transaction: Transaction): Promise<TransactionResult> {
    const point = placeOf(transaction);
    return this.#call(true, () => {
      const result = this.#ledger.write(transaction, this.#process.host.name);
      if (result.applied && point !== undefined) this.#process.host.pass(point);
      return result;
    });
  }

  #call<T>(isWrite: boolean, act: () => T): Promise<T> {
    const { host } = this.#process;
    host.pass("store.asked");
    const fate = this.#fate(isWrite);
    if (fate === "refused") {
      return this.#process.hear(host.random.between(1, 100), () => {
        throw unavailable(false);
      });
    }
    return new Promise((resolve, reject) => {
      const deadline = host.time.after(CALL_MS, () =>
        this.#process.deliver(() => reject(unavailable(isWrite))),
      );
      if (!fate.arrives) return;
      host.time.after(fate.outMs, () => {
        // What was sent arrives, whatever has become of the sender.
        const result = act();
        if (!fate.isHeard) return;
        host.time.after(fate.backMs, () => {
          if (host.isPartitioned) return;
          this.#process.deliver(() => {
            deadline.act = undefined;
            host.pass("store.answered");
            resolve(result);
          });
        });
      });
    });
  }

  #fate(isWrite: boolean): Fate | "refused" {
    const { name, random, isPartitioned, chronicle } = this.#process.host;
    const plain = { arrives: true, isHeard: true, outMs: random.between(1, 6), backMs: random.between(1, 6) };
    if (isPartitioned) {
      chronicle.seen("store partitioned");
      return { ...plain, arrives: false };
    }
    const trouble = this.#weather.store(name, random);
    if (trouble === undefined) return plain;
    chronicle.seen(`store ${trouble}`);
    switch (trouble) {
      case "refused":
        return "refused";
      case "unasked":
        return { ...plain, arrives: false };
      case "unheard":
        return { ...plain, isHeard: false };
      case "ghost":
        return isWrite
          ? { ...plain, isHeard: false, outMs: random.between(CALL_MS, 20_000) }
          : { ...plain, isHeard: false };
      case "slow":
        return { ...plain, outMs: random.between(50, 900), backMs: random.between(50, 900) };
    }
  }

  #follow(listener: (events: readonly StoredEvent[]) => void): () => void {
    const { host } = this.#process;
    const queue: (readonly StoredEvent[])[] = [];
    let stopped = false;
    const arrive = () => {
      if (host.isPartitioned) {
        host.time.after(host.partitionedUntilMs - host.time.nowMs + 1, arrive);
        return;
      }
      // Whatever order these run in, the events keep theirs.
      this.#process.deliver(() => {
        const next = queue.shift();
        if (next !== undefined && !stopped) listener(next);
      });
    };
    const stop = this.#ledger.memory.followNow((events) => {
      if (this.#process.state === "dead") return;
      queue.push(events);
      host.time.after(host.random.chance(0.02) ? 1_500 : host.random.between(1, 30), arrive);
    });
    return () => {
      stopped = true;
      stop();
    };
  }
}

function unavailable(ambiguous: boolean): KeyturnError {
  return new KeyturnError("STORE_UNAVAILABLE", "the store does not answer", {
    metadata: { ambiguous: String(ambiguous) },
  });
}

/** Which step of a refresh a transaction is. */
function placeOf({ writes }: Transaction): Point | undefined {
  const puts = writes.flatMap((write) => ("put" in write ? [write.put.kind] : []));
  if (puts.includes("lock")) return "store.lock.landed";
  if (puts.includes("hold")) return "store.attempt.landed";
  return puts.includes("account") ? "store.commit.landed" : undefined;
}
