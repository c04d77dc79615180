import { hostname } from "node:os";
import type { Audit } from "./audit/audit.ts";
import type { ChainHead } from "./audit/record.ts";
import type { Clock } from "./clock.ts";
import type { Log } from "./log.ts";
import type { OpenStore } from "./stores.ts";
import { inTime } from "./tokens/in-time.ts";
import { key } from "./tokens/records.ts";

const EVERY_MS = 60_000;
const END_WITHIN_MS = 2_000;
const CUT = "audit.tail_missing";

/** The newest record of this instance's trail that the store was told of, and at which of its revisions; 0: none. */
export interface KnownHead {
  readonly head: ChainHead | undefined;
  readonly revision: number;
}

export async function knownHead({ store }: OpenStore, instance: string): Promise<KnownHead> {
  const at = key("audit_head", instance);
  const entry = (await store.read([at])).get(at);
  if (entry === undefined) return { head: undefined, revision: 0 };
  return { head: { seq: entry.value.seq, hash: entry.value.hash }, revision: entry.revision };
}

/** A trail that ends before what the store remembers was cut while nobody looked; that goes into the trail itself. */
export async function noticeCut(audit: Audit, remembered: ChainHead | undefined, log: Log): Promise<void> {
  const { seq, hash } = audit.head();
  if (
    remembered === undefined ||
    seq > remembered.seq ||
    (seq === remembered.seq && hash === remembered.hash)
  )
    return;
  log("the audit trail has lost its end", { found: seq, remembered: remembered.seq });
  const detail = {
    found_seq: String(seq),
    remembered_seq: String(remembered.seq),
    remembered_hash: remembered.hash,
  };
  await audit.record({ operation: CUT, outcome: "found", caller: "keyturn", purpose: "start", detail });
}

export interface HousekeepingDeps {
  readonly store: OpenStore;
  readonly audit: Audit;
  readonly instance: string;
  readonly clock: Clock;
  readonly newId: () => string;
  readonly log: Log;
  /** Whether it is this one that drops old events. */
  readonly sweeps: () => boolean;
  /** Tells the store what this instance's journal needs. */
  readonly tellMark: () => Promise<void>;
  /** The store has taken the audit trail's head, at this revision. */
  readonly headTaken: (revision: number) => void;
}

export interface Housekeeping {
  /** Ends it, when the store has learnt the trail's last head, if that is soon. */
  stop(): Promise<void>;
}

/**
 * Every minute the store learns the audit chain's head, so that a cut tail is found, and the journal's mark, and old
 * events go. What fails is tried again the next minute, and keeps nothing else from being done.
 */
export function keepHouse(deps: HousekeepingDeps): Housekeeping {
  const { store, clock, log, sweeps, tellMark } = deps;
  const ending = new AbortController();
  const { signal } = ending;
  const tried = async (failure: string, work: () => Promise<unknown>) => {
    await work().catch((error: unknown) => log(failure, { host: hostname() }, error));
  };
  const headTold = () => tried("the audit trail's head is not told", () => tellHead(deps));
  const run = async () => {
    while (!signal.aborted) {
      await headTold();
      if (!signal.aborted) await tried("the journal's mark is not told", tellMark);
      if (!signal.aborted && sweeps()) await tried("old events are not dropped", () => store.sweep(signal));
      await clock.sleep(EVERY_MS, signal).catch(() => undefined);
    }
  };
  const running = run();
  return {
    stop: async () => {
      ending.abort();
      await inTime(clock, END_WITHIN_MS, running.then(headTold));
    },
  };
}

async function tellHead({
  store,
  audit,
  instance,
  clock,
  newId,
  headTaken,
}: HousekeepingDeps): Promise<void> {
  const { seq, hash } = audit.head();
  const at = key("audit_head", instance);
  const value = { instance, seq, hash, atMs: clock.now() };
  const writes = [{ put: at, value }];
  const { view } = await store.store.write({ nonce: newId(), expect: [], writes, events: [], reads: [at] });
  const revision = view.get(at)?.revision;
  if (revision === undefined) return;
  store.remember(at, revision);
  headTaken(revision);
}
