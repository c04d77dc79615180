import { describe, expect, it } from "vitest";
import { Picks } from "../../src/tokens/permits.ts";
import { key } from "../../src/tokens/records.ts";

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
