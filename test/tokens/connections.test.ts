import { describe, expect, it } from "vitest";
import { KeyturnError } from "../../src/errors.ts";
import type { WantedAuthorization } from "../../src/tokens/connections.ts";
import type { Grant } from "../../src/tokens/consent.ts";
import { Heart } from "../../src/tokens/heart.ts";
import { key } from "../../src/tokens/records.ts";
import { Secret } from "../../src/tokens/secret.ts";
import { oauth, REAUTH } from "../fakes/vendors.ts";
import { ACTOR, complete, ending, outcome, start, WANTED } from "./connecting.ts";
import { DAY_MS, EPOCH_MS, HOUR_MS, kekAway, MINUTE_MS, SECOND_MS, Stage, storeAway } from "./stage.ts";

describe("an authorization", () => {
  it("stands as a PENDING account until its code has become a token", async () => {
    const stage = await Stage.open();
    const started = await start(stage);
    expect(await stage.ask("a")).toMatchObject({ reason: "ACCOUNT_PENDING" });
    expect(stage.count("integrated_account:created")).toBe(0);
    await stage.within(SECOND_MS, complete(stage, started));
    expect(await stage.ask("a")).toMatchObject({ token: "at-c" });
    expect(stage.account("a")).toMatchObject({ labels: { plan: "gold" }, tenant: "acme" });
    expect(stage.slot("a").scopes).toEqual(["read"]);
    expect(stage.count("integrated_account:created", "a")).toBe(1);
    expect(stage.count("integrated_account:reactivated")).toBe(0);
    expect(await stage.journal.entries()).toEqual([]);
    expect(stage.sealer.outstanding).toBe(0);
  });

  it("sends the verifier that its URL's challenge was made of, and says what was granted", async () => {
    const stage = await Stage.open();
    stage.consents.always = { kind: "grant", scope: "read more" };
    await stage.within(SECOND_MS, complete(stage, await start(stage)));
    expect(stage.consents.redeemed).toEqual([{ code: "c", verifier: expect.stringMatching(/^[\w-]{43}$/) }]);
    expect(stage.slot("a").scopes).toEqual(["read", "more"]);
  });

  it("exchanges its code once when it is completed twice at once", async () => {
    const stage = await Stage.open();
    const started = await start(stage);
    const both = [complete(stage, started), complete(stage, started)].map((each) => outcome(stage, each));
    expect((await Promise.all(both)).sort()).toEqual(["AUTHORIZATION_STATE_INVALID used", "ok"]);
    expect(stage.consents.redeemed).toHaveLength(1);
    expect(await outcome(stage, complete(stage, started))).toBe("AUTHORIZATION_STATE_INVALID used");
  });

  it("is completed after a restart, and by another sidecar", async () => {
    const stage = await Stage.open();
    const [one, two] = [await start(stage), await start(stage, { accountId: "b" })];
    stage.kill();
    stage.revive();
    await stage.start();
    expect(await outcome(stage, complete(stage, one))).toBe("ok");
    const other = new Heart({ ...stage.world, instance: "there" });
    expect(await outcome(stage, complete(stage, two, { connections: other.connections }))).toBe("ok");
    expect(await stage.ask("b")).toMatchObject({ token: "at-c" });
  });

  it.each([
    ["of another browser", { binding: new Secret("other") }, "browser_binding"],
    ["of no browser", { binding: new Secret("") }, "browser_binding"],
    ["by another caller", { caller: "somebody" }, "caller"],
    ["at another client's address", { at: "https://app.example/other/callback" }, "redirect_uri"],
    ["of another authorization server", { query: "code=c&iss=evil" }, "iss"],
  ])("is refused %s, and still good for its own", async (_, how, cause) => {
    const stage = await Stage.open();
    const started = await start(stage, { caller: "app" });
    expect(await outcome(stage, complete(stage, started, how))).toBe(`AUTHORIZATION_STATE_INVALID ${cause}`);
    expect(stage.account("a").slots).toEqual({});
    expect(stage.consents.redeemed).toEqual([]);
    expect(await outcome(stage, complete(stage, started, { caller: "app" }))).toBe("ok");
  });

  it("expires after ten minutes", async () => {
    const stage = await Stage.open();
    const started = await start(stage);
    await stage.pass(10 * MINUTE_MS);
    expect(await outcome(stage, complete(stage, started))).toBe("AUTHORIZATION_STATE_INVALID unknown");
    expect(stage.consents.redeemed).toEqual([]);
  });

  it("is of no use to an account made anew under the same id", async () => {
    const stage = await Stage.open();
    const started = await start(stage);
    await stage.heart.accounts.delete("a", false, ACTOR);
    await stage.connect("a", MINUTE_MS);
    expect(await outcome(stage, complete(stage, started))).toBe("AUTHORIZATION_STATE_INVALID account_gone");
    expect(await stage.ask("a")).toMatchObject({ token: "at-a" });
  });

  it("ends with the customer's no, and with the provider's", async () => {
    const stage = await Stage.open();
    const started = await start(stage);
    expect(await outcome(stage, complete(stage, started, { query: "error=access_denied" }))).toBe(
      "AUTHORIZATION_DENIED redirect",
    );
    expect(await outcome(stage, complete(stage, started))).toBe("AUTHORIZATION_STATE_INVALID used");
    stage.consents.next.push({ kind: "refuse" });
    expect(await outcome(stage, complete(stage, await start(stage)))).toBe(
      "AUTHORIZATION_DENIED code_refused",
    );
    expect(stage.account("a").slots).toEqual({});
    expect(await stage.journal.entries()).toEqual([]);
  });

  it.each([
    ["KEK", (stage: Stage) => stage.sealer.trouble, kekAway, "KEK_UNAVAILABLE"],
    ["disk", (stage: Stage) => stage.journal.reserving, diskFull, "STATE_DISK_FULL"],
    ["store", (stage: Stage) => stage.storeTrouble, storeAway, "STORE_UNAVAILABLE"],
  ] as const)("is not spent while the %s is away", async (_, troubleOf, error, reason) => {
    const stage = await Stage.open();
    const started = await start(stage);
    const trouble = troubleOf(stage);
    trouble.fail(() => error());
    expect(await outcome(stage, complete(stage, started))).toBe(reason);
    trouble.end();
    expect(stage.consents.redeemed).toEqual([]);
    expect(await outcome(stage, complete(stage, started))).toBe("ok");
    expect(stage.sealer.outstanding).toBe(0);
  });

  it("of a client on hold is neither started nor spent", async () => {
    const stage = await Stage.open();
    const started = await start(stage);
    await stage.heart.clients.hold("vendor", "main", "operator", "incident");
    expect(await outcome(stage, start(stage, { accountId: "b" }))).toBe("CLIENT_ON_HOLD");
    expect(await outcome(stage, complete(stage, started))).toBe("CLIENT_ON_HOLD");
    await stage.heart.clients.release("vendor", "main");
    expect(await outcome(stage, complete(stage, started))).toBe("ok");
  });
});

describe("an authorization's answer", () => {
  /** The code is redeemed, and from then on the store takes nothing. */
  async function answeredWithoutStore(over: Partial<WantedAuthorization> = {}) {
    const stage = await Stage.open();
    const work = ending(complete(stage, await start(stage, over)));
    while (stage.consents.redeemed.length === 0) await stage.pass(1);
    stage.storeTrouble.fail(storeAway);
    await stage.pass(2 * SECOND_MS);
    return { stage, work };
  }

  it("is stored when the store is back, however long that takes", async () => {
    const { stage, work } = await answeredWithoutStore();
    stage.storeTrouble.end();
    expect(await stage.within(MINUTE_MS, work)).toBe("ok");
    expect(await stage.ask("a")).toMatchObject({ token: "at-c" });
    expect(await stage.journal.entries()).toEqual([]);
  });

  it("is stored at the next start when the sidecar died before it could store it", async () => {
    const { stage } = await answeredWithoutStore({ fields: { region: "eu" } });
    expect(await stage.journal.entries()).toHaveLength(1);
    stage.kill();
    stage.storeTrouble.end();
    stage.revive();
    await stage.start();
    expect(await stage.ask("a")).toMatchObject({ token: "at-c" });
    expect(stage.account("a").fields).toEqual({ region: "eu" });
    expect(stage.consents.redeemed).toHaveLength(1);
    expect(await stage.journal.entries()).toEqual([]);
    expect(stage.count("integrated_account:created", "a")).toBe(1);
  });

  it("found at the next start gives way to what the customer has done since", async () => {
    const { stage } = await answeredWithoutStore();
    stage.kill();
    stage.storeTrouble.end();
    stage.revive();
    const again = await stage.within(
      SECOND_MS,
      stage.heart.connections.start(WANTED, () => undefined, ACTOR),
    );
    await stage.within(SECOND_MS, complete(stage, again, { query: "code=later" }));
    await stage.start();
    expect(await stage.ask("a")).toMatchObject({ token: "at-later" });
    expect(await stage.journal.entries()).toEqual([]);
  });

  it("does not keep the sidecar from starting when nothing can be made of it yet", async () => {
    const { stage } = await answeredWithoutStore();
    stage.kill();
    stage.storeTrouble.end();
    stage.revive();
    stage.consents.introduction = { kind: "failed", cause: "status_503" };
    await stage.start();
    expect(await stage.ask("a")).toMatchObject({ reason: "ACCOUNT_PENDING" });
    stage.consents.introduction = { kind: "introduced", fields: {}, subject: undefined };
    await stage.pass(MINUTE_MS);
    expect(await stage.ask("a")).toMatchObject({ token: "at-c" });
    expect(await stage.journal.entries()).toEqual([]);
  });

  it("that its file does not map is kept for a better one", async () => {
    const stage = await Stage.open();
    stage.consents.next.push({ kind: "unmapped" });
    const work = complete(stage, await start(stage));
    expect(await outcome(stage, work)).toBe("PROVIDER_UNAVAILABLE answer_not_mapped");
    const [entry] = await stage.journal.entries();
    expect(entry).toMatchObject({ accountId: "a", connection: true });
    const slot = { accountId: "a", slot: "default" };
    expect(await stage.heart.replay.remap(slot, ACTOR)).toBe("unmapped");
    stage.consents.grant = () => Promise.resolve(granted("mended"));
    expect(await stage.heart.replay.remap(slot, ACTOR)).toBe("settled");
    expect(await stage.ask("a")).toMatchObject({ token: "at-mended" });
  });

  it("is dropped when the account is deleted meanwhile", async () => {
    const stage = await Stage.open();
    const work = ending(complete(stage, await start(stage)));
    while (stage.consents.redeemed.length === 0) await stage.pass(1);
    await stage.heart.accounts.delete("a", false, ACTOR);
    expect(await stage.within(MINUTE_MS, work)).toBe("ACCOUNT_NOT_FOUND");
    expect(await stage.journal.entries()).toEqual([]);
  });

  it("brings every token that the provider gives, and makes the account once", async () => {
    const stage = await Stage.open();
    stage.consents.always = { kind: "grant", slots: ["bot", "user"] };
    await stage.within(SECOND_MS, complete(stage, await start(stage)));
    expect(Object.keys(stage.account("a").slots)).toEqual(["bot", "user"]);
    expect(stage.count("integrated_account:created", "a")).toBe(1);
    const asked = { key: { accountId: "a", slot: "user" } };
    expect(await stage.ask("a", asked)).toMatchObject({ token: "at-c" });
  });
});

describe("a new authorization of an account", () => {
  async function connected(over: Partial<WantedAuthorization> = {}) {
    const stage = await Stage.open();
    stage.consents.always = { kind: "grant", subject: "alice" };
    await stage.within(SECOND_MS, complete(stage, await start(stage, over)));
    return stage;
  }

  async function flagged() {
    const stage = await connected();
    stage.vendors.always = REAUTH;
    await stage.pass(HOUR_MS);
    expect(await stage.ask("a")).toMatchObject({ reason: "REAUTHORIZATION_REQUIRED" });
    return stage;
  }

  it("repairs it under its id, with its labels and history, and says so once", async () => {
    const stage = await flagged();
    const before = stage.account("a");
    const started = await start(stage, { labels: {}, client: "", tenant: "" });
    await stage.within(SECOND_MS, complete(stage, started, { query: "code=again" }));
    expect(await stage.ask("a")).toMatchObject({ token: "at-again" });
    const { incarnation, labels, createdAtMs, externalSubject } = stage.account("a");
    expect({ incarnation, labels, createdAtMs, externalSubject }).toEqual({
      incarnation: before.incarnation,
      labels: { plan: "gold" },
      createdAtMs: before.createdAtMs,
      externalSubject: "alice",
    });
    expect(stage.slot("a").history).toEqual(before.slots["default"]?.history);
    expect(stage.count("integrated_account:reactivated", "a")).toBe(1);
    expect(stage.count("integrated_account:created", "a")).toBe(1);
  });

  it("leaves it as it is until it has succeeded", async () => {
    const stage = await connected();
    const before = stage.account("a");
    const started = await start(stage);
    stage.consents.next.push({ kind: "refuse" });
    expect(await outcome(stage, complete(stage, started))).toBe("AUTHORIZATION_DENIED code_refused");
    expect(stage.account("a")).toEqual(before);
    expect(await stage.ask("a")).toMatchObject({ token: "at-c" });
  });

  it("is refused when somebody else at the provider has consented, unless that was meant", async () => {
    const stage = await connected();
    stage.consents.always = { kind: "grant", subject: "mallory" };
    const before = stage.account("a");
    const refused = complete(stage, await start(stage), { query: "code=theirs" });
    expect(await outcome(stage, refused)).toBe("IDENTITY_MISMATCH");
    expect(stage.account("a")).toEqual(before);
    expect(await stage.journal.entries()).toEqual([]);
    const meant = await start(stage, { allowIdentityChange: true });
    expect(await outcome(stage, complete(stage, meant, { query: "code=theirs" }))).toBe("ok");
    expect(stage.account("a").externalSubject).toBe("mallory");
  });

  it.each([
    ["provider", { provider: "other" }],
    ["client", { client: "second" }],
    ["tenant", { tenant: "globex" }],
  ])("does not move it to another %s", async (_, over) => {
    const stage = await connected();
    expect(await outcome(stage, start(stage, over))).toBe("INVALID_REQUEST");
  });

  it("wins over a refresh that is on its way", async () => {
    const stage = await connected();
    await stage.pass(HOUR_MS);
    stage.vendors.next.push({ kind: "grant", afterMs: 5 * SECOND_MS });
    const refreshing = stage.get("a", { deadlineMs: MINUTE_MS });
    await stage.pass(SECOND_MS);
    const done = outcome(stage, complete(stage, await start(stage), { query: "code=newer" }));
    expect(await done).toBe("ok");
    expect(await stage.within(MINUTE_MS, refreshing)).toMatchObject({ token: "at-newer" });
    expect(stage.slot("a").generation).toBe(2);
  });
});

describe("what is asked after a connection", () => {
  it("becomes fields before the account is stored, tried again while the provider fails", async () => {
    const stage = await Stage.open();
    stage.consents.introduction = { kind: "failed", cause: "status_503" };
    const work = ending(complete(stage, await start(stage)));
    while (stage.consents.introductions === 0) await stage.pass(1);
    stage.consents.introduction = { kind: "introduced", fields: { site: "s-1" }, subject: "bob" };
    expect(await stage.within(MINUTE_MS, work)).toBe("ok");
    expect(stage.account("a")).toMatchObject({ fields: { site: "s-1" }, externalSubject: "bob" });
  });

  it("is asked on when the provider goes on failing, as its caller is told", async () => {
    const stage = await Stage.open();
    stage.consents.introduction = { kind: "failed", cause: "status_503" };
    const work = complete(stage, await start(stage));
    await expect(stage.within(MINUTE_MS, work)).rejects.toMatchObject({
      reason: "PROVIDER_UNAVAILABLE",
      metadata: { cause: "after_connect_status_503", authorization: "continues" },
    });
    expect(await stage.ask("a")).toMatchObject({ reason: "ACCOUNT_PENDING" });
    stage.consents.introduction = { kind: "introduced", fields: { site: "s-1" }, subject: "bob" };
    await stage.pass(MINUTE_MS);
    expect(await stage.ask("a")).toMatchObject({ token: "at-c" });
    expect(stage.account("a")).toMatchObject({ fields: { site: "s-1" }, externalSubject: "bob" });
    expect(await stage.journal.entries()).toEqual([]);
  });

  it("stores nothing when the customer has to choose", async () => {
    const stage = await Stage.open();
    const choices = [
      { value: "1", title: "North" },
      { value: "2", title: "" },
    ];
    stage.consents.introduction = { kind: "choice", field: "site", choices };
    const work = complete(stage, await start(stage));
    await expect(stage.within(MINUTE_MS, work)).rejects.toThrow(
      "fields.site: several match; start again with one of them: 1 (North), 2",
    );
    expect(stage.account("a").slots).toEqual({});
    expect(await stage.journal.entries()).toEqual([]);
    stage.consents.introduction = { kind: "choice", field: "site", isForeign: true, choices };
    await expect(stage.within(MINUTE_MS, complete(stage, await start(stage)))).rejects.toThrow(
      "fields.site: not one of the customer's own; start again with one of them: 1 (North), 2",
    );
    expect(stage.account("a").slots).toEqual({});
  });
});

describe("a secret handed in", () => {
  const SECRET = {
    ...WANTED,
    client: "",
    secrets: { api_key: "key-1" },
    expiresAtMs: undefined,
    untilBootMs: Number.POSITIVE_INFINITY,
  };

  function connect(stage: Stage, over: Partial<typeof SECRET> = {}) {
    return stage.within(
      SECOND_MS,
      stage.heart.connections.withSecret({ ...SECRET, ...over }, () => undefined, ACTOR),
    );
  }

  async function keyStage() {
    const stage = await Stage.open();
    const { rulesNow } = stage.vendors;
    stage.vendors.rulesNow = rulesNow && { ...rulesNow, canVerify: true };
    return stage;
  }

  it("is stored after the provider has accepted it", async () => {
    const stage = await keyStage();
    expect(await connect(stage)).toMatchObject({ verified: true, account: { id: "a" } });
    expect(await stage.ask("a")).toMatchObject({ token: "api_key" });
    expect(stage.count("integrated_account:created", "a")).toBe(1);
  });

  it.each([
    ["refuses it", { kind: "refused", status: 401 }, "AUTHORIZATION_DENIED secret_refused"],
    ["does not say", { kind: "unclear", cause: "status_503" }, "PROVIDER_UNAVAILABLE status_503"],
  ] as const)("is not stored when the provider %s", async (_, verdict, fault) => {
    const stage = await keyStage();
    stage.vendors.verdict = verdict;
    expect(await outcome(stage, connect(stage))).toBe(fault);
    expect(await stage.ask("a")).toMatchObject({ reason: "ACCOUNT_NOT_FOUND" });
    expect(stage.count("integrated_account:created")).toBe(0);
  });

  it("says that it was not verified where the file names no way to", async () => {
    const stage = await Stage.open();
    expect(await connect(stage)).toMatchObject({ verified: false });
  });

  it("refused later needs its customer, with one event, by verification alone; a new one repairs it", async () => {
    const stage = await keyStage();
    await connect(stage);
    const { incarnation, generation } = await stage.ask("a");
    const rejected = { incarnation, generation };
    stage.vendors.verdict = { kind: "unclear", cause: "status_500" };
    await stage.ask("a", { rejected });
    expect(stage.slot("a").state).toBe("active");
    stage.vendors.verdict = { kind: "refused", status: 401 };
    const asks = Array.from({ length: 5 }, () => stage.get("a", { rejected }));
    const answers = await Promise.all(asks.map((ask) => stage.within(MINUTE_MS, ask)));
    expect(new Set(answers.map(({ reason }) => reason))).toEqual(new Set(["REAUTHORIZATION_REQUIRED"]));
    expect(stage.count("integrated_account:authentication_error", "a")).toBe(1);
    stage.vendors.verdict = { kind: "accepted", status: 200 };
    await connect(stage, { secrets: { api_key: "key-2" } });
    expect(await stage.ask("a")).toMatchObject({ token: "api_key" });
    expect(stage.count("integrated_account:reactivated", "a")).toBe(1);
  });
});

describe("an account whose authorization nobody has completed", () => {
  it("is removed after a day, and one that was completed is not", async () => {
    const stage = await Stage.open();
    await start(stage, { accountId: "left" });
    await stage.within(SECOND_MS, complete(stage, await start(stage)));
    await stage.pass(25 * HOUR_MS);
    await stage.heart.rounds.once(new AbortController().signal);
    expect(stage.store.readNow([key("account", "left")]).get(key("account", "left"))).toBeUndefined();
    expect(stage.account("a").slots).not.toEqual({});
  });

  it("stays while a new authorization of it is under way", async () => {
    const stage = await Stage.open();
    await start(stage);
    await stage.pass(24 * HOUR_MS);
    const started = await start(stage);
    await stage.heart.rounds.once(new AbortController().signal);
    expect(await outcome(stage, complete(stage, started))).toBe("ok");
  });
});

function diskFull(): KeyturnError {
  return new KeyturnError("STATE_DISK_FULL", "full");
}

function granted(code: string): Grant {
  const credential = oauth(`at-${code}`, `rt-${code}`, EPOCH_MS, EPOCH_MS + DAY_MS);
  const credentials = new Map([["default", credential]]);
  return { kind: "granted", credentials, fields: {}, subject: undefined };
}
