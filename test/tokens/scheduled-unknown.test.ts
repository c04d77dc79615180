import { describe, expect, it } from "vitest";
import type { Store } from "../../src/tokens/store.ts";
import { HOUR_MS, MINUTE_MS, Stage } from "./stage.ts";

const ACCOUNTS = 60;

/** A sidecar that starts beside accounts nobody has asked it for, all of them overdue; how often it reads and locks. */
async function started(around: (stage: Stage) => Promise<unknown> = async () => undefined) {
  const counts = { reads: 0, locks: 0 };
  const counting = (store: Store): Partial<Store> => ({
    read: (reads) => {
      counts.reads += 1;
      return store.read(reads);
    },
    write: (transaction) => {
      const isLock = transaction.writes.some((write) => "put" in write && write.put.kind === "lock");
      if (isLock) counts.locks += 1;
      return store.write(transaction);
    },
  });
  const stage = await Stage.open({
    caps: { maxConcurrent: 1 },
    store: counting,
  });
  for (let n = 0; n < ACCOUNTS; n += 1) await stage.connect(`a-${n}`);
  await around(stage);
  stage.kill();
  stage.revive();
  stage.vendors.lifetimeMs = 24 * HOUR_MS;
  Object.assign(counts, { reads: 0, locks: 0 });
  await stage.start();
  await stage.pass(5 * MINUTE_MS);
  return { stage, counts };
}

describe("an account that nobody has asked for", () => {
  it("is read once by its scheduled refresh, under its lock, and sent once", async () => {
    const { stage, counts } = await started();
    expect(stage.vendors.sent).toHaveLength(ACCOUNTS);
    expect(counts.locks).toBe(ACCOUNTS);
    // Two for each of the first few, as long as their client is not known.
    expect(counts.reads).toBeLessThan(ACCOUNTS / 2);
  });

  it("is not locked while its client is on hold", async () => {
    const hold = (stage: Stage) => stage.heart.clients.hold("vendor", "main", "migrating", "operator");
    const { stage, counts } = await started(hold);
    expect([stage.vendors.sent.length, counts.locks]).toEqual([0, 0]);
  });
});
