import { create } from "@bufbuild/protobuf";
import type { Clock } from "../../clock.ts";
import { KeyturnError } from "../../errors.ts";
import {
  EventService,
  type WatchEventsRequest,
  WatchEventsResponseSchema,
} from "../../gen/keyturn/v1/event_service_pb.js";
import type { EventClass, EventPosition, StoredEvent } from "../../tokens/events.ts";
import type { EventLog } from "../../tokens/store.ts";
import { type Call, stream } from "../call.ts";
import { cursorOf, isBefore, positionOf } from "./cursor.ts";
import { eventMessage } from "./message.ts";

const HEARTBEAT_MS = 15_000;
const BATCH = 500;
const REFRESHED = "integrated_account:token_refreshed";

export interface WatchEventsDeps {
  readonly events: EventLog;
  readonly clock: Clock;
  readonly environment: string;
  /** Aborts when the sidecar stops: streams end with a cursor to resume from. */
  readonly stopping: AbortSignal;
}

/**
 * Reads the log rather than buffering the feed: a slow subscriber is as far behind as it reads, at no cost in memory,
 * and is told when the log has forgotten what it has not read.
 */
export function watchEvents(deps: WatchEventsDeps) {
  return stream(EventService.method.watchEvents, async (request, call, send) => {
    const { events, clock, environment, stopping } = deps;
    const classes = classesOf(request);
    let position =
      request.afterCursor === ""
        ? (await events.bounds()).newest
        : positionOf(events.identity, request.afterCursor);
    const { setBacks } = events;
    await checkRetained(deps, position, classes, "CURSOR_EXPIRED");
    await checkReached(deps, position);
    const wanted = filterOf(request, call);
    const ended = AbortSignal.any([call.signal, stopping]);
    let sentAtBootMs = clock.boot();
    const tell = async (event?: StoredEvent) => {
      const message = event === undefined ? undefined : eventMessage(event, events.identity, environment);
      const cursor = message?.cursor ?? cursorOf(events.identity, position);
      await send(
        create(WatchEventsResponseSchema, message === undefined ? { cursor } : { event: message, cursor }),
      );
      sentAtBootMs = clock.boot();
    };
    let wake = new AbortController();
    const unfollow = events.follow(() => wake.abort());
    try {
      await tell();
      while (!ended.aborted) {
        wake = new AbortController();
        if (events.setBacks !== setBacks) throw setBack(events, (await events.bounds()).newest);
        const recent = events.recent?.(position, classes, BATCH);
        const batch = recent ?? (await events.read(position, classes, BATCH));
        // What lies in memory has not been dropped.
        if (recent === undefined && batch.length > 0)
          await checkRetained(deps, position, classes, "SUBSCRIBER_TOO_SLOW");
        for (const event of batch) {
          position = event.position;
          if (wanted(event)) await tell(event);
        }
        // Also when much is going on of which nothing is wanted: the cursor moves, and the caller knows that we live.
        const leftMs = sentAtBootMs + HEARTBEAT_MS - clock.boot();
        if (leftMs <= 0) await tell();
        else if (batch.length === 0)
          await clock.sleep(leftMs, AbortSignal.any([ended, wake.signal])).catch(() => undefined);
      }
    } finally {
      unfollow();
    }
    if (call.signal.aborted) return;
    throw new KeyturnError("SHUTTING_DOWN", "This sidecar is shutting down; resume at another one.", {
      metadata: { cursor: cursorOf(events.identity, position) },
    });
  });
}

/** Of what is asked for, nothing after `position` may have been dropped. */
async function checkRetained(
  deps: WatchEventsDeps,
  position: EventPosition,
  classes: readonly EventClass[],
  reason: "CURSOR_EXPIRED" | "SUBSCRIBER_TOO_SLOW",
): Promise<void> {
  const { oldest } = await deps.events.bounds();
  const lost = classes.find((name) => isBefore(position, oldest[name]));
  if (lost === undefined) return;
  const text = `Events of the class ${lost} after this cursor are no longer kept.`;
  throw new KeyturnError(reason, text, {
    metadata: {
      class: lost,
      oldest_cursor: cursorOf(deps.events.identity, oldest[lost]),
      cursor: cursorOf(deps.events.identity, position),
    },
  });
}

/** A cursor from ahead of the store is one from before it was set back. */
async function checkReached({ events }: WatchEventsDeps, position: EventPosition): Promise<void> {
  const { newest } = await events.bounds();
  if (position.storeRevision > newest.storeRevision) throw setBack(events, newest);
}

function setBack({ identity }: EventLog, newest: EventPosition): KeyturnError {
  return new KeyturnError("CURSOR_EXPIRED", "The cursor is of a store that was set back since.", {
    metadata: { cause: "store_set_back", oldest_cursor: cursorOf(identity, newest) },
  });
}

/** Whoever does not ask for refreshes is not bound to their short retention. */
function classesOf({ types }: WatchEventsRequest): readonly EventClass[] {
  if (types.length === 0) return ["lifecycle", "refreshed"];
  const classes: EventClass[] = [];
  if (types.some((type) => type !== REFRESHED)) classes.push("lifecycle");
  if (types.includes(REFRESHED)) classes.push("refreshed");
  return classes;
}

function filterOf(request: WatchEventsRequest, call: Call): (event: StoredEvent) => boolean {
  const any = (list: readonly string[], value: string) => list.length === 0 || list.includes(value);
  const labels = Object.entries(request.labels);
  return (event) =>
    any(request.types, event.type) &&
    any(request.tenants, event.tenant) &&
    any(request.providers, event.provider) &&
    any(request.accountIds, event.accountId) &&
    labels.every(([name, value]) => event.labels[name] === value) &&
    call.caller.maySee({ tenant: event.tenant, provider: event.provider, account: event.accountId });
}
