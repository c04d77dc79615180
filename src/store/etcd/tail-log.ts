import type { EventClass, EventPosition, StoredEvent } from "../../tokens/events.ts";
import { classOf } from "../../tokens/events.ts";
import type { EventLog } from "../../tokens/store.ts";
import { compare } from "../event-log.ts";
import type { Feed } from "./feed.ts";

/** Events that are kept in memory: what subscribers of this sidecar read, as long as they keep up. */
const MOST_KEPT = 4_096;
/** After every event of a transaction. */
const LAST = Number.MAX_SAFE_INTEGER;

/** A log whose newest events lie in memory, from this process's one watch, so that subscribers do not ask etcd. */
export class TailLog implements EventLog {
  #identity: string;
  #setBacks = 0;
  readonly #log: EventLog;
  readonly #feed: () => Pick<Feed, "isCurrent" | "heardAtBootMs">;
  #kept: StoredEvent[] = [];
  /** All events after it are kept, as far as they have been told. Undefined: of those to come. */
  #from: EventPosition | undefined;

  constructor(log: EventLog, fromRevision: number, feed: () => Pick<Feed, "isCurrent" | "heardAtBootMs">) {
    this.#identity = log.identity;
    this.#log = log;
    this.#from = { storeRevision: fromRevision, index: LAST };
    this.#feed = feed;
    log.follow((events) => this.#keep(events));
  }

  get identity(): string {
    return this.#identity;
  }

  get setBacks(): number {
    return this.#setBacks;
  }

  get isCurrent(): boolean {
    return this.#feed().isCurrent;
  }

  get currentAtBootMs(): number {
    return this.#feed().heardAtBootMs;
  }

  read(after: EventPosition, classes: readonly EventClass[], limit: number): Promise<readonly StoredEvent[]> {
    return this.#log.read(after, classes, limit);
  }

  recent(
    after: EventPosition,
    classes: readonly EventClass[],
    limit: number,
  ): readonly StoredEvent[] | undefined {
    if (this.#from === undefined || compare(after, this.#from) < 0) return undefined;
    const found: StoredEvent[] = [];
    for (let n = this.#firstAfter(after); n < this.#kept.length && found.length < limit; n += 1) {
      const event = this.#kept[n];
      if (event !== undefined && classes.includes(classOf(event.type))) found.push(event);
    }
    return found;
  }

  bounds() {
    return this.#log.bounds();
  }

  follow(listener: (events: readonly StoredEvent[]) => void): () => void {
    return this.#log.follow(listener);
  }

  /** Events were missed: what is kept does not hang together any more. `identity`: the store was set back, to this one. */
  forget(identity: string | undefined): void {
    if (identity !== undefined) {
      this.#identity = identity;
      this.#setBacks += 1;
    }
    this.#kept = [];
    this.#from = undefined;
  }

  #keep(events: readonly StoredEvent[]): void {
    const [first] = events;
    if (first !== undefined) this.#from ??= { storeRevision: first.position.storeRevision - 1, index: LAST };
    this.#kept.push(...events);
    // Half at a time, so that not every event moves all the others.
    if (this.#kept.length <= MOST_KEPT) return;
    const dropped = this.#kept.splice(0, this.#kept.length - MOST_KEPT / 2);
    this.#from = dropped.at(-1)?.position ?? this.#from;
  }

  #firstAfter(after: EventPosition): number {
    let low = 0;
    for (let high = this.#kept.length; low < high; ) {
      const middle = (low + high) >> 1;
      const event = this.#kept[middle];
      if (event !== undefined && compare(event.position, after) <= 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
