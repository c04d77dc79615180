import { randomUUID } from "node:crypto";
import type { Clock } from "../clock.ts";
import { type EventClass, type EventPosition, RETENTION_MS } from "../tokens/events.ts";
import { encode } from "./codec.ts";
import { compare, markOf, NO_MARK } from "./event-log.ts";
import { bucketOf, EVENT_CLASSES, eventIndexOf, eventMarkPath, eventsUnder } from "./keys.ts";
import type { Kv } from "./kv.ts";

/** Keys deleted by one transaction: more at once would stall etcd. */
const SLICE = 1_000;

export interface JanitorDeps {
  readonly kv: Kv;
  readonly root: string;
  readonly clock: Clock;
}

/**
 * Drops the events whose whole five minutes are past their class's retention, and notes first how far it has got, so
 * that a cursor from before is told. Any number of members may do it at once. Returns how many keys went.
 */
export async function sweepEvents(deps: JanitorDeps, signal?: AbortSignal): Promise<number> {
  let dropped = 0;
  for (const of of EVENT_CLASSES) {
    const until = `${deps.root}${eventsUnder(of)}${bucketOf(deps.clock.now() - RETENTION_MS[of])}/`;
    for (let more = true; more && signal?.aborted !== true; ) {
      const count = await sweepSlice(deps, of, until);
      dropped += count;
      more = count === SLICE;
    }
  }
  return dropped;
}

async function sweepSlice({ kv, root }: JanitorDeps, of: EventClass, until: string): Promise<number> {
  const from = root + eventsUnder(of);
  const markKey = root + eventMarkPath(of);
  const { rows } = await kv.read([{ key: markKey }, { prefix: from, after: "", limit: SLICE }]);
  const mark = rows[0]?.[0];
  const slice = (rows[1] ?? []).filter(({ key }) => key < until);
  const last = slice.at(-1);
  if (last === undefined) return 0;
  const past = slice.map(({ key, revision }) => ({ storeRevision: revision, index: eventIndexOf(key) }));
  const furthest = past.reduce(later, markOf(mark) ?? NO_MARK);
  const { applied } = await kv.transact({
    compares: [{ key: markKey, revision: mark?.revision ?? 0 }],
    writes: [
      { put: markKey, value: encode("event_mark", furthest, randomUUID()), ttlMs: undefined },
      // Up to and including the last: nothing sorts between a key and itself with a zero after it.
      { removeFrom: from, to: `${last.key}\0` },
    ],
    readAfter: [],
    readInstead: [],
  });
  // Somebody else sweeps: the slice is theirs.
  return applied ? slice.length : 0;
}

function later(a: EventPosition, b: EventPosition): EventPosition {
  return compare(a, b) < 0 ? b : a;
}
