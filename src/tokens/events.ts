/** What subscribers see. The names are a public contract. */
export type LifecycleType =
  | "integrated_account:created"
  | "integrated_account:reactivated"
  | "integrated_account:authentication_error"
  | "integrated_account:token_refreshed"
  | "integrated_account:refresh_failed"
  | "integrated_account:deleted"
  | "integrated_account:credential_rotated"
  | "integrated_account:expiring"
  | "oauth_client:secret_rotated"
  | "oauth_client:configuration_error"
  | "oauth_client:expiring"
  | "kek:rotated"
  | "provider:outage_suspected"
  | "provider:outage_cleared";

/** Written beside every other change that a cache or a schedule must see; never shown to subscribers. */
export type FeedType = "feed:account_changed" | "feed:client_changed" | "feed:slot_changed";

export type EventType = LifecycleType | FeedType;

/** How long an event is kept: `lifecycle` 7 days, `refreshed` and `feed` 15 minutes. */
export type EventClass = "lifecycle" | "refreshed" | "feed";

export function classOf(type: EventType): EventClass {
  if (type.startsWith("feed:")) return "feed";
  return type === "integrated_account:token_refreshed" ? "refreshed" : "lifecycle";
}

/** Retention of each class, in milliseconds. */
export const RETENTION_MS: Readonly<Record<EventClass, number>> = {
  lifecycle: 7 * 86_400_000,
  refreshed: 15 * 60_000,
  feed: 15 * 60_000,
};

/** An event as written beside the records it speaks of. Holds no secret. Empty strings where a member does not apply. */
export interface NewEvent {
  readonly type: EventType;
  readonly timeMs: number;
  readonly tenant: string;
  readonly provider: string;
  readonly accountId: string;
  readonly slot: string;
  readonly client: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Machine-readable: why. */
  readonly reason: string;
  /** Opaque token revision the event speaks of. */
  readonly revision: string;
  /** Small and flat: `expires_at_ms`, `generation`, `trigger`, `provider_code`, `superseded_by` … */
  readonly detail: Readonly<Record<string, string>>;
}

/** Where an event stands in the store's one order: the transaction's revision, then the place within it. */
export interface EventPosition {
  readonly storeRevision: number;
  readonly index: number;
}

export interface StoredEvent extends NewEvent {
  /** `<operation id>/<index>`: the same on every delivery. */
  readonly id: string;
  readonly position: EventPosition;
}
