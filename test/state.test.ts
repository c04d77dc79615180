import { describe, expect, it } from "vitest";
import {
  checkEpoch,
  instanceOf,
  isRestored,
  knownRevision,
  placeOf,
  rememberRevision,
} from "../src/state.ts";
import { tempFolder } from "./fakes/temp-folder.ts";

describe("a state directory", () => {
  it("knows the store again by its identity, and that another one was restored from it", () => {
    const folder = tempFolder();
    checkEpoch(folder, "epoch", 0, false);
    expect(isRestored(folder, "epoch-1")).toBe(false);
    rememberRevision(folder, 7, "epoch-1");
    expect([knownRevision(folder), isRestored(folder, "epoch-1"), isRestored(folder, "epoch-2")]).toEqual([
      7,
      false,
      true,
    ]);
  });

  it("forgets both with the database that they were of", () => {
    const folder = tempFolder();
    checkEpoch(folder, "epoch", 0, false);
    rememberRevision(folder, 7, "epoch-1");
    checkEpoch(folder, "another", 0, false);
    expect([knownRevision(folder), isRestored(folder, "another-2")]).toEqual([0, false]);
  });

  it("has a place that stays, and that another directory or machine does not share", () => {
    const [one, two] = [tempFolder(), tempFolder()];
    for (const folder of [one, two]) instanceOf(folder);
    expect(placeOf(one, "h")).toBe(placeOf(one, "h"));
    expect(new Set([placeOf(one, "h"), placeOf(two, "h"), placeOf(one, "g")]).size).toBe(3);
  });
});
