import { KeyturnError } from "../errors.ts";

/** STORE_UNAVAILABLE. `ambiguous`: the transaction may have landed. */
export function unavailable(
  cause: string,
  message: string,
  ambiguous: boolean,
  error?: unknown,
): KeyturnError {
  return new KeyturnError("STORE_UNAVAILABLE", message, {
    metadata: ambiguous ? { cause, ambiguous: "true" } : { cause },
    retryAfterMs: 1_000,
    cause: error,
  });
}
