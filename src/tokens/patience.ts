import type { Clock } from "../clock.ts";
import { isReason } from "../errors.ts";
import { storeIsAway } from "./settle.ts";

const MAX_PAUSE_MS = 1_000;

/** The store or the KEK is away. */
export function mayPass(error: unknown): boolean {
  return storeIsAway(error) || isReason(error, "KEK_UNAVAILABLE");
}

/** `work`, again for as long as store or KEK are away, until `gone` aborts: what it writes down cannot be had again. */
export async function patiently<T>(clock: Clock, gone: AbortSignal, work: () => Promise<T>): Promise<T> {
  for (let pauseMs = 100; ; pauseMs = Math.min(pauseMs * 2, MAX_PAUSE_MS)) {
    gone.throwIfAborted();
    try {
      return await work();
    } catch (error) {
      if (!mayPass(error)) throw error;
      await clock.sleep(pauseMs, gone);
    }
  }
}
