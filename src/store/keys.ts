import type { EventClass } from "../tokens/events.ts";
import type { Key, Kind } from "../tokens/records.ts";
import { shardOf } from "../tokens/shard.ts";

/**
 * The key layout under `/keyturn/<environment>/`. Parts are percent-encoded, so that no part holds a slash.
 *
 * | key | value | lease | purpose |
 * | --- | --- | --- | --- |
 * | `accounts/<shard>/<id>` | AccountRecord | – | status, generations and schedule of every slot; no secret |
 * | `credentials/<shard>/<id>/<slot>` | SealedCredentialRecord | – | the sealed material of one generation |
 * | `attempts/<id>/<slot>` | AttemptRecord | – | a refresh is about to be sent, or was |
 * | `holds/<id>/<slot>` | HoldRecord | own, 90 s | nobody but the attempt's holder sends |
 * | `locks/<id>/<slot>` | LockRecord | short, 35 s | saves calls of the provider; voids itself at 30 s |
 * | `authorizations/<hash of state>` | AuthorizationRecord | own, 10 min | sealed PKCE verifier, used once |
 * | `clients/<provider>/<name>` | OAuthClientRecord | – | OAuth client, its fault and hold |
 * | `client-secrets/<provider>/<name>` | ClientSecretsRecord | – | its sealed secrets |
 * | `content-keys/current` | ContentKeyRecord | – | sealed key of the marks that tell a repeated creation |
 * | `members/<instance>` | MemberRecord | session | who lives, where, and since when |
 * | `shards/<n>` | ShardOwnerRecord | session | whose schedule a slice of the accounts is |
 * | `permits/<provider>/<client>/<n>` | PermitRecord | own, 65 s | a taken place of the concurrency cap |
 * | `budgets/<provider>/<client>/<n>` | BudgetBlockRecord | own, a window and the time to send | a taken block of the request budget |
 * | `cooldowns/<provider>/<client>` | CooldownRecord | own | nobody asks this token endpoint |
 * | `bursts/<provider>/<client>/<n>` | VerdictMarkRecord | own, 60 s | recent `reauth` verdicts |
 * | `breakers/<provider>/<client>` | BreakerRecord | – | failures in a row, suspicion, what is to be reverted |
 * | `audit-heads/<instance>` | AuditHeadRecord | – | finds a cut tail of an audit chain |
 * | `journals/<instance>` | JournalMarkRecord | – | which KEK versions an instance's journal may need |
 * | `restores/current` | RestoreHoldRecord | – | the store was set back: refreshes wait for an operator |
 * | `kek-floors/<kek id>` | KekFloorRecord | – | nothing under an older KEK version comes in any more |
 * | `rewraps/<kek id>` | RewrapMarkRecord | – | where a killed rewrap goes on |
 * | `bulk-refreshes/<job>` | BulkRefreshRecord | own, 7 days | where a stopped bulk refresh goes on |
 * | `events/<class>/<5-minute bucket>/<operation id>/<n>` | EventRecord | – (janitor) | the one feed |
 * | `event-marks/<class>` | EventMarkRecord | – | up to where the janitor has dropped events |
 * | `identity` | text | – | the name of a store that several sidecars share |
 */
const FOLDERS: Readonly<Record<Kind, string>> = {
  account: "accounts",
  credential: "credentials",
  attempt: "attempts",
  hold: "holds",
  lock: "locks",
  authorization: "authorizations",
  client: "clients",
  client_secrets: "client-secrets",
  content_key: "content-keys",
  member: "members",
  shard: "shards",
  permit: "permits",
  budget: "budgets",
  cooldown: "cooldowns",
  verdict: "bursts",
  breaker: "breakers",
  audit_head: "audit-heads",
  journal_mark: "journals",
  restore_hold: "restores",
  kek_floor: "kek-floors",
  rewrap: "rewraps",
  bulk_refresh: "bulk-refreshes",
};

const SHARDED: ReadonlySet<Kind> = new Set(["account", "credential"]);

/** Kinds that end with the process that wrote them. */
export const SESSION_KINDS: readonly Kind[] = ["lock", "permit", "member", "shard"];

const BUCKET_MS = 300_000;
// Wide enough that both sort as text, buckets until the year 11,000.
const BUCKET_DIGITS = 9;
const PLACE_DIGITS = 3;

/** Events of one transaction; etcd takes no more than 128 operations. */
export const MOST_EVENTS = 100;

/** Prefix of all keys of an environment; `prefix` stands before it in a store that others use too. */
export function rootOf(environment: string, prefix = ""): string {
  return `${prefix}/keyturn/${encodeURIComponent(environment)}/`;
}

/** Where a store that several sidecars share keeps its own name. */
export const identityPath = "identity";

/** A key's path under the root. */
export function pathOf(key: Key): string {
  const [first] = key.parts;
  const shard = SHARDED.has(key.kind) ? `${shardOf(first)}/` : "";
  return `${FOLDERS[key.kind]}/${shard}${key.parts.map(encodeURIComponent).join("/")}`;
}

/** Path prefix of all keys of a kind whose first parts are these; whole parts only. */
export function pathUnder(kind: Kind, parts: readonly string[]): string {
  const [first] = parts;
  const shard = SHARDED.has(kind) && first !== undefined ? `${shardOf(first)}/` : "";
  return `${FOLDERS[kind]}/${shard}${parts.map((part) => `${encodeURIComponent(part)}/`).join("")}`;
}

/** Path prefix of the keys of a sharded kind in one shard. */
export function pathUnderShard(kind: Kind, shard: string): string {
  return `${FOLDERS[kind]}/${shard}/`;
}

/** The parts of a key of `kind` from its path. */
export function partsOf(kind: Kind, path: string): readonly string[] {
  return path
    .split("/")
    .slice(SHARDED.has(kind) ? 2 : 1)
    .map((part) => (part.includes("%") ? decodeURIComponent(part) : part));
}

export const EVENT_CLASSES: readonly EventClass[] = ["lifecycle", "refreshed", "feed"];

/** Path prefix of all events, or of those of one class. */
export function eventsUnder(of?: EventClass): string {
  return of === undefined ? "events/" : `events/${of}/`;
}

/** Number of the five minutes that a time falls in, as text that sorts. */
export function bucketOf(timeMs: number): string {
  return String(Math.max(0, Math.floor(timeMs / BUCKET_MS))).padStart(BUCKET_DIGITS, "0");
}

/** Path of the `index`-th event of an operation. All events of an operation carry one bucket, so they sort in order. */
export function eventPath(of: EventClass, bucket: string, operation: string, index: number): string {
  const place = String(index).padStart(PLACE_DIGITS, "0");
  return `${eventsUnder(of)}${bucket}/${encodeURIComponent(operation)}/${place}`;
}

/** The class of the event at a path; undefined for one that a newer release knows. */
export function eventClassOf(path: string): EventClass | undefined {
  return EVENT_CLASSES.find((of) => path.startsWith(eventsUnder(of)));
}

/** The place of an event within its transaction, from its path or its whole key. */
export function eventIndexOf(path: string): number {
  return Number(path.slice(path.lastIndexOf("/") + 1));
}

/** Where the janitor notes up to which position it has dropped events of a class. */
export function eventMarkPath(of: EventClass): string {
  return `event-marks/${of}`;
}
