import { describe, expect, it } from "vitest";
import { KeyturnError } from "../../src/errors.ts";
import { Heart } from "../../src/tokens/heart.ts";
import type { CodeReply } from "../fakes/consents.ts";
import { ACTOR, complete, ending, outcome, start } from "./connecting.ts";
import { HOUR_MS, kekAway, MINUTE_MS, SECOND_MS, Stage, storeAway } from "./stage.ts";

async function twoStepStage(...logins: readonly CodeReply[]): Promise<Stage> {
  const stage = await Stage.open();
  stage.consents.hasLogin = true;
  stage.consents.logins.push(...logins);
  return stage;
}

/** What the caller is told beside the reason. */
function told(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => "ok",
    (error: unknown) => {
      if (!(error instanceof KeyturnError)) throw error;
      const { cause, authorization } = error.metadata;
      return [error.reason, cause, authorization].filter(Boolean).join(" ");
    },
  );
}

async function connectedOnce(stage: Stage): Promise<void> {
  expect(await stage.ask("a")).toMatchObject({ token: "at-c-login" });
  expect(stage.consents.redeemed).toHaveLength(1);
  expect(stage.count("integrated_account:created", "a")).toBe(1);
  expect(await stage.journal.entries()).toEqual([]);
  expect(stage.sealer.outstanding).toBe(0);
}

describe("a code whose token takes a second request", () => {
  it("is connected by both, the second after the first answer is on the disk", async () => {
    const stage = await twoStepStage();
    expect(await outcome(stage, complete(stage, await start(stage)))).toBe("ok");
    await connectedOnce(stage);
    expect(stage.consents.before).toEqual([0, 1]);
  });

  it.each([
    ["500", { kind: "broken" }],
    ["reset", { kind: "reset" }],
    ["not reached", { kind: "unreachable" }],
    ["throttled", { kind: "refuse", class: "rate_limited", retryAfterMs: 2_000 }],
    ["refused for now", { kind: "refuse", class: "transient" }],
  ] as const)("is connected for the caller who waits when that one is %s at first", async (_, login) => {
    const stage = await twoStepStage(login);
    expect(await outcome(stage, complete(stage, await start(stage)))).toBe("ok");
    await connectedOnce(stage);
    expect(stage.consents.before).toEqual([0, 1, 1]);
  });

  it("is connected later when that one goes on failing, and the caller is told that it will be", async () => {
    const stage = await twoStepStage(...Array.from({ length: 6 }, () => ({ kind: "broken" }) as const));
    const work = told(complete(stage, await start(stage)));
    expect(await stage.within(MINUTE_MS, work)).toBe("PROVIDER_UNAVAILABLE status_500 continues");
    expect(await stage.ask("a")).toMatchObject({ reason: "ACCOUNT_PENDING" });
    await stage.pass(10 * MINUTE_MS);
    await connectedOnce(stage);
  });

  it("is connected later when that one hangs, and the caller's deadline ends only its waiting", async () => {
    const stage = await twoStepStage({ kind: "silence" });
    const work = told(complete(stage, await start(stage)));
    expect(await stage.within(2 * MINUTE_MS, work)).toBe("ok");
    await connectedOnce(stage);
  });

  it("is given up after an hour, with nothing stored and nothing left", async () => {
    const stage = await twoStepStage();
    stage.consents.logins.push(...Array.from({ length: 100 }, () => ({ kind: "broken" }) as const));
    const work = told(complete(stage, await start(stage)));
    expect(await stage.within(MINUTE_MS, work)).toBe("PROVIDER_UNAVAILABLE status_500 continues");
    await stage.pass(HOUR_MS);
    const asked = stage.consents.before.length;
    await stage.pass(HOUR_MS);
    expect(stage.consents.before).toHaveLength(asked);
    expect(await stage.ask("a")).toMatchObject({ reason: "ACCOUNT_PENDING" });
    expect(await stage.journal.entries()).toEqual([]);
    expect(stage.reports).toContain("connection not finished");
  });

  it("is over when that one says no for good", async () => {
    const stage = await twoStepStage({ kind: "broken" }, { kind: "refuse" });
    expect(await outcome(stage, complete(stage, await start(stage)))).toBe(
      "AUTHORIZATION_DENIED code_refused",
    );
    expect(await stage.ask("a")).toMatchObject({ reason: "ACCOUNT_PENDING" });
    expect(await stage.journal.entries()).toEqual([]);
    await stage.pass(HOUR_MS);
    expect(stage.consents.before).toEqual([0, 1, 1]);
  });

  it("gives way to what the customer has done since", async () => {
    const stage = await twoStepStage(...Array.from({ length: 20 }, () => ({ kind: "broken" }) as const));
    const work = told(complete(stage, await start(stage)));
    await stage.pass(3 * MINUTE_MS);
    expect(await work).toBe("PROVIDER_UNAVAILABLE status_500 continues");
    stage.consents.logins.length = 0;
    expect(await outcome(stage, complete(stage, await start(stage), { query: "code=later" }))).toBe("ok");
    const asked = stage.consents.before.length;
    await stage.pass(10 * MINUTE_MS);
    expect(await stage.ask("a")).toMatchObject({ token: "at-later-login", generation: 1 });
    expect(stage.consents.before).toHaveLength(asked);
    expect(await stage.journal.entries()).toEqual([]);
  });

  it("waits with that one for an operator who holds the client, and for store and KEK", async () => {
    const stage = await twoStepStage({ kind: "broken" }, { kind: "broken" }, { kind: "broken" });
    const work = told(complete(stage, await start(stage)));
    await stage.pass(SECOND_MS);
    await stage.heart.clients.hold("vendor", "main", "operator", "incident");
    const asked = stage.consents.before.length;
    await stage.pass(2 * MINUTE_MS);
    expect(await work).toBe("PROVIDER_UNAVAILABLE status_500 continues");
    expect(stage.consents.before).toHaveLength(asked);
    await stage.heart.clients.release("vendor", "main");
    stage.sealer.trouble.fail(kekAway);
    await stage.pass(5 * MINUTE_MS);
    stage.sealer.trouble.end();
    stage.storeTrouble.fail(storeAway);
    await stage.pass(5 * MINUTE_MS);
    stage.storeTrouble.end();
    await stage.pass(20 * MINUTE_MS);
    await connectedOnce(stage);
  });

  it("goes on after a kill at any moment between the two, and the code is never sent again", async () => {
    let resumed = 0;
    for (let afterMs = 0; afterMs <= 12_000; afterMs += afterMs < 300 ? 10 : 450) {
      const stage = await twoStepStage({ kind: "broken" }, { kind: "reset" }, { kind: "broken" });
      const started = await start(stage);
      void ending(complete(stage, started)).catch(() => undefined);
      await stage.pass(afterMs);
      stage.kill();
      const kept = (await stage.journal.entries()).length;
      const wasConnected = stage.account("a").slots["default"] !== undefined;
      stage.revive();
      await stage.start();
      await stage.pass(MINUTE_MS);
      expect(stage.consents.redeemed.length, `killed after ${afterMs} ms`).toBeLessThanOrEqual(1);
      if (kept === 0 && !wasConnected) continue;
      if (!wasConnected) resumed += 1;
      expect(await stage.ask("a"), `killed after ${afterMs} ms`).toMatchObject({ token: "at-c-login" });
      expect(await stage.journal.entries()).toEqual([]);
    }
    expect(resumed).toBeGreaterThan(10);
  });

  it("is left to the next start by a sidecar that is shutting down, at once", async () => {
    const stage = await twoStepStage(...Array.from({ length: 5 }, () => ({ kind: "broken" }) as const));
    void told(complete(stage, await start(stage)));
    await stage.pass(30 * SECOND_MS);
    const stopped = stage.heart.stop(25 * SECOND_MS);
    expect(await stage.within(SECOND_MS * 2, stopped)).toEqual([]);
    expect((await stage.journal.entries()).length).toBeGreaterThan(0);
    stage.kill();
    stage.consents.logins.length = 0;
    stage.revive();
    await stage.start();
    await connectedOnce(stage);
  });

  it("is taken over from the journal of an instance that is gone, whole or not at all", async () => {
    const stage = await twoStepStage(...Array.from({ length: 6 }, () => ({ kind: "broken" }) as const));
    void told(complete(stage, await start(stage)));
    await stage.pass(15 * SECOND_MS);
    stage.kill();
    stage.revive();
    const entries = await stage.journal.entries();
    const gone = new Map(entries.map((entry) => [entry, entry]));
    const adopted = {
      reserve: () => Promise.reject(new Error("nothing is written there")),
      entries: async () => [...gone.values()],
      remove: async (attemptId: string) => {
        for (const [name, entry] of gone) if (entry.attemptId === attemptId) gone.delete(name);
      },
    };
    for (const { attemptId } of entries) await stage.journal.remove(attemptId);
    const heart = new Heart({ ...stage.world, instance: "there" });
    const adopt = () => heart.replay.adopt({ journal: adopted, instance: "here" }, ACTOR);
    expect(await stage.within(MINUTE_MS, adopt())).toEqual(["unmapped"]);
    expect(gone.size).toBe(entries.length);
    expect(await stage.journal.entries()).toEqual([]);
    stage.consents.logins.length = 0;
    expect(await stage.within(MINUTE_MS, adopt())).toEqual(["settled"]);
    expect(gone.size).toBe(0);
    await connectedOnce(stage);
  });
});
