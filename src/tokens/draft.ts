import type { Account, SlotState } from "./account.ts";
import type { EventType, NewEvent } from "./events.ts";
import type { Key, KeyOf, Kind, ValueOf } from "./records.ts";
import type { ClientKey } from "./snapshot.ts";
import type { Read, Transaction, Write } from "./store.ts";
import { revisionOf } from "./token.ts";

/** As much of an entry as expecting or removing it takes. */
interface Stored {
  readonly key: Key;
  readonly revision: number;
}

/** A transaction in the making. What it expects is what was read: any other writer in between refuses it. */
export class Draft {
  readonly #expect = new Map<Key, number>();
  readonly #writes: Write[] = [];
  readonly #events: NewEvent[] = [];

  /** The record has not been written since `entry` was read; undefined: it is still absent. */
  expect(key: Key, entry: Stored | undefined): this {
    this.#expect.set(key, entry?.revision ?? 0);
    return this;
  }

  put<K extends Kind>(key: KeyOf<K>, value: ValueOf<K>, ttlMs?: number): this {
    this.#writes.push(ttlMs === undefined ? { put: key, value } : { put: key, value, ttlMs });
    return this;
  }

  remove(entry: Stored | undefined): this {
    if (entry !== undefined) this.#writes.push({ remove: entry.key });
    return this;
  }

  event(event: NewEvent): this {
    this.#events.push(event);
    return this;
  }

  /** True when sending it would change nothing. */
  get isEmpty(): boolean {
    return this.#writes.length === 0 && this.#events.length === 0;
  }

  done(nonce: string, reads: readonly Read[]): Transaction {
    return {
      nonce,
      expect: [...this.#expect].map(([key, revision]) => ({ key, revision })),
      writes: this.#writes,
      events: this.#events,
      reads,
    };
  }
}

/** What an event says of an account's slot as it stands after the change. */
export function slotEvent(
  type: EventType,
  account: Account,
  slotName: string,
  slot: SlotState | undefined,
  timeMs: number,
  reason: string,
  detail: Readonly<Record<string, string>> = {},
): NewEvent {
  return {
    type,
    timeMs,
    tenant: account.tenant,
    provider: account.provider,
    accountId: account.id,
    slot: slotName,
    client: account.client,
    labels: account.labels,
    reason,
    revision: slot === undefined ? "" : revisionOf(account, slotName, slot.generation),
    detail: {
      ...(slot === undefined ? {} : { generation: String(slot.generation), ...dueDetail(account, slot) }),
      ...detail,
    },
  };
}

/** Schedules are fed by events, so each says when its slot is next due; while the account is disabled that is never. */
function dueDetail(account: Account, slot: SlotState): Readonly<Record<string, string>> {
  return {
    ...(slot.expiresAtMs === undefined ? {} : { expires_at_ms: String(slot.expiresAtMs) }),
    ...(!account.disabled && slot.state === "active" && slot.nextRefreshAtMs !== undefined
      ? { next_refresh_at_ms: String(Math.round(slot.nextRefreshAtMs)) }
      : {}),
  };
}

/** What an event says of an OAuth client, or of a whole provider as that client sees it. */
export function clientEvent(
  type: EventType,
  client: ClientKey,
  timeMs: number,
  reason: string,
  detail: Readonly<Record<string, string>> = {},
): NewEvent {
  return {
    type,
    timeMs,
    tenant: "",
    provider: client.provider,
    accountId: "",
    slot: "",
    client: client.client,
    labels: {},
    reason,
    revision: "",
    detail,
  };
}
