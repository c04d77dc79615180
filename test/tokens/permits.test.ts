import { describe, expect, it } from "vitest";
import { Picks } from "../../src/tokens/permits.ts";
import { type KeyOf, key } from "../../src/tokens/records.ts";
import type { Transaction } from "../../src/tokens/store.ts";
import { Stage } from "./stage.ts";

const permit = (n: string) => key("permit", "acme", "main", n);
const numberOf = (found: ReturnType<typeof permit> | undefined) => found?.parts[2];

describe("the numbers of a cap", () => {
  it("are never wanted twice by one process, however many it takes at once", () => {
    const picks = new Picks(() => 0.5);
    const taken = new Set(["3"]);
    const found = Array.from({ length: 9 }, () => numberOf(picks.pick(permit, taken, 10)));
    expect(new Set(found).size).toBe(9);
    expect(found).not.toContain("3");
    expect(picks.pick(permit, taken, 10)).toBeUndefined();
  });

  it("are free again when they are let go, and each cap has its own", () => {
    const picks = new Picks(() => 0);
    const first = picks.pick(permit, new Set(), 1);
    expect(numberOf(first)).toBe("0");
    expect(picks.pick(permit, new Set(), 1)).toBeUndefined();
    expect(picks.pick((n) => key("permit", "acme", "other", n), new Set(), 1)).toBeDefined();
    expect(picks.pick((n) => key("budget", "acme", "main", n), new Set(), 1)).toBeDefined();
    picks.letGo(first);
    expect(numberOf(picks.pick(permit, new Set(), 1))).toBe("0");
  });

  it("begin where the process's own luck says, so that two processes seldom want the same", () => {
    const at = (luck: number) => numberOf(new Picks(() => luck).pick(permit, new Set(), 16));
    expect([at(0), at(0.5), at(0.99)]).toEqual(["0", "8", "15"]);
  });
});

describe("a permit that somebody else takes a moment earlier", () => {
  const permitIn = ({ writes }: Transaction): KeyOf<"permit"> | undefined =>
    writes.flatMap((write) => ("put" in write && write.put.kind === "permit" ? [write.put] : []))[0];

  /** Every permit that the sidecar is about to take for the first time is another sidecar's, `times` times. */
  async function contested(maxConcurrent: number, times: number) {
    const others: KeyOf<"permit">[] = [];
    let locks = 0;
    const stage: Stage = await Stage.open({
      caps: { maxConcurrent },
      store: (store) => ({
        write: async (transaction) => {
          if (transaction.writes.some((write) => "put" in write && write.put.kind === "lock")) locks += 1;
          const permit = permitIn(transaction);
          if (permit !== undefined && others.length < times) {
            others.push(permit);
            const taken = { attemptId: "theirs", instance: "there" };
            const nonce = `theirs-${others.length}`;
            const writes = [{ put: permit, value: taken }];
            await store.write({ nonce, expect: [], writes, events: [], reads: [] });
          }
          return store.write(transaction);
        },
      }),
    });
    await stage.connect("a");
    return { stage, others, locks: () => locks };
  }

  it("costs another number, not another lock, and only the own one is given back", async () => {
    const { stage, others, locks } = await contested(8, 3);
    expect(await stage.ask("a")).toMatchObject({ token: "at-1" });
    expect([locks(), others.length, stage.vendors.sent.length]).toEqual([1, 3, 1]);
    const left = stage.store.readNow([{ under: "permit", parts: ["vendor", "main"] }]).all("permit");
    expect(left.map(({ value }) => value.attemptId)).toEqual(["theirs", "theirs", "theirs"]);
    expect(stage.leftovers("a")).toEqual([]);
  });

  it("and the last one at that, sends nothing and leaves nothing behind", async () => {
    const { stage } = await contested(2, 2);
    expect((await stage.ask("a")).reason).toBe("PROVIDER_RATE_LIMITED");
    expect(stage.vendors.sent).toEqual([]);
    expect(stage.leftovers("a")).toEqual([]);
    expect(stage.journal.kept.size).toBe(0);
  });
});
