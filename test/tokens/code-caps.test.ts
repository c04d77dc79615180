import { describe, expect, it } from "vitest";
import { KeyturnError } from "../../src/errors.ts";
import type { Started } from "../../src/tokens/connections.ts";
import { Heart } from "../../src/tokens/heart.ts";
import { key } from "../../src/tokens/records.ts";
import { Secret } from "../../src/tokens/secret.ts";
import { ACTOR, complete, ending, outcome, start, WANTED } from "./connecting.ts";
import { HOUR_MS, MINUTE_MS, SECOND_MS, Stage, storeAway } from "./stage.ts";

const INVALID_CLIENT = {
  kind: "refuse",
  class: "fix_configuration",
  code: "invalid_client",
  clientFault: true,
} as const;
const THROTTLED = { kind: "refuse", class: "rate_limited", retryAfterMs: 30_000 } as const;

async function started(stage: Stage, count: number): Promise<readonly Started[]> {
  const all: Started[] = [];
  for (let n = 0; n < count; n += 1) all.push(await start(stage, { accountId: `c${n}` }));
  return all;
}

function of(all: readonly Started[], n: number): Started {
  const one = all[n];
  if (one === undefined) throw new Error(`no authorization ${n}`);
  return one;
}

/** What the redirect may still be used for. */
function openness(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => "ok",
    (error: unknown) => {
      if (!(error instanceof KeyturnError)) throw error;
      return `${error.reason} ${error.metadata["authorization"] ?? "spent"} ${error.retryAfterMs ?? ""}`.trim();
    },
  );
}

function permits(stage: Stage): number {
  const view = stage.store.readNow([{ under: "permit", parts: ["vendor", "main"] }]);
  return view.all("permit").length;
}

describe("the exchange of a code", () => {
  it("that shows the client refused faults it once, for everybody, until it has a new secret", async () => {
    const stage = await Stage.open();
    await stage.connect("r");
    const all = await started(stage, 3);
    stage.consents.always = INVALID_CLIENT;
    const both = [complete(stage, of(all, 0)), complete(stage, of(all, 1))].map(ending);
    expect(await stage.within(MINUTE_MS, Promise.all(both))).toEqual([
      "CLIENT_MISCONFIGURED code_exchange",
      "CLIENT_MISCONFIGURED code_exchange",
    ]);
    expect(stage.count("oauth_client:configuration_error")).toBe(1);
    expect(await stage.ask("r")).toMatchObject({ reason: "CLIENT_MISCONFIGURED", cause: "invalid_client" });
    const refused = await stage.within(MINUTE_MS, openness(complete(stage, of(all, 2))));
    expect(refused).toBe("CLIENT_MISCONFIGURED open");
    await expect(stage.within(MINUTE_MS, complete(stage, of(all, 2)))).rejects.toMatchObject({
      metadata: { provider: "vendor", client: "main", cause: "invalid_client" },
    });
    expect(stage.consents.redeemed).toHaveLength(2);
    stage.consents.always = { kind: "grant" };
    await stage.putClient("secret-2");
    expect(await outcome(stage, complete(stage, of(all, 2)))).toBe("ok");
  });

  it("with old secrets does not fault a client that has got new ones meanwhile", async () => {
    const stage = await Stage.open();
    stage.consents.next.push(INVALID_CLIENT);
    const work = ending(complete(stage, await start(stage)));
    while (stage.consents.redeemed.length === 0) await stage.pass(1);
    await stage.putClient("secret-2");
    expect(await stage.within(MINUTE_MS, work)).toBe("CLIENT_MISCONFIGURED code_exchange");
    expect(stage.count("oauth_client:configuration_error")).toBe(0);
  });

  it("that is throttled cools the client down for refreshes and other codes, which stay good", async () => {
    const stage = await Stage.open();
    await stage.connect("r");
    const all = await started(stage, 2);
    stage.consents.next.push(THROTTLED);
    expect(await outcome(stage, complete(stage, of(all, 0)))).toBe("PROVIDER_RATE_LIMITED");
    const cooling = await stage.within(SECOND_MS, openness(complete(stage, of(all, 1))));
    expect(cooling).toMatch(/^PROVIDER_RATE_LIMITED open (29|30)\d{3}$/);
    expect(await stage.ask("r")).toMatchObject({ reason: "PROVIDER_RATE_LIMITED", cause: "token_endpoint" });
    expect(stage.consents.redeemed).toHaveLength(1);
    expect(stage.vendors.sent).toEqual([]);
    await stage.pass(30 * SECOND_MS);
    expect(await outcome(stage, complete(stage, of(all, 1)))).toBe("ok");
  });

  it("waits for no cool-down that a refresh has met", async () => {
    const stage = await Stage.open();
    await stage.connect("r");
    const one = await start(stage);
    stage.vendors.next.push({ ...THROTTLED, code: undefined });
    expect(await stage.ask("r")).toMatchObject({ reason: "PROVIDER_RATE_LIMITED" });
    expect(await outcome(stage, complete(stage, one))).toBe("PROVIDER_RATE_LIMITED token_endpoint");
    expect(stage.consents.redeemed).toEqual([]);
    await stage.pass(31 * SECOND_MS);
    expect(await outcome(stage, complete(stage, one))).toBe("ok");
  });

  it("takes the same places as refreshes, and gives them back however it ends", async () => {
    const stage = await Stage.open({ caps: { maxConcurrent: 1 } });
    await stage.connect("r");
    const all = await started(stage, 4);
    stage.consents.next.push(
      { kind: "grant" },
      { kind: "refuse" },
      { kind: "reset" },
      { kind: "unreachable" },
    );
    stage.consents.afterMs = SECOND_MS;
    const mostAtOnce: number[] = [];
    const exchange = stage.vendors.exchange.bind(stage.vendors);
    stage.vendors.exchange = (...asked) => {
      mostAtOnce.push(stage.consents.inFlight + stage.vendors.inFlight);
      return exchange(...asked);
    };
    const works = all.map((one) => ending(complete(stage, one)));
    const got = stage.get("r", { deadlineMs: MINUTE_MS });
    const endings = await stage.within(MINUTE_MS, Promise.all(works));
    expect([...endings].sort()).toEqual([
      "AUTHORIZATION_DENIED code_refused",
      "PROVIDER_UNAVAILABLE connect_refused",
      "PROVIDER_UNAVAILABLE reset",
      "ok",
    ]);
    expect(await stage.within(MINUTE_MS, got)).toMatchObject({ token: "at-1" });
    expect([stage.consents.mostInFlight, mostAtOnce]).toEqual([1, [0]]);
    expect(permits(stage)).toBe(0);
    expect(stage.sealer.outstanding).toBe(0);
  });

  it("shares the places with other sidecars", async () => {
    const stage = await Stage.open({ caps: { maxConcurrent: 1 } });
    const all = await started(stage, 6);
    const { connections } = new Heart({ ...stage.world, instance: "there" });
    const works = all.map((one, n) => ending(complete(stage, one, n % 2 === 0 ? {} : { connections })));
    expect(new Set(await stage.within(MINUTE_MS, Promise.all(works)))).toEqual(new Set(["ok"]));
    expect(stage.consents.mostInFlight).toBe(1);
    expect(permits(stage)).toBe(0);
  });

  it("goes before refreshes that wait for the same place", async () => {
    const stage = await Stage.open({ caps: { maxConcurrent: 1 } });
    for (let n = 0; n < 5; n += 1) await stage.connect(`r${n}`);
    const one = await start(stage);
    stage.vendors.always = { kind: "grant", afterMs: SECOND_MS };
    const refreshes = Array.from({ length: 5 }, (_, n) => stage.get(`r${n}`, { deadlineMs: MINUTE_MS }));
    await stage.pass(500);
    const done = stage.within(MINUTE_MS, ending(complete(stage, one)));
    expect(await done).toBe("ok");
    expect(stage.vendors.sent.length).toBeLessThanOrEqual(2);
    await stage.within(MINUTE_MS, Promise.all(refreshes));
    expect(stage.vendors.sent).toHaveLength(5);
  });

  it("counts against the budget, and without one left says so in time, its redirect still good", async () => {
    const stage = await Stage.open({ caps: { budget: { requests: 2, perMs: MINUTE_MS } } });
    const all = await started(stage, 3);
    for (const n of [0, 1]) expect(await outcome(stage, complete(stage, of(all, n)))).toBe("ok");
    const beganMs = stage.time.nowMs;
    const late = await stage.within(MINUTE_MS, openness(complete(stage, of(all, 2))));
    expect(late).toBe("PROVIDER_RATE_LIMITED open 1000");
    expect(stage.time.nowMs - beganMs).toBe(10 * SECOND_MS);
    const soon = complete(stage, of(all, 2), { deadlineMs: 2 * SECOND_MS });
    const askedMs = stage.time.nowMs;
    expect(await stage.within(MINUTE_MS, openness(soon))).toBe("PROVIDER_RATE_LIMITED open 1000");
    expect(stage.time.nowMs - askedMs).toBe(2 * SECOND_MS);
    expect(stage.consents.redeemed).toHaveLength(2);
    await stage.pass(MINUTE_MS);
    expect(await outcome(stage, complete(stage, of(all, 2)))).toBe("ok");
  });

  it("of which nothing has left may be completed again, within its own ten minutes", async () => {
    const stage = await Stage.open();
    const one = await start(stage);
    stage.consents.always = { kind: "unreachable" };
    await stage.pass(5 * MINUTE_MS);
    const unreachable = await stage.within(MINUTE_MS, openness(complete(stage, one)));
    expect(unreachable).toBe("PROVIDER_UNAVAILABLE open 5000");
    expect(await outcome(stage, complete(stage, one, { binding: new Secret("other") }))).toBe(
      "AUTHORIZATION_STATE_INVALID browser_binding",
    );
    stage.consents.always = { kind: "grant" };
    expect(await outcome(stage, complete(stage, one))).toBe("ok");
    const other = await start(stage, { accountId: "b" });
    stage.consents.always = { kind: "unreachable" };
    await stage.pass(9 * MINUTE_MS);
    expect(await outcome(stage, complete(stage, other))).toBe("PROVIDER_UNAVAILABLE connect_refused");
    await stage.pass(MINUTE_MS);
    expect(await outcome(stage, complete(stage, other))).toBe("AUTHORIZATION_STATE_INVALID unknown");
  });

  it("that waits for its turn when the sidecar stops is not begun, and its redirect stays good", async () => {
    const stage = await Stage.open({ caps: { budget: { requests: 1, perMs: MINUTE_MS } } });
    const all = await started(stage, 2);
    expect(await outcome(stage, complete(stage, of(all, 0)))).toBe("ok");
    const waiting = openness(complete(stage, of(all, 1)));
    await stage.pass(SECOND_MS);
    expect(await stage.within(SECOND_MS, stage.heart.stop(25 * SECOND_MS))).toEqual([]);
    expect(await stage.within(SECOND_MS, waiting)).toBe("SHUTTING_DOWN open 1000");
    stage.kill();
    stage.revive();
    await stage.start();
    await stage.pass(MINUTE_MS + 5 * SECOND_MS);
    expect(await outcome(stage, complete(stage, of(all, 1)))).toBe("ok");
  });

  it("of which something may have left is never sent again", async () => {
    const stage = await Stage.open();
    const one = await start(stage);
    stage.consents.next.push({ kind: "reset" });
    const lost = await stage.within(MINUTE_MS, openness(complete(stage, one)));
    expect(lost).toBe("PROVIDER_UNAVAILABLE spent 5000");
    expect(await outcome(stage, complete(stage, one))).toBe("AUTHORIZATION_STATE_INVALID used");
    expect(stage.consents.redeemed).toHaveLength(1);
  });

  it("is the one probe of a client whose endpoint fails, and ends the outage when it gets through", async () => {
    const stage = await Stage.open();
    const all = await started(stage, 8);
    stage.consents.always = { kind: "reset" };
    for (let n = 0; n < 5; n += 1) await outcome(stage, complete(stage, of(all, n)));
    expect(stage.count("provider:outage_suspected")).toBe(1);
    expect(await outcome(stage, complete(stage, of(all, 5)))).toBe("PROVIDER_UNAVAILABLE unavailable");
    await stage.pass(MINUTE_MS);
    stage.consents.always = { kind: "grant" };
    const both = [complete(stage, of(all, 5)), complete(stage, of(all, 6))].map(ending);
    const ends = await stage.within(MINUTE_MS, Promise.all(both));
    expect([...ends].sort()).toEqual(["PROVIDER_UNAVAILABLE unavailable", "ok"]);
    expect(stage.count("provider:outage_cleared")).toBe(1);
    expect(await outcome(stage, complete(stage, of(all, 7)))).toBe("ok");
  });

  it("gives its place back when the store was away as it ended", async () => {
    const stage = await Stage.open({ caps: { maxConcurrent: 1 } });
    const all = await started(stage, 2);
    stage.consents.next.push(THROTTLED);
    const work = ending(complete(stage, of(all, 0)));
    while (stage.consents.redeemed.length === 0) await stage.pass(1);
    stage.storeTrouble.fail(storeAway);
    await stage.pass(5 * SECOND_MS);
    stage.storeTrouble.end();
    expect(await stage.within(MINUTE_MS, work)).toBe("PROVIDER_RATE_LIMITED");
    expect(permits(stage)).toBe(0);
    expect(await outcome(stage, complete(stage, of(all, 1)))).toBe("PROVIDER_RATE_LIMITED token_endpoint");
    expect(stage.store.readNow([key("cooldown", "vendor", "main")]).all("cooldown")).toHaveLength(1);
  });
});

describe("the first token of a customer's secret", () => {
  it("is asked for within the same caps, and cools the client down when it is throttled", async () => {
    const stage = await Stage.open({ caps: { maxConcurrent: 1 } });
    stage.consents.credential = () => ({ kind: "unminted", source: undefined });
    const connect = (accountId: string) =>
      stage.heart.connections.withSecret(
        { ...WANTED, accountId, secrets: {}, expiresAtMs: undefined, untilBootMs: Number.POSITIVE_INFINITY },
        () => undefined,
        ACTOR,
      );
    const works = ["a", "b", "c"].map((id) => ending(connect(id)));
    expect(await stage.within(MINUTE_MS, Promise.all(works))).toEqual(["ok", "ok", "ok"]);
    expect(stage.vendors.mostInFlight).toBe(1);
    expect(permits(stage)).toBe(0);
    stage.vendors.next.push(THROTTLED);
    expect(await outcome(stage, connect("d"))).toBe("PROVIDER_RATE_LIMITED");
    expect(await outcome(stage, connect("e"))).toBe("PROVIDER_RATE_LIMITED token_endpoint");
    await stage.pass(HOUR_MS / 60);
    expect(await outcome(stage, connect("e"))).toBe("ok");
  });
});
