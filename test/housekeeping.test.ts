import { expect, it, onTestFinished } from "vitest";
import type { Audit } from "../src/audit/audit.ts";
import { systemClock } from "../src/clock.ts";
import { keepHouse, knownHead } from "../src/housekeeping.ts";
import { idMaker } from "../src/new-id.ts";
import { openEmbeddedStore } from "../src/store/embedded/open.ts";
import type { OpenStore } from "../src/stores.ts";
import { tempFolder } from "./fakes/temp-folder.ts";

async function stage(failing: Partial<OpenStore> = {}) {
  const clock = systemClock();
  const opened = await openEmbeddedStore({ directory: tempFolder(), environment: "test", clock });
  onTestFinished(() => opened.close());
  const store: OpenStore = { ...opened, session: undefined, remember: () => undefined, ...failing };
  const trail = { seq: 3, hash: "three" };
  const seen: { logged: string[]; marks: number; heads: number[] } = { logged: [], marks: 0, heads: [] };
  const house = keepHouse({
    store,
    // Of the trail only its head is looked at.
    audit: { head: () => ({ ...trail }) } as Audit,
    instance: "one",
    clock,
    newId: idMaker(),
    log: (message) => void seen.logged.push(message),
    sweeps: () => true,
    tellMark: async () => {
      seen.marks += 1;
    },
    headTaken: (revision) => void seen.heads.push(revision),
  });
  return { store, house, trail, seen };
}

it("what fails keeps nothing else in the house from being done", async () => {
  const sweep = () => Promise.reject(new Error("no disk"));
  const { store, house, seen } = await stage({ sweep });
  await expect.poll(() => seen.logged).toEqual(["old events are not dropped"]);
  expect([seen.marks, seen.heads.length]).toEqual([1, 1]);
  const { head, revision } = await knownHead(store, "one");
  expect([head, revision]).toEqual([{ seq: 3, hash: "three" }, seen.heads[0]]);
  await house.stop();
});

it("at the end the store knows the trail's last head", async () => {
  const { store, house, trail, seen } = await stage();
  await expect.poll(() => seen.heads).toHaveLength(1);
  Object.assign(trail, { seq: 9, hash: "nine" });
  await house.stop();
  expect((await knownHead(store, "one")).head).toEqual({ seq: 9, hash: "nine" });
});

it("at the end nothing that takes long is waited for", async () => {
  let swept: AbortSignal | undefined;
  const sweep = (signal?: AbortSignal) => {
    swept = signal;
    return new Promise((resolve) => signal?.addEventListener("abort", () => resolve(0)));
  };
  const { house } = await stage({ sweep });
  await expect.poll(() => swept).toBeDefined();
  await house.stop();
});

it("at the end a store that does not answer is not waited for", async () => {
  const { house, seen } = await stage({ sweep: () => new Promise(() => undefined) });
  await expect.poll(() => seen.marks).toBe(1);
  await house.stop();
});
