import { invalid } from "../errors.ts";

/** Chosen by the caller or generated; 1–128 of `[A-Za-z0-9._~-]`, starting alphanumeric, case-sensitive. */
export type AccountId = string;

/** The token slot of nearly every account. */
export const DEFAULT_SLOT = "default";

/** One token of one account: what is refreshed, locked and scheduled. */
export interface SlotKey {
  readonly accountId: AccountId;
  readonly slot: string;
}

/** One exchange as an operator wants to read it later. Holds no secret. */
export interface AttemptSummary {
  readonly attemptId: string;
  readonly atMs: number;
  readonly instance: string;
  readonly generation: number;
  /** Undefined when no complete answer came. */
  readonly httpStatus: number | undefined;
  /** `granted`, a failure class, `unknown`, `not_sent` or `unmapped`. */
  readonly outcome: string;
  /** The provider's own error code, masked to printable ASCII and 64 characters. */
  readonly code: string | undefined;
  /** Which rule classified it: `file`, `default:<rule>` or the transport's cause. */
  readonly rule: string;
}

/** Why an account needs its customer back. */
export type ReauthReason = "refused" | "no_refresh_token" | "verification_refused" | "credential_expired";

/**
 * Everything known of one token slot that is not secret. Times are epoch milliseconds; undefined means "not known" or
 * "never", as each member says.
 */
export interface SlotState {
  readonly state: "active" | "needs_reauth";
  /** Undefined while active. */
  readonly reauthReason: ReauthReason | undefined;
  /** Counts this slot's credential material: +1 with every new token set or key, moved by nothing else. */
  readonly generation: number;
  /** False for an API key, or a grant without a refresh token. */
  readonly refreshable: boolean;
  readonly issuedAtMs: number;
  /** Undefined: the token never expires. */
  readonly expiresAtMs: number | undefined;
  /** Undefined: the customer never has to authorize again by date. */
  readonly refreshTokenExpiresAtMs: number | undefined;
  /** When a key, password or certificate ends, as its owner said. */
  readonly credentialExpiresAtMs: number | undefined;
  /** When the scheduler is due; undefined: never. */
  readonly nextRefreshAtMs: number | undefined;
  readonly scopes: readonly string[];
  readonly tokenType: string;
  /** The last characters of the secret, for a human to recognise it by. */
  readonly hint: string;
  /** Transient failures in a row. */
  readonly failures: number;
  /** On-demand callers get no new attempt before this. Undefined: no back-off. */
  readonly backoffUntilMs: number | undefined;
  /** An exchange of this generation ended without a complete answer: nothing is resent while the access token lives. */
  readonly unknownSinceMs: number | undefined;
  /** A kept answer of this generation could not be mapped; nothing is sent until `remap`. */
  readonly unmapped:
    | { readonly attemptId: string; readonly instance: string; readonly atMs: number }
    | undefined;
  /** The `min_validity` this token was fetched for, when its lifetime was too short for it. */
  readonly obtainedForMs: number | undefined;
  /** How often in a row a fresh token was reported as rejected, and when the next report is believed. */
  readonly rejection: { readonly strikes: number; readonly notBeforeMs: number } | undefined;
  /** A lifetime learnt from an early rejection, shorter than the provider said. */
  readonly observedLifetimeMs: number | undefined;
  /** The expiry that `integrated_account:expiring` has been said of. */
  readonly expiringNotifiedForMs: number | undefined;
  /** Newest first, at most `HISTORY_LENGTH`. */
  readonly history: readonly AttemptSummary[];
}

export const HISTORY_LENGTH = 5;

/** One customer's connection to one provider. Provider, client and tenant never change. Holds no secret. */
export interface Account {
  readonly id: AccountId;
  /** Random per created account: a deleted and re-created account is another one. */
  readonly incarnation: string;
  readonly tenant: string;
  readonly provider: string;
  /** Name of the OAuth client at the provider; empty for formats without one. */
  readonly client: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly displayName: string;
  /** Who it is at the vendor; empty when not known. */
  readonly externalSubject: string;
  readonly disabled: boolean;
  /** Non-secret facts: account fields given at creation, and those mapped from answers (`instance_url`, `realmId`). */
  readonly fields: Readonly<Record<string, string>>;
  readonly slots: Readonly<Record<string, SlotState>>;
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
  /** Written at most once an hour. */
  readonly lastUsedAtMs: number | undefined;
  /** The mark on what creation was given, for idempotent creation (`content-mark.ts`). */
  readonly contentHash: string;
  /** An authorization made it, and none has been completed yet; absent otherwise. */
  readonly pendingSinceMs?: number | undefined;
}

export type AccountStatus = "PENDING" | "ACTIVE" | "NEEDS_REAUTH" | "DISABLED";

/** The account's status, derived from its slots and the operator's switch. */
export function statusOf(account: Account): AccountStatus {
  if (account.disabled) return "DISABLED";
  const slots = Object.values(account.slots);
  if (slots.length === 0) return "PENDING";
  return slots.some((slot) => slot.state === "needs_reauth") ? "NEEDS_REAUTH" : "ACTIVE";
}

const ACCOUNT_ID = /^[A-Za-z0-9][A-Za-z0-9._~-]{0,127}$/;

/** What an account's id may be, in words. */
export const AN_ACCOUNT_ID = "1 to 128 of A-Z a-z 0-9 . _ ~ -, starting with a letter or digit";

export function isAccountId(text: string): boolean {
  return ACCOUNT_ID.test(text);
}

/** INVALID_REQUEST about `account_id`. */
export function requireAccountId(id: string): void {
  if (!isAccountId(id)) throw invalid("account_id", AN_ACCOUNT_ID);
}
