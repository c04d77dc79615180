/**
 * Every way an operation can fail that a caller may act on. The list is closed and part of the public contract:
 * a reason never changes its meaning, and `rpc/` maps each to exactly one gRPC code.
 */
export type Reason =
  | "ACCOUNT_NOT_FOUND"
  | "PROVIDER_NOT_FOUND"
  | "CLIENT_NOT_FOUND"
  | "ACCOUNT_PENDING"
  | "ACCOUNT_DISABLED"
  | "REAUTHORIZATION_REQUIRED"
  | "CLIENT_MISCONFIGURED"
  | "CLIENT_ON_HOLD"
  | "IDENTITY_MISMATCH"
  | "TOKEN_NOT_PORTABLE"
  | "PROVIDER_UNAVAILABLE"
  | "REFRESH_UNCERTAIN"
  | "STORE_UNAVAILABLE"
  | "KEK_UNAVAILABLE"
  | "SHUTTING_DOWN"
  | "PROVIDER_RATE_LIMITED"
  | "CALLER_RATE_LIMITED"
  | "SUBSCRIBER_TOO_SLOW"
  | "BODY_TOO_LARGE"
  | "STORE_FULL"
  | "STATE_DISK_FULL"
  | "INVALID_REQUEST"
  | "AUTHORIZATION_STATE_INVALID"
  | "CALLER_NOT_ALLOWED"
  | "DESTINATION_NOT_ALLOWED"
  | "AUTHORIZATION_DENIED"
  | "CALLER_UNKNOWN"
  | "CURSOR_EXPIRED"
  | "REVISION_MISMATCH"
  | "ACCOUNT_ALREADY_EXISTS"
  | "WAIT_TIMED_OUT"
  | "INTERNAL_ERROR"
  | "SEAL_INVALID"
  | "KEK_MISMATCH";

/** One faulty input: the dotted path of the field, what is wrong with it and what would be right. */
export interface FieldViolation {
  readonly field: string;
  readonly description: string;
}

/** A vendor's throttling in one form, whatever headers it came in. Undefined members were not said. */
export interface RateLimit {
  /** Requests allowed per window. */
  readonly limit: number | undefined;
  readonly remaining: number | undefined;
  /** Until the window resets, in milliseconds from when the answer was received. */
  readonly resetAfterMs: number | undefined;
  /** The vendor's `Retry-After`, in milliseconds; it wins over `resetAfterMs`. */
  readonly retryAfterMs: number | undefined;
}

export interface ErrorDetail {
  /** Machine-readable context for the caller (`cause`, `account_id`, `provider` …). Never a secret. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** When trying again makes sense, in milliseconds from now. Undefined: the answer will not change by waiting. */
  readonly retryAfterMs?: number | undefined;
  readonly violations?: readonly FieldViolation[];
  readonly rateLimit?: RateLimit | undefined;
  /** For the log only; it never reaches a caller. */
  readonly cause?: unknown;
}

/** The one error class of the product. Anything else that is thrown is a bug and reaches callers as INTERNAL. */
export class KeyturnError extends Error {
  readonly reason: Reason;
  readonly metadata: Readonly<Record<string, string>>;
  readonly retryAfterMs: number | undefined;
  readonly violations: readonly FieldViolation[];
  readonly rateLimit: RateLimit | undefined;

  /** `message` is read by callers: a plain sentence saying what is wrong and what to do. Never a secret. */
  constructor(reason: Reason, message: string, detail: ErrorDetail = {}) {
    super(message, detail.cause === undefined ? undefined : { cause: detail.cause });
    this.name = "KeyturnError";
    this.reason = reason;
    this.metadata = detail.metadata ?? {};
    this.retryAfterMs = detail.retryAfterMs;
    this.violations = detail.violations ?? [];
    this.rateLimit = detail.rateLimit;
  }
}

/** The same error, saying more. */
export function withMetadata(error: KeyturnError, more: Readonly<Record<string, string>>): KeyturnError {
  const { reason, message, retryAfterMs, violations, rateLimit, cause } = error;
  const metadata = { ...error.metadata, ...more };
  return new KeyturnError(reason, message, { metadata, retryAfterMs, violations, rateLimit, cause });
}

/** INVALID_REQUEST for one field. */
export function invalid(field: string, description: string): KeyturnError {
  return new KeyturnError("INVALID_REQUEST", `${field}: ${description}`, {
    violations: [{ field, description }],
  });
}

/** True when `error` is ours and carries one of `reasons`. */
export function isReason(error: unknown, ...reasons: readonly Reason[]): error is KeyturnError {
  return error instanceof KeyturnError && reasons.includes(error.reason);
}

/** Why a file was not read, for whoever named it; what it is that was wanted, when the error does not tell. */
export function whyUnread(error: unknown): string {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code === "ENOENT" || code === "ENOTDIR") return "there is no such file or directory";
  if (code === "EISDIR") return "a file, not a directory";
  if (code === "EACCES" || code === "EPERM") return "this user may not read the file";
  return "a file that can be read";
}
