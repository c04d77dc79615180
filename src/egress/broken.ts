import { KeyturnError } from "../errors.ts";

/** An answer that ended before its end. */
export function brokenOff(cause: string, error?: unknown): KeyturnError {
  return new KeyturnError("PROVIDER_UNAVAILABLE", "The provider's answer broke off before its end.", {
    metadata: { cause },
    cause: error,
  });
}
