import { KeyturnError } from "../../errors.ts";
import type { EventPosition } from "../../tokens/events.ts";

/** Store identity, revision and index as one opaque string. */
export function cursorOf(identity: string, { storeRevision, index }: EventPosition): string {
  return Buffer.from(JSON.stringify([identity, storeRevision, index])).toString("base64url");
}

/** CURSOR_EXPIRED when it is another store's; INVALID_REQUEST when it is none of ours. */
export function positionOf(identity: string, cursor: string): EventPosition {
  let parts: unknown;
  try {
    parts = JSON.parse(Buffer.from(cursor, "base64url").toString("utf8"));
  } catch {
    parts = undefined;
  }
  const [store, storeRevision, index]: unknown[] = Array.isArray(parts) ? parts : [];
  if (typeof store !== "string" || !isCount(storeRevision) || !isCount(index)) {
    throw new KeyturnError(
      "INVALID_REQUEST",
      "after_cursor: is not a cursor; give back one from an event unchanged",
      {
        violations: [{ field: "after_cursor", description: "a cursor from an event, unchanged" }],
      },
    );
  }
  if (store === identity) return { storeRevision, index };
  throw new KeyturnError(
    "CURSOR_EXPIRED",
    "The cursor is of another store, or of one that was restored since.",
    {
      metadata: { cause: "other_store" },
    },
  );
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}

/** True when `a` comes before `b` in the store's order. */
export function isBefore(a: EventPosition, b: EventPosition): boolean {
  return a.storeRevision < b.storeRevision || (a.storeRevision === b.storeRevision && a.index < b.index);
}
