import { describe, expect, it } from "vitest";
import { Secret } from "../../src/tokens/secret.ts";
import { REAUTH } from "../fakes/vendors.ts";
import { ACTOR, complete, ending, outcome, start, WANTED } from "./connecting.ts";
import { HOUR_MS, MINUTE_MS, SECOND_MS, Stage } from "./stage.ts";

const INSTALLED = { query: "installation=7" };

async function mintingStage(canVerify = false): Promise<Stage> {
  const stage = await Stage.open();
  const { rulesNow } = stage.vendors;
  stage.vendors.rulesNow = rulesNow && { ...rulesNow, refreshesWithoutToken: true, canVerify };
  return stage;
}

describe("a consent without a code", () => {
  it("becomes an account with a first token, and what the redirect brought among its fields", async () => {
    const stage = await mintingStage(true);
    const started = await start(stage, { fields: { app: "mine" } });
    expect(await outcome(stage, complete(stage, started, INSTALLED))).toBe("ok");
    expect(stage.vendors.verified).toEqual(["a"]);
    expect(stage.account("a").fields).toEqual({ app: "mine", installation: "7" });
    expect(await stage.ask("a")).toMatchObject({ token: "at-1" });
    expect(stage.count("integrated_account:created", "a")).toBe(1);
    await stage.pass(HOUR_MS);
    expect(await stage.ask("a")).toMatchObject({ token: expect.stringMatching(/^at-[23]$/) });
    expect(stage.consents.redeemed).toEqual([]);
  });

  it("is checked by its state as any other is, and used once", async () => {
    const stage = await mintingStage();
    const started = await start(stage);
    const other = complete(stage, started, { ...INSTALLED, binding: new Secret("other") });
    expect(await outcome(stage, other)).toBe("AUTHORIZATION_STATE_INVALID browser_binding");
    const both = [complete(stage, started, INSTALLED), complete(stage, started, INSTALLED)].map(ending);
    const ends = await stage.within(MINUTE_MS, Promise.all(both));
    expect([...ends].sort()).toEqual(["AUTHORIZATION_STATE_INVALID used", "ok"]);
    expect(stage.vendors.sent).toHaveLength(1);
  });

  it("that the provider mints nothing for is denied, and stores nothing", async () => {
    const stage = await mintingStage();
    stage.vendors.always = REAUTH;
    const started = await start(stage);
    const denied = outcome(stage, complete(stage, started, INSTALLED));
    expect(await denied).toBe("AUTHORIZATION_DENIED consent_refused");
    expect(stage.account("a")).toMatchObject({ slots: {}, fields: {} });
    expect(await outcome(stage, complete(stage, started, INSTALLED))).toBe(
      "AUTHORIZATION_STATE_INVALID used",
    );
  });

  it("whose first token the provider refuses is denied", async () => {
    const stage = await mintingStage(true);
    stage.vendors.verdict = { kind: "refused", status: 401 };
    const work = complete(stage, await start(stage), INSTALLED);
    expect(await outcome(stage, work)).toBe("AUTHORIZATION_DENIED consent_refused");
    expect(stage.account("a").slots).toEqual({});
  });

  it.each([
    ["throttled", { kind: "refuse", class: "rate_limited", retryAfterMs: 5_000 }],
    ["reset", { kind: "reset" }],
    ["not reached", { kind: "unreachable" }],
  ] as const)("may be completed again when its first token was %s", async (_, reply) => {
    const stage = await mintingStage();
    stage.vendors.next.push(reply);
    const started = await start(stage);
    await expect(stage.within(MINUTE_MS, complete(stage, started, INSTALLED))).rejects.toMatchObject({
      metadata: { authorization: "open" },
    });
    await stage.pass(10 * SECOND_MS);
    expect(await outcome(stage, complete(stage, started, INSTALLED))).toBe("ok");
  });

  it("of an account that works changes nothing until its token is there, and not whose it is", async () => {
    const stage = await mintingStage();
    stage.consents.subject = () => "7";
    expect(await outcome(stage, complete(stage, await start(stage), INSTALLED))).toBe("ok");
    const before = stage.account("a");
    stage.consents.subject = () => "8";
    const other = complete(stage, await start(stage), { query: "installation=8" });
    expect(await outcome(stage, other)).toBe("IDENTITY_MISMATCH");
    expect(stage.account("a")).toEqual(before);
    stage.vendors.next.push(REAUTH);
    const refused = complete(stage, await start(stage), INSTALLED);
    expect(await outcome(stage, refused)).toBe("AUTHORIZATION_DENIED consent_refused");
    expect(stage.account("a")).toEqual(before);
  });

  it("names every token of the provider's, of which the others are minted when they are asked for", async () => {
    const stage = await mintingStage();
    const { rulesNow } = stage.vendors;
    stage.vendors.rulesNow = rulesNow && { ...rulesNow, tokenNames: ["graph", "bot"] };
    expect(await outcome(stage, complete(stage, await start(stage), INSTALLED))).toBe("ok");
    expect(Object.keys(stage.account("a").slots)).toEqual(["graph", "bot"]);
    const asked = { key: { accountId: "a", slot: "bot" } };
    expect(await stage.ask("a", asked)).toMatchObject({ token: expect.stringMatching(/^at-/) });
  });
});

it("a customer's secret whose answer tells fields and identity has them stored", async () => {
  const stage = await mintingStage();
  stage.consents.credential = () => ({ kind: "unminted", source: undefined });
  stage.consents.subject = () => "org-1";
  const more = { secrets: {}, expiresAtMs: undefined, untilBootMs: Number.POSITIVE_INFINITY };
  const work = stage.heart.connections.withSecret({ ...WANTED, ...more }, () => undefined, ACTOR);
  expect(await outcome(stage, work)).toBe("ok");
  expect(stage.account("a").externalSubject).toBe("org-1");
});
