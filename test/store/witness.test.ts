import { describe, expect, it } from "vitest";
import { encode } from "../../src/store/codec.ts";
import { Witness } from "../../src/store/etcd/witness.ts";
import { eventMarkPath, eventPath, rootOf } from "../../src/store/keys.ts";
import type { KvRow } from "../../src/store/kv.ts";

const ROOT = rootOf("test");
const EVENT = ROOT + eventPath("refreshed", "000000007", "operation", 0);
const OWN = `${ROOT}audit-heads/me`;
const NOTHING = new Uint8Array();

function rowAt(key: string, revision: number, value: Uint8Array = NOTHING): KvRow {
  return { key, value, createRevision: revision, revision };
}

/** A store of which rows can be taken away, and a witness who has seen an event and a row of its own. */
function stage() {
  const rows = new Map([EVENT, OWN].map((key, n) => [key, rowAt(key, 10 + n)]));
  const setBacks: number[] = [];
  let isAway = false;
  let looks = 0;
  let meanwhile = () => {};
  const witness: Witness = new Witness({
    root: ROOT,
    read: async (reads) => {
      looks += 1;
      await Promise.resolve();
      meanwhile();
      if (isAway) throw new Error("away");
      const found = reads.map((read) => ("key" in read ? rows.get(read.key) : undefined));
      return { revision: 1_000, rows: found.map((row) => (row === undefined ? [] : [row])) };
    },
    onSetBack: (revision) => {
      setBacks.push(revision);
      witness.forget();
    },
  });
  for (const [n, row] of [...rows.values()].entries()) [witness.told, witness.wrote][n]?.call(witness, row);
  return {
    witness,
    rows,
    setBacks,
    looks: () => looks,
    away: (is: boolean) => (isAway = is),
    meanwhile: (work: () => void) => (meanwhile = work),
  };
}

describe("a witness", () => {
  it("asks nothing while no connection has ended", () => {
    const { witness, looks } = stage();
    expect(witness.sure()).toBeUndefined();
    expect(looks()).toBe(0);
  });

  it("is sure again when what it saw is there, and looks once for all who wait", async () => {
    const { witness, setBacks, looks } = stage();
    witness.doubt();
    await Promise.all([witness.sure(), witness.sure()]);
    expect([witness.sure(), looks(), setBacks]).toEqual([undefined, 1, []]);
  });

  it("tells whoever waited that the answer may be of the store as it was before", async () => {
    const { witness, rows } = stage();
    witness.doubt();
    expect(await witness.sure()).toBe(true);
    rows.delete(OWN);
    witness.doubt();
    expect(await witness.sure()).toBe(false);
  });

  it.each([
    { what: "the newest event", key: EVENT },
    { what: "its own row", key: OWN },
  ])("knows by $what that the store was set back, and says it once", async ({ key }) => {
    const { witness, rows, setBacks } = stage();
    rows.delete(key);
    for (let n = 0; n < 2; n += 1) {
      witness.doubt();
      await witness.sure();
    }
    expect(setBacks).toEqual([1_000]);
  });

  it("knows it by an older state of its own row", async () => {
    const { witness, rows, setBacks } = stage();
    rows.set(OWN, rowAt(OWN, 9));
    witness.doubt();
    await witness.sure();
    expect(setBacks).toEqual([1_000]);
  });

  it.each([
    { upTo: 10, finds: [] },
    { upTo: 9, finds: [1_000] },
  ])(
    "believes that the event was dropped when the janitor's mark, here $upTo, has reached it",
    async ({ upTo, finds }) => {
      const { witness, rows, setBacks } = stage();
      rows.delete(EVENT);
      const mark = ROOT + eventMarkPath("refreshed");
      rows.set(mark, rowAt(mark, 20, encode("event_mark", { storeRevision: upTo, index: 0 }, "nonce")));
      witness.doubt();
      await witness.sure();
      expect(setBacks).toEqual(finds);
    },
  );

  it("judges by its own row alone when a newer release's mark cannot be read", async () => {
    const { witness, rows, setBacks } = stage();
    rows.delete(EVENT);
    const mark = ROOT + eventMarkPath("refreshed");
    rows.set(mark, rowAt(mark, 20, new Uint8Array([255])));
    witness.doubt();
    await witness.sure();
    expect(setBacks).toEqual([]);
    rows.delete(OWN);
    witness.doubt();
    await witness.sure();
    expect(setBacks).toEqual([1_000]);
  });

  it("takes no event of a class that it does not know for proof", async () => {
    const { witness, setBacks } = stage();
    witness.told(rowAt(`${ROOT}events/newer/000000009/operation/000`, 12));
    witness.doubt();
    await witness.sure();
    expect(setBacks).toEqual([]);
  });

  it("stays in doubt while the store does not say, and takes nothing for proof that it is told meanwhile", async () => {
    const { witness, rows, setBacks, away } = stage();
    rows.delete(EVENT);
    witness.doubt();
    away(true);
    await expect(witness.sure()).rejects.toThrow("away");
    const later = rowAt(ROOT + eventPath("feed", "000000008", "later", 0), 1_001);
    rows.set(later.key, later);
    witness.told(later);
    away(false);
    await witness.sure();
    expect(setBacks).toEqual([1_000]);
  });

  it("looks again when a connection ends while it looks", async () => {
    const { witness, setBacks, looks, meanwhile } = stage();
    meanwhile(() => {
      if (looks() === 1) witness.doubt();
    });
    witness.doubt();
    await witness.sure();
    expect([looks(), setBacks]).toEqual([2, []]);
  });

  it("says nothing of a store that has shown itself to be another one while it was looked into", async () => {
    const { witness, rows, setBacks, meanwhile } = stage();
    rows.clear();
    meanwhile(() => witness.forget());
    witness.doubt();
    await witness.sure();
    expect([witness.sure(), setBacks]).toEqual([undefined, []]);
  });
});
