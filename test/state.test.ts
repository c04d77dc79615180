import { rmSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { checkEpoch, instanceOf, isRestored, placeOf, rememberStore, storeSeen } from "../src/state.ts";
import { tempFolder } from "./fakes/temp-folder.ts";

describe("a state directory", () => {
  it("knows the store again by its identity, and that another one was restored from it", () => {
    const folder = tempFolder();
    checkEpoch(folder, "epoch", 0, false);
    expect(isRestored(storeSeen(folder), "epoch-1", 0)).toBe(false);
    rememberStore(folder, { revision: 7, identity: "epoch-1", headRevision: 5 });
    const seen = storeSeen(folder);
    expect(seen.revision).toBe(7);
    expect([isRestored(seen, "epoch-1", 5), isRestored(seen, "epoch-2", 5)]).toEqual([false, true]);
  });

  it("knows that the store was restored by its own trail's head, which is an older one there, or none", () => {
    const folder = tempFolder();
    rememberStore(folder, { revision: 7, identity: "epoch-1", headRevision: 5 });
    const found = [0, 4, 5, 6].map((headRevision) => isRestored(storeSeen(folder), "epoch-1", headRevision));
    expect(found).toEqual([true, true, false, false]);
  });

  it("does not look for the head of an instance that it was copied from", () => {
    const folder = tempFolder();
    instanceOf(folder);
    rememberStore(folder, { revision: 7, identity: "epoch-1", headRevision: 5 });
    rmSync(join(folder, "instance"));
    instanceOf(folder);
    expect(isRestored(storeSeen(folder), "epoch-1", 0)).toBe(false);
  });

  it("forgets all of it with the database that they were of", () => {
    const folder = tempFolder();
    checkEpoch(folder, "epoch", 0, false);
    rememberStore(folder, { revision: 7, identity: "epoch-1", headRevision: 5 });
    checkEpoch(folder, "another", 0, false);
    expect(storeSeen(folder).revision).toBe(0);
    expect(isRestored(storeSeen(folder), "another-2", 0)).toBe(false);
  });

  it("has a place that stays, and that another directory or machine does not share", () => {
    const [one, two] = [tempFolder(), tempFolder()];
    for (const folder of [one, two]) instanceOf(folder);
    expect(placeOf(one, "h")).toBe(placeOf(one, "h"));
    expect(new Set([placeOf(one, "h"), placeOf(two, "h"), placeOf(one, "g")]).size).toBe(3);
  });
});
