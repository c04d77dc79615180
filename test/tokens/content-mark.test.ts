import { describe, expect, it } from "vitest";
import type { NewAccount } from "../../src/tokens/accounts.ts";
import { Heart } from "../../src/tokens/heart.ts";
import { Keys } from "../../src/tokens/keys.ts";
import { key } from "../../src/tokens/records.ts";
import { Secret } from "../../src/tokens/secret.ts";
import { kekAway, MINUTE_MS, Stage } from "./stage.ts";

const OPERATOR = { caller: "operator", purpose: "test" };
/** What release 0.1 stored for `withPassword("acme", "1234")`. */
const OLD_MARK = "fe0b81567fa3552168d94b6e3f91b501e3f709f551c3928e1bf5e7434ca36e51";

function withPassword(id: string, password: string): NewAccount {
  return {
    id,
    tenant: "t",
    provider: "vendor",
    client: "",
    labels: { tier: "1" },
    displayName: "",
    externalSubject: "",
    fields: {},
    credential: {
      kind: "basic",
      versions: [
        {
          version: "1",
          state: "active",
          createdAtMs: 5,
          values: { username: new Secret("u"), password: new Secret(password) },
        },
      ],
      expiresAtMs: undefined,
    },
  };
}

const create = (stage: Stage, wanted: NewAccount, heart = stage.heart) =>
  stage.within(MINUTE_MS, heart.accounts.create(wanted, OPERATOR));
const markOf = (stage: Stage, id: string) => stage.account(id).contentHash;
const contentKey = (stage: Stage) => {
  const at = key("content_key", "current");
  return stage.store.readNow([at]).get(at)?.value;
};

describe("the mark that tells a repeated creation from another one", () => {
  it("is another one in every store, so that whoever reads it cannot try guesses at a weak password", async () => {
    const [one, two] = [await Stage.open(), await Stage.open()];
    await create(one, withPassword("acme", "1234"));
    await create(two, withPassword("acme", "1234"));
    expect(markOf(one, "acme")).toMatch(/^hmac-sha256:[0-9a-f]{64}$/);
    expect(markOf(one, "acme")).not.toBe(markOf(two, "acme"));
    expect(markOf(one, "acme")).not.toContain(OLD_MARK);
  });

  it("knows the same creation again after a restart, and another password", async () => {
    const stage = await Stage.open();
    const made = await create(stage, withPassword("acme", "1234"));
    stage.kill();
    stage.revive();
    const again = await create(stage, withPassword("acme", "1234"));
    expect(again.value.incarnation).toBe(made.value.incarnation);
    const other = create(stage, withPassword("acme", "1235"));
    await expect(other).rejects.toMatchObject({ reason: "ACCOUNT_ALREADY_EXISTS" });
  });

  it("is made under one key by sidecars that begin at the same time", async () => {
    const stage = await Stage.open();
    const other = new Heart({ ...stage.world, instance: "there" });
    await Promise.all([
      create(stage, withPassword("a", "1234")),
      create(stage, withPassword("b", "1234"), other),
      create(stage, withPassword("c", "1234")),
    ]);
    await create(stage, withPassword("b", "1234"));
    await create(stage, withPassword("a", "1234"), other);
    await create(stage, withPassword("c", "1234"), other);
    expect(stage.sealer.outstanding).toBe(0);
  });

  it("makes one of two creations of the same account at once, and tells the other of it", async () => {
    const stage = await Stage.open();
    const other = new Heart({ ...stage.world, instance: "there" });
    const [one, two] = await Promise.all([
      create(stage, withPassword("a", "1234")),
      create(stage, withPassword("a", "1234"), other),
    ]);
    expect(one.value.incarnation).toBe(two.value.incarnation);
  });

  it("needs the KEK once in a process's life", async () => {
    const stage = await Stage.open();
    await create(stage, withPassword("acme", "1234"));
    stage.sealer.trouble.pass = async () => {
      throw kekAway();
    };
    await create(stage, withPassword("acme", "1234"));
    stage.kill();
    stage.revive();
    const again = create(stage, withPassword("acme", "1234"));
    await expect(again).rejects.toMatchObject({ reason: "KEK_UNAVAILABLE" });
    stage.sealer.trouble.pass = async () => undefined;
    await create(stage, withPassword("acme", "1234"));
  });

  it("needs no key where no secret is part of it", async () => {
    const stage = await Stage.open();
    const wanted = { ...withPassword("acme", ""), credential: undefined };
    stage.sealer.trouble.pass = async () => {
      throw kekAway();
    };
    await create(stage, wanted);
    await create(stage, wanted);
    expect(markOf(stage, "acme")).toMatch(/^sha256:/);
    const other = create(stage, { ...wanted, tenant: "other" });
    await expect(other).rejects.toMatchObject({ reason: "ACCOUNT_ALREADY_EXISTS" });
  });

  it("of an earlier release still counts, and the first round puts it under the key", async () => {
    const stage = await Stage.open();
    await create(stage, withPassword("acme", "1234"));
    const at = key("account", "acme");
    const put = { put: at, value: { ...stage.account("acme"), contentHash: OLD_MARK } };
    stage.store.writeNow({ nonce: "old", expect: [], writes: [put], events: [], reads: [] });
    await create(stage, withPassword("acme", "1234"));
    const other = create(stage, withPassword("acme", "1235"));
    await expect(other).rejects.toMatchObject({ reason: "ACCOUNT_ALREADY_EXISTS" });

    await stage.within(MINUTE_MS, stage.heart.rounds.once(new AbortController().signal));
    expect(markOf(stage, "acme")).toMatch(/^hmac-sha256:/);
    await create(stage, withPassword("acme", "1234"));
  });

  it("of an earlier release waits for the KEK without keeping the rest of the round", async () => {
    const stage = await Stage.open();
    const wanted = { ...withPassword("acme", ""), credential: undefined };
    await create(stage, wanted);
    const at = key("account", "acme");
    const put = { put: at, value: { ...stage.account("acme"), contentHash: OLD_MARK } };
    stage.store.writeNow({ nonce: "old", expect: [], writes: [put], events: [], reads: [] });
    stage.sealer.trouble.pass = async () => {
      throw kekAway();
    };
    await stage.within(MINUTE_MS, stage.heart.rounds.once(new AbortController().signal));
    expect(markOf(stage, "acme")).toBe(OLD_MARK);
    expect(stage.reports).toEqual(["content marks of an earlier release are not keyed yet"]);
  });

  it("stays comparable when its key is rewrapped, which holds up the old version's end until then", async () => {
    const stage = await Stage.open();
    await create(stage, withPassword("acme", "1234"));
    const kek = {
      id: "fake:/",
      versions: async () => ({
        newest: stage.sealer.kekVersion,
        versions: [{ version: 1, createdAtMs: undefined, state: "retiring" as const }],
      }),
      rotate: async () => 2,
      retire: async () => undefined,
    };
    const keys = new Keys(stage.world, kek, stage.sealer);
    stage.sealer.kekVersion = 2;
    await expect(keys.retire(1)).rejects.toThrow(/1 content keys under version 1/);
    for await (const _ of keys.rewrap(OPERATOR, 0, new AbortController().signal));
    await keys.retire(1);
    expect(contentKey(stage)?.sealed.kekVersion).toBe(2);
    stage.kill();
    stage.revive();
    await create(stage, withPassword("acme", "1234"));
  });
});
