import type { Clock } from "../clock.ts";
import type { Consents } from "./consent.ts";
import type { Journal } from "./journal.ts";
import type { Actor, Sealer } from "./sealing.ts";
import type { EventLog, Store } from "./store.ts";
import type { AnswerVault, RenderAnswer } from "./token.ts";
import type { Vendors } from "./vendor.ts";

/** What went wrong without a caller to tell it to. Never a secret. */
export type Report = (
  what: string,
  context: Readonly<Record<string, string | number>>,
  cause?: unknown,
) => void;

/** Everything the heart knows of the world outside it; made once, at the composition root. */
export interface World {
  /** This state directory's identity: the same after a restart on the same disk. */
  readonly instance: string;
  readonly clock: Clock;
  /** Jitter, in [0, 1). */
  readonly random: () => number;
  /** Unique identifiers; not key material. */
  readonly newId: () => string;
  readonly store: Store;
  readonly events: EventLog;
  readonly sealer: Sealer;
  readonly journal: Journal;
  readonly vendors: Vendors;
  readonly consents: Consents;
  readonly vault: AnswerVault;
  readonly render: RenderAnswer;
  readonly report: Report;
  /** Whether a sidecar of another instance has left, so that nobody waits for its locks. Undefined: there is no other. */
  readonly isGone?: (instance: string) => Promise<boolean>;
  /** True while the store's state is one of the past: nothing is refreshed whose refresh must not be sent twice. */
  readonly isHeld?: () => boolean;
  /** Remembered accounts; the least recently used go first. */
  readonly maxKnownAccounts: number;
  /** How old what is remembered may be while the store is away. Undefined: tokens are served until they expire. */
  readonly maxStaleMs?: number;
  /** Refreshes at one token endpoint at a time when neither client nor provider file says otherwise. */
  readonly defaultMaxConcurrent: number;
}

/** Our own work, as the audit trail names it. */
export const OWN_WORK: Actor = { caller: "keyturn", purpose: "refresh" };
