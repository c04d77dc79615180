import type { EventClass, EventPosition, StoredEvent } from "../tokens/events.ts";
import type { EventLog } from "../tokens/store.ts";
import { decode, operationOf } from "./codec.ts";
import { EVENT_CLASSES, eventIndexOf, eventMarkPath, eventsUnder, MOST_EVENTS } from "./keys.ts";
import type { Kv, KvRow } from "./kv.ts";

/** Nothing has been dropped. */
export const NO_MARK: EventPosition = { storeRevision: 0, index: 0 };

/** The events that lie beside the records, over any backend. */
export class RecordEventLog implements EventLog {
  readonly identity: string;
  readonly #kv: Kv;
  readonly #root: string;

  constructor(kv: Kv, root: string, identity: string) {
    this.#kv = kv;
    this.#root = root;
    this.identity = identity;
  }

  async read(
    after: EventPosition,
    classes: readonly EventClass[],
    limit: number,
  ): Promise<readonly StoredEvent[]> {
    // The transaction at `after` is read again from its start.
    const most = limit + MOST_EVENTS;
    const { rows } = await this.#kv.read(
      classes.map((of) => ({
        log: this.#root + eventsUnder(of),
        fromRevision: after.storeRevision,
        limit: most,
      })),
    );
    return rows
      .flat()
      .map((row) => this.#position(row))
      .filter(({ position }) => compare(position, after) > 0)
      .sort((a, b) => compare(a.position, b.position))
      .slice(0, limit)
      .map(({ row }) => this.#event(row));
  }

  async bounds() {
    const { revision, rows } = await this.#kv.read(
      EVENT_CLASSES.map((of) => ({ key: this.#root + eventMarkPath(of) })),
    );
    const [lifecycle, refreshed, feed] = rows.map(([row]) => markOf(row));
    return {
      newest: { storeRevision: revision, index: MOST_EVENTS - 1 },
      oldest: {
        lifecycle: lifecycle ?? NO_MARK,
        refreshed: refreshed ?? NO_MARK,
        feed: feed ?? NO_MARK,
      },
    };
  }

  follow(listener: (events: readonly StoredEvent[]) => void): () => void {
    return this.#kv.follow((rows) => {
      const events = rows.map((row) => this.#event(row));
      listener(events.sort((a, b) => compare(a.position, b.position)));
    });
  }

  #position(row: KvRow) {
    return { row, position: { storeRevision: row.revision, index: eventIndexOf(row.key) } };
  }

  #event(row: KvRow): StoredEvent {
    const path = row.key.slice(this.#root.length);
    const { position } = this.#position(row);
    const id = `${operationOf(row.value, path)}/${position.index}`;
    return { ...decode("event", row.value, path), id, position };
  }
}

/** Up to where the janitor has dropped events. */
export function markOf(row: KvRow | undefined): EventPosition | undefined {
  return row === undefined ? undefined : decode("event_mark", row.value, row.key);
}

/** Negative when `a` stands before `b`. */
export function compare(a: EventPosition, b: EventPosition): number {
  return a.storeRevision - b.storeRevision || a.index - b.index;
}
