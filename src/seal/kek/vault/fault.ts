import { KeyturnError } from "../../../errors.ts";

/** Why Vault did not do what it was asked: the `cause` in the metadata of a KEK_UNAVAILABLE. */
export type VaultCause =
  | "sealed"
  | "standby"
  | "denied"
  | "key_missing"
  | "key_unfit"
  | "rate_limited"
  | "timeout"
  | "unreachable"
  | "tls"
  | "login_refused"
  | "login_unreadable"
  | "refused"
  | "bad_answer"
  | "backend_error";

const RETRY_MS = 1_000;
/** Where only an operator can help, asking every second would only be noise. */
const RETRY_SLOWLY_MS = 10_000;
const PASSES: readonly VaultCause[] = [
  "sealed",
  "standby",
  "timeout",
  "unreachable",
  "bad_answer",
  "backend_error",
];

export interface VaultFaultDetail {
  /** Vault's own wish. */
  readonly retryAfterMs?: number | undefined;
  /** HTTP status; undefined when there was no answer. */
  readonly status?: number;
}

/**
 * KEK_UNAVAILABLE; `what` continues the sentence "Vault …". Quotes neither request nor answer and carries no other
 * error: those of the packages below hold the token and the plaintext.
 */
export function vaultFault(why: VaultCause, what: string, detail: VaultFaultDetail = {}): KeyturnError {
  const { retryAfterMs = PASSES.includes(why) ? RETRY_MS : RETRY_SLOWLY_MS, status } = detail;
  return new KeyturnError("KEK_UNAVAILABLE", `Vault ${what}.`, {
    metadata: { cause: why, ...(status === undefined ? {} : { status: String(status) }) },
    retryAfterMs,
  });
}

/** True for a KEK_UNAVAILABLE of one of these causes. */
export function isVaultFault(error: unknown, ...causes: readonly VaultCause[]): error is KeyturnError {
  return (
    error instanceof KeyturnError &&
    error.reason === "KEK_UNAVAILABLE" &&
    causes.some((cause) => cause === error.metadata.cause)
  );
}

/** What an answer of `status` means; `texts` are Vault's own words, which are looked at and not passed on. */
export function faultOfAnswer(status: number, texts: readonly string[]): KeyturnError {
  const says = (word: RegExp) => texts.some((text) => word.test(text));
  if (status === 403) return vaultFault("denied", "denies it: look at token and policy", { status });
  if (status === 404 || says(/encryption key not found|no handler for route/)) {
    return vaultFault("key_missing", "has no such key, or nothing is mounted there", { status });
  }
  if (status === 503 && says(/sealed/i)) return vaultFault("sealed", "is sealed", { status });
  if (says(/standby|node not active/i)) {
    return vaultFault("standby", "is a standby node that knows no active one", { status });
  }
  if (status >= 400 && status < 500)
    return vaultFault("refused", `refuses the request (${status})`, { status });
  return vaultFault("backend_error", `failed (${status})`, { status });
}
