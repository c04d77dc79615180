import type { Reason } from "../errors.ts";

/** The exit codes, a promise to scripts. */
export const EXIT = {
  done: 0,
  /** Or only partly done. */
  failed: 1,
  /** Usage or configuration: the command, a file or a value given has to change. */
  usage: 2,
  notFound: 3,
  /** The sidecar or something behind it is unavailable: the same command may work later. */
  unavailable: 4,
  reauthorize: 5,
  interrupted: 130,
} as const;

// Exhaustive on purpose: a new Reason does not compile until it has an exit code.
const OF_REASON: Readonly<Record<Reason, number>> = {
  ACCOUNT_NOT_FOUND: EXIT.notFound,
  PROVIDER_NOT_FOUND: EXIT.notFound,
  CLIENT_NOT_FOUND: EXIT.notFound,
  ACCOUNT_PENDING: EXIT.failed,
  ACCOUNT_DISABLED: EXIT.failed,
  REAUTHORIZATION_REQUIRED: EXIT.reauthorize,
  CLIENT_MISCONFIGURED: EXIT.failed,
  CLIENT_ON_HOLD: EXIT.failed,
  IDENTITY_MISMATCH: EXIT.failed,
  TOKEN_NOT_PORTABLE: EXIT.failed,
  PROVIDER_UNAVAILABLE: EXIT.unavailable,
  REFRESH_UNCERTAIN: EXIT.unavailable,
  STORE_UNAVAILABLE: EXIT.unavailable,
  KEK_UNAVAILABLE: EXIT.unavailable,
  SHUTTING_DOWN: EXIT.unavailable,
  PROVIDER_RATE_LIMITED: EXIT.unavailable,
  CALLER_RATE_LIMITED: EXIT.unavailable,
  SUBSCRIBER_TOO_SLOW: EXIT.failed,
  BODY_TOO_LARGE: EXIT.failed,
  STORE_FULL: EXIT.unavailable,
  STATE_DISK_FULL: EXIT.unavailable,
  INVALID_REQUEST: EXIT.usage,
  AUTHORIZATION_STATE_INVALID: EXIT.usage,
  CALLER_NOT_ALLOWED: EXIT.failed,
  DESTINATION_NOT_ALLOWED: EXIT.failed,
  AUTHORIZATION_DENIED: EXIT.failed,
  CALLER_UNKNOWN: EXIT.failed,
  CURSOR_EXPIRED: EXIT.failed,
  REVISION_MISMATCH: EXIT.failed,
  ACCOUNT_ALREADY_EXISTS: EXIT.failed,
  WAIT_TIMED_OUT: EXIT.unavailable,
  INTERNAL_ERROR: EXIT.failed,
  SEAL_INVALID: EXIT.failed,
  KEK_MISMATCH: EXIT.failed,
};

/** For a reason of the closed list; undefined for one that this version does not know. */
export function exitOfReason(reason: string): number | undefined {
  return Object.hasOwn(OF_REASON, reason) ? OF_REASON[reason as Reason] : undefined;
}
