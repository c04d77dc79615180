import { describe, expect, it } from "vitest";
import { Keys } from "../../src/tokens/keys.ts";
import { REAUTH } from "../fakes/vendors.ts";
import { Random } from "../simulation/random.ts";
import { HOUR_MS, MINUTE_MS, SECOND_MS, Stage, storeAway } from "./stage.ts";

const OPERATOR = { caller: "operator", purpose: "test" };

/** An account whose refresh has been sent and will be answered 10 s later. */
async function midExchange(answer: Parameters<FakeNext>[0] = { kind: "grant" }): Promise<Stage> {
  const stage = await Stage.open();
  await stage.connect("a");
  stage.vendors.next.push({ ...answer, afterMs: 10 * SECOND_MS });
  void stage.get("a", { deadlineMs: 60_000 });
  await stage.pass(SECOND_MS);
  expect(stage.vendors.sent).toHaveLength(1);
  return stage;
}

type FakeNext = Stage["vendors"]["next"]["push"];

describe("an account that changes during its exchange", () => {
  it("keeps the new token and stays disabled when it is disabled", async () => {
    const stage = await midExchange();
    await stage.heart.accounts.disable("a");
    await stage.pass(10 * SECOND_MS);
    expect(stage.account("a").disabled).toBe(true);
    expect(stage.slot("a").generation).toBe(2);
    expect(await stage.ask("a")).toMatchObject({ reason: "ACCOUNT_DISABLED" });
    await stage.heart.accounts.enable("a");
    expect(await stage.ask("a")).toMatchObject({ token: "at-1" });
    expect(stage.vendors.sent).toHaveLength(1);
  });

  it("is not served from memory when it is disabled and the store then goes away before anybody has read that", async () => {
    let isAway = false;
    const stage = await Stage.open({
      store: (store) => ({
        read: async (reads) => {
          if (isAway) throw storeAway();
          return store.read(reads);
        },
        write: async (transaction) => {
          const result = await store.write(transaction);
          isAway ||= !result.applied;
          return result;
        },
      }),
    });
    await stage.connect("a");
    stage.vendors.next.push({ kind: "grant", afterMs: 10 * SECOND_MS });
    const waiting = stage.get("a", { deadlineMs: 20 * SECOND_MS });
    await stage.pass(SECOND_MS);
    await stage.heart.accounts.disable("a");
    await stage.pass(15 * SECOND_MS);
    expect(isAway).toBe(true);
    expect((await stage.within(MINUTE_MS, waiting)).token).toBeUndefined();
    isAway = false;
    await stage.pass(10 * SECOND_MS);
    expect(stage.slot("a").generation).toBe(2);
    expect(await stage.ask("a")).toMatchObject({ reason: "ACCOUNT_DISABLED" });
  });

  it("is never stored again when it is deleted, and what was granted is not revoked unasked", async () => {
    const stage = await midExchange();
    await stage.heart.accounts.delete("a", false, OPERATOR);
    await stage.pass(10 * SECOND_MS);
    expect(await stage.ask("a")).toMatchObject({ reason: "ACCOUNT_NOT_FOUND" });
    expect(stage.leftovers("a")).toEqual([]);
    expect(stage.vendors.revoked).toEqual([]);
    expect(stage.journal.kept.size).toBe(0);
  });

  it("revokes the late grant too when it is deleted with revocation", async () => {
    const stage = await midExchange();
    await stage.heart.accounts.delete("a", true, OPERATOR);
    expect(stage.vendors.revoked).toEqual(["rt-a"]);
    await stage.pass(10 * SECOND_MS);
    expect(stage.vendors.revoked).toEqual(["rt-a", "rt-1"]);
    expect(stage.leftovers("a")).toEqual([]);
    expect(stage.journal.kept.size).toBe(0);
  });

  it("keeps the customer's new credential, not the late answer, when it is re-authorised", async () => {
    const stage = await midExchange();
    await stage.putCredential("a", "at-new", "rt-new");
    await stage.pass(10 * SECOND_MS);
    expect(await stage.ask("a")).toMatchObject({ token: "at-new", generation: 2 });
    const said = stage.events.find((event) => event.reason === "superseded");
    expect(said).toMatchObject({ type: "integrated_account:refresh_failed", accountId: "a" });
    expect(stage.leftovers("a")).toEqual([]);
    expect(stage.journal.kept.size).toBe(0);
  });

  it("is not flagged by a refusal of the old bytes when it is re-authorised", async () => {
    const stage = await midExchange(REAUTH);
    await stage.putCredential("a", "at-new", "rt-new");
    await stage.pass(10 * SECOND_MS);
    expect(stage.slot("a").state).toBe("active");
    expect(await stage.ask("a")).toMatchObject({ token: "at-new" });
  });

  it("knows nothing of the old one's answer when it is deleted and created anew", async () => {
    const stage = await midExchange();
    await stage.heart.accounts.delete("a", false, OPERATOR);
    await stage.connect("a", HOUR_MS);
    await stage.pass(10 * SECOND_MS);
    expect(await stage.ask("a")).toMatchObject({ token: "at-a", generation: 1 });
    expect(stage.leftovers("a")).toEqual([]);
  });

  it("is not flagged by the old one's refusal when it is deleted and created anew", async () => {
    const stage = await midExchange(REAUTH);
    await stage.heart.accounts.delete("a", true, OPERATOR);
    await stage.connect("a", HOUR_MS);
    await stage.pass(10 * SECOND_MS);
    expect(stage.slot("a").state).toBe("active");
    expect(stage.vendors.revoked).toEqual(["rt-a"]);
  });

  it("can be refreshed at once when it is created anew during the old one's exchange", async () => {
    const stage = await midExchange();
    await stage.heart.accounts.delete("a", false, OPERATOR);
    await stage.connect("a");
    expect(await stage.ask("a")).toMatchObject({ token: "at-2", generation: 2 });
    await stage.pass(10 * SECOND_MS);
    expect(await stage.ask("a")).toMatchObject({ token: "at-2", generation: 2 });
    expect(stage.leftovers("a")).toEqual([]);
  });

  it("keeps its new labels beside its new token when they are edited", async () => {
    const stage = await midExchange();
    await stage.heart.accounts.update("a", { labels: { team: "red" } }, undefined);
    await stage.pass(10 * SECOND_MS);
    expect(stage.account("a").labels).toEqual({ team: "red" });
    expect(await stage.ask("a")).toMatchObject({ token: "at-1" });
  });
});

describe("200 refreshes beside label edits and rewraps at every step", () => {
  it("lose no answer, no label and no rewrap", async () => {
    const luck = new Random("meddling");
    let edits = 0;
    let meddle = async (): Promise<void> => undefined;
    const stage = await Stage.open({
      store: (store) => ({
        write: async (transaction) => {
          const kinds = transaction.writes.map((write) => ("put" in write ? write.put : write.remove).kind);
          const isRefresh = kinds.includes("lock") || kinds.includes("attempt");
          if (isRefresh && luck.chance(0.4)) await meddle();
          return store.write(transaction);
        },
      }),
    });
    const kek = {
      id: "fake:/",
      versions: async () => ({ newest: stage.sealer.kekVersion, versions: [] }),
      rotate: async () => 1,
      retire: async () => undefined,
    };
    const keys = new Keys(stage.world, kek, stage.sealer);
    for (let n = 0; n < 20; n += 1) await stage.connect(`a-${n}`);
    meddle = async () => {
      edits += 1;
      stage.sealer.kekVersion += 1;
      const { signal } = new AbortController();
      const rewrap = async () => {
        for await (const _ of keys.rewrap(OPERATOR, 0, signal));
      };
      const label = (n: number) =>
        stage.heart.accounts.update(`a-${n % 20}`, { labels: { edit: String(edits) } }, undefined);
      await Promise.all([rewrap(), label(edits), label(edits + 7)]);
    };
    for (let round = 1; round <= 10; round += 1) {
      const asks = Array.from({ length: 20 }, (_, n) => stage.get(`a-${n}`, { deadlineMs: MINUTE_MS }));
      const answers = await stage.within(2 * MINUTE_MS, Promise.all(asks));
      expect(answers.map(({ generation }) => generation)).toEqual(answers.map(() => round + 1));
      await stage.pass(HOUR_MS);
    }
    const sent = stage.vendors.sent.map(({ refreshToken }) => refreshToken);
    expect(sent).toHaveLength(200);
    expect(new Set(sent).size).toBe(200);
    expect(edits).toBeGreaterThan(200);
    expect(stage.journal.kept.size).toBe(0);
    expect(stage.faults).toEqual([]);
  });
});
