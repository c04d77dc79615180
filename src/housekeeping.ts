import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import type { Audit } from "./audit/audit.ts";
import type { ChainHead } from "./audit/record.ts";
import type { Clock } from "./clock.ts";
import type { Log } from "./log.ts";
import type { OpenStore } from "./stores.ts";
import { key } from "./tokens/records.ts";

const EVERY_MS = 60_000;
const CUT = "audit.tail_missing";

/** The newest record of this instance's trail that the store was told of. */
export async function rememberedHead({ store }: OpenStore, instance: string): Promise<ChainHead | undefined> {
  const at = key("audit_head", instance);
  const head = (await store.read([at])).get(at)?.value;
  return head === undefined ? undefined : { seq: head.seq, hash: head.hash };
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

/** Old events go, and the store learns the audit chain's head, so that a cut tail is found. */
export function keepHouse(
  store: OpenStore,
  audit: Audit,
  also: () => Promise<void>,
  instance: string,
  clock: Clock,
  log: Log,
  sweeps: () => boolean,
): AbortController {
  const stop = new AbortController();
  const at = key("audit_head", instance);
  const once = async () => {
    if (sweeps()) await store.sweep();
    const { seq, hash } = audit.head();
    const nonce = randomBytes(12).toString("base64url");
    const value = { instance, seq, hash, atMs: clock.now() };
    await store.store.write({ nonce, expect: [], writes: [{ put: at, value }], events: [], reads: [] });
    await also();
  };
  const run = async () => {
    while (!stop.signal.aborted) {
      await once().catch((error: unknown) => log("housekeeping failed", { host: hostname() }, error));
      await clock.sleep(EVERY_MS, stop.signal).catch(() => undefined);
    }
  };
  void run();
  return stop;
}
