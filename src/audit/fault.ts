import { KeyturnError } from "../errors.ts";

/** STATE_DISK_FULL when there is no room or no quota left, else STORE_UNAVAILABLE with the cause `audit`. */
export function auditFault(error: unknown): KeyturnError {
  if (error instanceof KeyturnError) return error;
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  const metadata = { cause: "audit" };
  if (code === "ENOSPC" || code === "EDQUOT") {
    return new KeyturnError("STATE_DISK_FULL", "The audit trail's disk is full; free some room.", {
      metadata,
      cause: error,
    });
  }
  const what = code === "" ? "" : ` (${code})`;
  return new KeyturnError("STORE_UNAVAILABLE", `The audit trail cannot be written${what}.`, {
    metadata,
    cause: error,
  });
}
