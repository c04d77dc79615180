import type { Clock } from "../clock.ts";
import { EAR_MS } from "./limits.ts";

/** A turn of the event loop: what lies in a socket is read before this has passed. */
const ARRIVED_MS = 1;

/** For how long a provider is listened to. */
export interface Ear {
  /** Aborts when nothing is listened for any more. */
  readonly signal: AbortSignal;
  /** It was heard, or will not be. */
  close(): void;
}

/**
 * Opens an ear for one exchange. A process that stood still finds that its time is up before it finds the answer that has
 * arrived meanwhile: that one is heard all the same.
 */
export function openEar(clock: Clock): Ear {
  const ear = new AbortController();
  const heard = new AbortController();
  const listen = async () => {
    await clock.sleep(EAR_MS, heard.signal);
    await clock.sleep(ARRIVED_MS, heard.signal);
    ear.abort();
  };
  // Rejects when it was heard.
  listen().catch(() => undefined);
  return { signal: ear.signal, close: () => heard.abort("heard") };
}
