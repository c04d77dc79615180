import { KeyturnError } from "../../errors.ts";
import { unavailable } from "../unavailable.ts";

/** What went wrong with one call, as far as it matters here. */
export type Failure =
  /** Nobody has taken the request: another endpoint may. */
  | "not_sent"
  /** The endpoint does not take this sidecar's certificate, or its lack of one; another may. */
  | "unwelcome"
  /** The lease that a put names is not there; nothing landed. */
  | "no_lease"
  /** The token of the login is old; nothing landed. */
  | "login_expired"
  | "denied"
  | "full"
  | "busy"
  | "too_large"
  /** It may have landed. */
  | "doubtful";

/** TLS alerts about a certificate (RFC 8446, 6.2): they come from the other side. */
const CERTIFICATE_REFUSED = /SSL alert number (42|43|44|45|46|48|49|116)\b/;
const PERMISSION_DENIED = 7;
const UNAUTHENTICATED = 16;

/**
 * etcd3 drops the status code of some errors and keeps the text of all: `14 UNAVAILABLE: …`. Whatever is not certainly
 * something else is doubtful.
 */
export function failureOf(error: unknown): Failure {
  const text = textOf(error);
  if (CERTIFICATE_REFUSED.test(text)) return "unwelcome";
  if (/No connection established|Name resolution failed|Channel closed before call/i.test(text))
    return "not_sent";
  if (text.includes("requested lease not found")) return "no_lease";
  if (/invalid auth token|revision of auth store is old/.test(text)) return "login_expired";
  if (/permission denied|authentication (failed|is not enabled)|user name is empty/.test(text))
    return "denied";
  if (text.includes("database space exceeded")) return "full";
  if (text.includes("too many requests")) return "busy";
  if (/request is too large|too many operations in txn|message larger than max/.test(text))
    return "too_large";
  const code = Number(/(\d+) [A-Z_]+: /.exec(text)?.[1]);
  if (code === PERMISSION_DENIED || code === UNAUTHENTICATED) return "denied";
  return "doubtful";
}

/** The error that callers get. `mayHaveLanded`: the call was a transaction that writes. */
export function errorOf(failure: Failure, error: unknown, mayHaveLanded: boolean): KeyturnError {
  switch (failure) {
    case "full":
      return new KeyturnError(
        "STORE_FULL",
        "etcd's quota is used up and it refuses writes. Compact, defragment and disarm its alarm, or raise --quota-backend-bytes.",
        { metadata: { cause: "etcd_no_space" }, cause: error },
      );
    case "too_large":
      return new KeyturnError("INTERNAL_ERROR", "etcd takes no request of this size; nothing was written.", {
        metadata: { cause: "store_request_too_large" },
        cause: error,
      });
    case "unwelcome":
    case "denied":
    case "login_expired":
      return unavailable(
        "etcd_denied",
        "etcd refuses this sidecar: look at its user, role and certificate.",
        false,
        error,
      );
    case "busy":
      return unavailable("etcd_busy", "etcd has too many requests waiting.", false, error);
    case "no_lease":
      return unavailable("etcd_lease_lost", "A lease ended before the record was written.", false, error);
    case "not_sent":
      return unavailable("etcd_unreachable", "etcd cannot be reached.", false, error);
    case "doubtful":
      return unavailable("etcd_no_answer", "etcd did not answer in time.", mayHaveLanded, error);
  }
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
