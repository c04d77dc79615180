import { describe, expect, it } from "vitest";
import { KekFloor } from "../../src/tokens/kek-floor.ts";
import { Keys } from "../../src/tokens/keys.ts";
import { key } from "../../src/tokens/records.ts";
import type { Store, Transaction } from "../../src/tokens/store.ts";
import { HOUR_MS, MINUTE_MS, SECOND_MS, Stage } from "./stage.ts";

const VERSIONS = [1, 2].map((version) => ({ version, createdAtMs: 0, state: "active" as const }));

const OPERATOR = { caller: "operator", purpose: "test" };
const KEK_ID = "fake:/";
const FLOOR = key("kek_floor", KEK_ID);

/** A sidecar whose store calls a test may hold up, and one beside it that turns the KEK over. */
async function stageOf(hold: Partial<Pick<Store, "write" | "scan">> = {}) {
  const holding = { ...hold };
  let inner: Store | undefined;
  const stage = await Stage.open({
    around: (world) => {
      const { store } = world;
      inner = store;
      const slow: Store = {
        read: (reads) => store.read(reads),
        write: async (transaction) => (await holding.write?.(transaction)) ?? store.write(transaction),
        scan: (kind, after, limit, shard) => store.scan(kind, after, limit, shard),
      };
      return { ...world, store: new KekFloor(slow, KEK_ID).store };
    },
  });
  const kek = {
    id: KEK_ID,
    versions: async () => ({ newest: stage.sealer.kekVersion, versions: VERSIONS }),
    rotate: async () => 2,
    retire: async () => undefined,
  };
  const other = (store: Store) => new Keys({ ...stage.world, store }, kek, stage.sealer);
  /** Rotates, rewraps and retires version 1, as another sidecar does. */
  const turnOver = async (store = inner) => {
    if (store === undefined) throw new Error("no store");
    stage.sealer.kekVersion = 2;
    const keys = other(store);
    for await (const _ of keys.rewrap(OPERATOR, 0, new AbortController().signal));
    await keys.retire(1);
  };
  return { stage, holding, turnOver, inner: () => inner };
}

/** Holds up the first transaction that `isIt` picks, until `go`. */
function once(isIt: (transaction: Transaction) => boolean) {
  const held = Promise.withResolvers<void>();
  const { promise: gone, resolve: go } = Promise.withResolvers<void>();
  let isFirst = true;
  const write = async (transaction: Transaction) => {
    if (isFirst && isIt(transaction)) {
      isFirst = false;
      held.resolve();
      await gone;
    }
    return undefined as never;
  };
  return { write, held: held.promise, go };
}

const puts = (kind: string) => (transaction: Transaction) =>
  transaction.writes.some((write) => "put" in write && write.put.kind === kind);

describe("a KEK version that is retired while something is on its way into the store under it", () => {
  it("refuses a credential that was sealed before, and takes it sealed anew", async () => {
    const { stage, holding, turnOver } = await stageOf();
    await stage.connect("acme", HOUR_MS);
    const { write, held, go } = once(puts("credential"));
    holding.write = write;
    const late = stage.putCredential("acme", "new", "new-rt").catch((error: unknown) => error);
    await stage.within(MINUTE_MS, held);
    await stage.within(MINUTE_MS, turnOver());
    go();
    expect(await stage.within(MINUTE_MS, late)).toMatchObject({
      reason: "STORE_UNAVAILABLE",
      metadata: { cause: "kek_version_retiring" },
    });
    expect(stage.slot("acme").generation).toBe(1);
    await stage.within(MINUTE_MS, stage.putCredential("acme", "new", "new-rt"));
    expect(
      stage.store.readNow([key("credential", "acme", "default")]).all("credential")[0]?.value,
    ).toMatchObject({ generation: 2, sealed: { kekVersion: 2 } });
  });

  it("refuses an attempt whose answer would be sealed under it: nothing is sent, and the next one is under the newest", async () => {
    const { stage, holding, turnOver } = await stageOf();
    await stage.connect("acme");
    const { write, held, go } = once(puts("attempt"));
    holding.write = write;
    const asked = stage.get("acme", { deadlineMs: MINUTE_MS });
    await stage.within(MINUTE_MS, held);
    await stage.within(MINUTE_MS, turnOver());
    go();
    expect(await stage.within(MINUTE_MS, asked)).toMatchObject({ reason: "STORE_UNAVAILABLE" });
    expect(stage.vendors.sent).toHaveLength(0);
    await stage.pass(5 * SECOND_MS);
    expect((await stage.ask("acme")).token).toMatch(/^at-/);
    expect(stage.vendors.sent).toHaveLength(1);
  });

  it("stays as it was when its end is refused, and goes on taking what is sealed under it", async () => {
    const { stage, turnOver } = await stageOf();
    await stage.connect("slow");
    stage.vendors.next.push({ kind: "grant", afterMs: 20 * SECOND_MS });
    const asked = stage.get("slow", { deadlineMs: MINUTE_MS });
    await stage.pass(SECOND_MS);
    await expect(stage.within(MINUTE_MS, turnOver())).rejects.toThrow(/open attempts of instance here/);
    expect(stage.store.readNow([FLOOR]).get(FLOOR)).toBeUndefined();
    stage.sealer.kekVersion = 1;
    await stage.connect("again", HOUR_MS);
    expect((await stage.within(MINUTE_MS, asked)).token).toMatch(/^at-/);
  });

  it("is not retired when an exchange under it ends while its uses are counted", async () => {
    const { stage, turnOver, inner } = await stageOf();
    await stage.connect("slow");
    const store = inner();
    if (store === undefined) throw new Error("no store");
    stage.vendors.next.push({ kind: "grant", afterMs: 20 * SECOND_MS });
    const asked = stage.get("slow", { deadlineMs: MINUTE_MS });
    await stage.pass(SECOND_MS);
    const seen = new Set<string>();
    let isCounting = false;
    const counted: Store = {
      read: (reads) => store.read(reads),
      write: (transaction) => {
        isCounting ||= puts("kek_floor")(transaction);
        return store.write(transaction);
      },
      scan: async (kind, after, limit, shard) => {
        if (isCounting) seen.add(kind);
        // Between the first kind and the second one the answer comes and is committed.
        while (isCounting && seen.size === 2 && stage.slot("slow").generation === 1)
          await stage.world.clock.sleep(SECOND_MS);
        return store.scan(kind, after, limit, shard);
      },
    };
    await expect(stage.within(MINUTE_MS, turnOver(counted))).rejects.toThrow(/under version 1/);
    expect((await stage.within(MINUTE_MS, asked)).token).toMatch(/^at-/);
  });
});
