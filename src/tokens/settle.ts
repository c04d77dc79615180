import type { Clock } from "../clock.ts";
import { isReason } from "../errors.ts";
import type { Store, Transaction, TransactionResult } from "./store.ts";

/** True when a store call failed in a way that may pass. */
export function storeIsAway(error: unknown): boolean {
  return isReason(error, "STORE_UNAVAILABLE", "STORE_FULL", "STATE_DISK_FULL");
}

/** True when a transaction that threw `error` may have landed all the same. */
export function isAmbiguous(error: unknown): boolean {
  return isReason(error, "STORE_UNAVAILABLE") && error.metadata["ambiguous"] === "true";
}

/**
 * Sends one transaction, identically again after an ambiguous failure, until the store says whether it landed or
 * `untilBootMs` has passed, or until it fails for certain. The error is ambiguous when any of the failures was: what
 * was certainly not taken the last time may have been taken before.
 */
export async function settle(
  deps: { readonly store: Store; readonly clock: Clock },
  transaction: Transaction,
  untilBootMs: number,
): Promise<TransactionResult> {
  let doubt: unknown;
  for (let pauseMs = 50; ; pauseMs = Math.min(pauseMs * 2, 1_000)) {
    try {
      return await deps.store.write(transaction);
    } catch (error) {
      if (isAmbiguous(error)) doubt = error;
      if (!isAmbiguous(error) || deps.clock.boot() + pauseMs >= untilBootMs) throw doubt ?? error;
      await deps.clock.sleep(pauseMs);
    }
  }
}
