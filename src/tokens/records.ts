import type { Account } from "./account.ts";
import type { Sealed } from "./sealing.ts";

/** A refresh of `generation` is about to be sent, or was: durable before the first byte leaves. */
export interface Attempt {
  readonly attemptId: string;
  readonly incarnation: string;
  readonly generation: number;
  readonly instance: string;
  readonly atMs: number;
  /** The account was deleted meanwhile: a late answer is revoked at the provider, or only dropped. */
  readonly onAnswer: "commit" | "revoke" | "drop";
  /** Oldest KEK version that its answer or its credential may be sealed under; 0: an older release did not say. */
  readonly kekVersion: number;
}

/** Present as long as nobody but the attempt's holder may send again. Its lease is the clock. */
export interface Hold {
  readonly attemptId: string;
}

export interface Lock {
  /** Random per acquisition. */
  readonly lockId: string;
  readonly instance: string;
  /** The holder's wall clock; for people. Others count 30 s from when they first saw the lock. */
  readonly notAfterMs: number;
}

/** Caps of a token endpoint. Undefined: the provider file's, and without one no cap. */
export interface ClientCaps {
  readonly maxConcurrent: number | undefined;
  /** At most `requests` in any `perMs`. */
  readonly budget: { readonly requests: number; readonly perMs: number } | undefined;
}

/** What may be shown of a client's private key. */
export interface ClientKeyFacts {
  readonly algorithm: string;
  /** Empty: it names none. */
  readonly keyId: string;
}

/** What may be shown of a client's TLS certificate. */
export interface ClientCertificateFacts {
  readonly subject: string;
  /** SHA-256, lower-case hex. */
  readonly fingerprint: string;
  readonly notAfterMs: number;
}

/** Our app's registration at a provider. Budgets and configuration faults belong to it. Holds no secret. */
export interface OAuthClient {
  readonly provider: string;
  readonly name: string;
  readonly clientId: string;
  readonly caps: ClientCaps;
  readonly labels: Readonly<Record<string, string>>;
  /** Moved by every new secret; tells a verdict about old bytes from one about the current ones. */
  readonly generation: number;
  readonly secrets: readonly {
    readonly version: string;
    readonly state: "next" | "active" | "retiring";
    readonly hint: string;
    readonly createdAtMs: number;
  }[];
  /** What it signs assertions with. Absent: nothing. */
  readonly privateKey?: ClientKeyFacts | undefined;
  /** What it shows on TLS connections. Absent: nothing. */
  readonly certificate?: ClientCertificateFacts | undefined;
  /** The generation that its sealed material belongs to. Absent: that of its active secret. */
  readonly materialGeneration?: number | undefined;
  /** The certificate's end that `oauth_client:expiring` has been said of. Absent: of none. */
  readonly expiringNotifiedForMs?: number | undefined;
  /** Names of the further secrets in it, which calls of the API carry. */
  readonly secretFields?: readonly string[] | undefined;
  readonly onHold: { readonly sinceMs: number; readonly by: string; readonly note: string } | undefined;
  /** The provider refuses the client itself (`invalid_client`, `unauthorized_client`). */
  readonly fault: { readonly code: string; readonly sinceMs: number } | undefined;
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
}

/** Sealed apart from the client, so that reading a client never carries a secret. */
export interface ClientSecrets {
  readonly generation: number;
  readonly sealed: Sealed;
}

/** What the marks on accounts' first content are made with, one for all sidecars. */
export interface ContentKey {
  /** Random per key. */
  readonly keyId: string;
  readonly sealed: Sealed;
}

export interface SealedCredential {
  readonly incarnation: string;
  readonly generation: number;
  readonly sealed: Sealed;
}

/** One taken place of a concurrency cap. */
export interface Permit {
  readonly attemptId: string;
  readonly instance: string;
}

/** One taken block of a request budget: `requests` sends, usable for a few seconds, then blocked until the lease ends. */
export interface BudgetBlock {
  readonly instance: string;
  readonly requests: number;
}

/** While this leased record stands nobody asks the client's token endpoint. */
export interface Cooldown {
  readonly reason: "rate_limited" | "unavailable" | "outage_suspected";
  /** For people and RetryInfo; the lease is the clock. */
  readonly untilMs: number;
  readonly limit: number | undefined;
  readonly remaining: number | undefined;
}

/** One slot that was refused within the last 60 s, among the first three accounts of a client. */
export interface VerdictMark {
  readonly accountId: string;
  readonly slot: string;
  readonly incarnation: string;
  readonly generation: number;
}

/** What a client's token endpoint has been doing lately; absent while all is well. */
export interface Breaker {
  /** Distinct accounts of the transient failures in a row; from five on only probes are sent. */
  readonly failing: readonly string[];
  /** 429 without `Retry-After` in a row: the cool-down doubles. */
  readonly throttled: number;
  /** So many accounts were refused at once that the provider, not its customers, is the likely cause. */
  readonly suspected:
    | {
        readonly sinceMs: number;
        /** The first three, flagged at once: reverted when the suspicion ends, either way. */
        readonly flagged: readonly VerdictMark[];
        /** Refused probes in a row. */
        readonly confirmations: number;
      }
    | undefined;
  /** Refusals were confirmed as real: until then verdicts flag without counting. */
  readonly confirmedUntilMs: number | undefined;
  /** Accounts whose flag is still to be reverted after an outage. */
  readonly reverting: readonly VerdictMark[];
}

/** What an authorization was asked with, its PKCE verifier among it; used once. */
export interface Authorization {
  readonly accountId: string;
  readonly provider: string;
  readonly client: string;
  readonly returnUrl: string;
  /** Undefined once used. */
  readonly sealed: Sealed | undefined;
  readonly usedAtMs: number | undefined;
}

/** A live sidecar. */
export interface Member {
  readonly instance: string;
  readonly host: string;
  readonly roles: readonly string[];
  readonly startedAtMs: number;
  /** The store's revision when it joined: it remembers nothing older. */
  readonly appliedRevision: number;
  /** Which disk it lives on: tells a restart from a copied state directory. Empty: an older release did not say. */
  readonly place: string;
}

export interface ShardOwner {
  readonly instance: string;
}

/** The head of one instance's audit chain, so that a cut tail is found. */
export interface AuditHead {
  readonly instance: string;
  readonly seq: number;
  readonly hash: string;
  readonly atMs: number;
}

/** What one instance's journal may hold, told by itself; gone when it stopped with nothing kept. */
export interface JournalMark {
  readonly instance: string;
  readonly host: string;
  readonly atMs: number;
  /** Oldest KEK version that an answer on its disk may be sealed under. */
  readonly oldestKekVersion: number;
}

/** The store was set back, and no operator has accepted its state yet. */
export interface RestoreHold {
  readonly sinceMs: number;
  /** Who noticed. */
  readonly instance: string;
  readonly seenRevision: number;
  readonly foundRevision: number;
  /** `after_restore`: an operator said so at a start. */
  readonly why: "set_back" | "after_restore";
}

/** Progress of a rewrap, so that a killed one goes on. */
export interface RewrapMark {
  readonly toVersion: number;
  /** What `after` is a place among. */
  readonly kind: "credential" | "client_secrets" | "content_key";
  readonly after: string;
  readonly done: number;
  readonly startedAtMs: number;
  readonly initiator: string;
}

/** Nothing sealed under this version of a KEK, or an older one, comes into the store any more. */
export interface KekFloorMark {
  readonly version: number;
}

/** Which accounts a bulk refresh takes; empty members leave the choice open. */
export interface BulkSelection {
  readonly provider: string;
  readonly client: string;
  readonly tenant: string;
  /** All of them. */
  readonly labels: Readonly<Record<string, string>>;
}

/** A bulk refresh, so that a stopped one goes on. */
export interface BulkRefreshJob {
  readonly selection: BulkSelection;
  readonly revokePrevious: boolean;
  readonly initiator: string;
  readonly startedAtMs: number;
  /** Accounts selected when it began. */
  readonly total: number;
  readonly done: number;
  readonly failed: number;
  /** The page of the accounts that the next one is on, and the last one on it that is done. */
  readonly after: string;
  readonly lastAccountId: string;
  readonly finished: boolean;
}

/** Every kind of record, with the parts of its key. `accountId` comes first where a record belongs to an account. */
export interface Kinds {
  account: { readonly parts: readonly [accountId: string]; readonly value: Account };
  credential: {
    readonly parts: readonly [accountId: string, slot: string];
    readonly value: SealedCredential;
  };
  attempt: { readonly parts: readonly [accountId: string, slot: string]; readonly value: Attempt };
  hold: { readonly parts: readonly [accountId: string, slot: string]; readonly value: Hold };
  lock: { readonly parts: readonly [accountId: string, slot: string]; readonly value: Lock };
  client: { readonly parts: readonly [provider: string, name: string]; readonly value: OAuthClient };
  client_secrets: {
    readonly parts: readonly [provider: string, name: string];
    readonly value: ClientSecrets;
  };
  content_key: { readonly parts: readonly ["current"]; readonly value: ContentKey };
  permit: { readonly parts: readonly [provider: string, client: string, n: string]; readonly value: Permit };
  budget: {
    readonly parts: readonly [provider: string, client: string, n: string];
    readonly value: BudgetBlock;
  };
  cooldown: { readonly parts: readonly [provider: string, client: string]; readonly value: Cooldown };
  verdict: {
    readonly parts: readonly [provider: string, client: string, n: string];
    readonly value: VerdictMark;
  };
  breaker: { readonly parts: readonly [provider: string, client: string]; readonly value: Breaker };
  authorization: { readonly parts: readonly [stateHash: string]; readonly value: Authorization };
  member: { readonly parts: readonly [instance: string]; readonly value: Member };
  shard: { readonly parts: readonly [n: string]; readonly value: ShardOwner };
  audit_head: { readonly parts: readonly [instance: string]; readonly value: AuditHead };
  journal_mark: { readonly parts: readonly [instance: string]; readonly value: JournalMark };
  restore_hold: { readonly parts: readonly ["current"]; readonly value: RestoreHold };
  kek_floor: { readonly parts: readonly [kekId: string]; readonly value: KekFloorMark };
  rewrap: { readonly parts: readonly [kekId: string]; readonly value: RewrapMark };
  bulk_refresh: { readonly parts: readonly [jobId: string]; readonly value: BulkRefreshJob };
}

export type Kind = keyof Kinds;

export type Key = { readonly [K in Kind]: { readonly kind: K; readonly parts: Kinds[K]["parts"] } }[Kind];
export type KeyOf<K extends Kind> = Extract<Key, { readonly kind: K }>;
export type ValueOf<K extends Kind> = Kinds[K]["value"];

/** `key("account", id)`, typed by kind. */
export function key<K extends Kind>(kind: K, ...parts: Kinds[K]["parts"]): KeyOf<K> {
  // The mapped union cannot be inferred through a generic, though each member has exactly this shape.
  return { kind, parts } as unknown as KeyOf<K>;
}

/** A key as one string, equal for equal keys. */
export function keyText(of: Key): string {
  return `${of.kind}/${of.parts.map(encodeURIComponent).join("/")}`;
}
