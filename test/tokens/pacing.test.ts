import { describe, expect, it } from "vitest";
import { type FakeVendors, oauth } from "../fakes/vendors.ts";
import { HOUR_MS, kekAway, MINUTE_MS, SECOND_MS, Stage } from "./stage.ts";

const ids = (count: number) => Array.from({ length: count }, (_, n) => `a-${n}`);

/** The most requests that went out in any window of `windowMs`. */
function most(vendors: FakeVendors, windowMs: number): number {
  const at = vendors.sent.map(({ atMs }) => atMs);
  let first = 0;
  let worst = 0;
  for (const [last, atMs] of at.entries()) {
    while (atMs - (at[first] ?? 0) >= windowMs) first += 1;
    worst = Math.max(worst, last - first + 1);
  }
  return worst;
}

describe("10,000 overdue tokens", () => {
  it("are refreshed after a restart as fast as the concurrency cap permits, and no faster", async () => {
    const stage = await Stage.open({ caps: { maxConcurrent: 5 } });
    for (const id of ids(10_000)) await stage.connect(id);
    stage.kill();
    stage.revive();
    stage.vendors.always = { kind: "grant", afterMs: 100 };
    stage.vendors.lifetimeMs = 24 * HOUR_MS;
    await stage.start();
    await stage.pass(MINUTE_MS);
    expect(stage.vendors.mostInFlight).toBe(5);
    expect(stage.vendors.sent.length).toBeGreaterThan(1_800);
  });

  it("never send a sixth request in any minute under a budget of five, whoever asks meanwhile", async () => {
    const stage = await Stage.open({ caps: { budget: { requests: 5, perMs: MINUTE_MS } } });
    for (const id of ids(10_000)) await stage.connect(id);
    stage.kill();
    stage.revive();
    await stage.start();
    for (let minute = 0; minute < 10; minute += 1) {
      void stage.get(`a-${9_000 + minute}`, { deadlineMs: 5 * SECOND_MS });
      await stage.pass(MINUTE_MS);
    }
    expect(most(stage.vendors, MINUTE_MS)).toBe(5);
    expect(stage.vendors.sent.length).toBeGreaterThanOrEqual(40);
    // However far ahead the schedule has to plan then: what is new is not refreshed again before the others are.
    expect(new Set(stage.vendors.sent.map(({ accountId }) => accountId)).size).toBe(
      stage.vendors.sent.length,
    );
  });

  it("are found after an hour's suspend and paced by the caps as well", async () => {
    const stage = await Stage.open({ caps: { maxConcurrent: 5 } });
    for (const id of ids(10_000)) await stage.connect(id, HOUR_MS);
    stage.vendors.always = { kind: "grant", afterMs: 100 };
    stage.vendors.lifetimeMs = 24 * HOUR_MS;
    await stage.start();
    await stage.pass(MINUTE_MS);
    expect(stage.vendors.sent).toHaveLength(0);
    stage.suspend(HOUR_MS);
    await stage.pass(MINUTE_MS);
    const found = stage.vendors.sent.length;
    await stage.pass(20 * SECOND_MS);
    expect(stage.vendors.mostInFlight).toBe(5);
    expect(stage.vendors.sent.length - found).toBeGreaterThan(600);
    expect(stage.count("integrated_account:authentication_error")).toBe(0);
  });
});

describe("the schedule of a third of the accounts", () => {
  it("takes a third of the places, so that three schedulers do not send each other away", async () => {
    const stage = await Stage.open({
      caps: { maxConcurrent: 8 },
      ownership: { owns: () => true, share: 1 / 3 },
    });
    for (const id of ids(100)) await stage.connect(id);
    stage.vendors.always = { kind: "grant", afterMs: 100 };
    stage.vendors.lifetimeMs = 24 * HOUR_MS;
    await stage.start();
    await stage.pass(MINUTE_MS);
    expect(stage.vendors.sent).toHaveLength(100);
    expect(stage.vendors.mostInFlight).toBe(3);
  });

  it("takes one place at least, and leaves callers all of them", async () => {
    const stage = await Stage.open({
      caps: { maxConcurrent: 2 },
      ownership: { owns: (id) => id === "a-0", share: 1 / 256 },
    });
    for (const id of ids(3)) await stage.connect(id);
    stage.vendors.always = { kind: "grant", afterMs: 100 };
    await stage.start();
    await stage.within(MINUTE_MS, Promise.all(["a-1", "a-2"].map((id) => stage.get(id))));
    await stage.pass(SECOND_MS);
    expect(stage.vendors.sent).toHaveLength(3);
    expect(stage.vendors.mostInFlight).toBe(2);
  });
});

it("leaves a deleted account alone when it would have been due, whichever client it was of", async () => {
  const stage = await Stage.open();
  await stage.connect("of-main", 10 * HOUR_MS);
  const about = {
    tenant: "t",
    provider: "vendor",
    displayName: "",
    externalSubject: "",
    labels: {},
    fields: {},
  };
  const expiresAtMs = stage.nowMs + 10 * MINUTE_MS;
  const grant = (name: string) => oauth(`at-${name}`, `rt-${name}`, stage.nowMs, expiresAtMs);
  const gone = { ...about, id: "gone", client: "", credential: grant("one"), tokens: { bot: grant("two") } };
  await stage.heart.accounts.create(gone, { caller: "operator", purpose: "test" });
  await stage.start();
  await stage.pass(SECOND_MS);
  await stage.within(
    SECOND_MS,
    stage.heart.accounts.delete("gone", false, { caller: "operator", purpose: "test" }),
  );
  await stage.pass(SECOND_MS);
  const before = { ...stage.storeCalls };
  await stage.pass(20 * MINUTE_MS);
  expect(stage.storeCalls).toEqual(before);
});

describe("a budget without room", () => {
  it("tells a caller at its deadline, and refreshes for those who wait before the scheduler's work", async () => {
    const stage = await Stage.open({ caps: { budget: { requests: 1, perMs: MINUTE_MS } } });
    for (const id of ids(20)) await stage.connect(id);
    await stage.start();
    await stage.pass(SECOND_MS);
    expect(stage.vendors.sent).toHaveLength(1);
    const late = await stage.ask("a-15", { deadlineMs: 2 * SECOND_MS });
    expect(late).toMatchObject({ reason: "PROVIDER_RATE_LIMITED", cause: "budget", retryAfterMs: 1_000 });
    expect(await stage.ask("a-15", { deadlineMs: 2 * MINUTE_MS })).toMatchObject({ token: "at-2" });
  });
});

describe("a send of a block in hand", () => {
  /** Thirty-two sends a minute are taken in blocks of two. */
  const budget = { requests: 32, perMs: MINUTE_MS };
  const blocks = (stage: Stage) => stage.store.scanNow("budget", "", 100).entries.length;

  it("is not spent by a refresh that comes to nothing before it is sent", async () => {
    const stage = await Stage.open({ caps: { budget } });
    for (const id of ids(3)) await stage.connect(id);
    await stage.ask("a-0");
    expect(blocks(stage)).toBe(1);
    stage.sealer.trouble.fail(kekAway);
    expect((await stage.ask("a-1", { deadlineMs: SECOND_MS })).reason).toBe("KEK_UNAVAILABLE");
    stage.sealer.trouble.end();
    expect((await stage.ask("a-2", { deadlineMs: SECOND_MS })).token).toMatch(/^at-/);
    expect(stage.vendors.sent).toHaveLength(2);
    expect(blocks(stage)).toBe(1);
  });

  it("is not spent while no permit is free", async () => {
    const stage = await Stage.open({ caps: { budget, maxConcurrent: 1 } });
    for (const id of ids(3)) await stage.connect(id);
    stage.vendors.next.push({ kind: "grant", afterMs: 2 * SECOND_MS });
    const first = stage.get("a-0");
    await stage.pass(SECOND_MS);
    const rest = Promise.all([stage.get("a-1"), stage.get("a-2")]);
    await stage.within(MINUTE_MS, Promise.all([first, rest]));
    expect(stage.vendors.sent).toHaveLength(3);
    expect(blocks(stage)).toBe(2);
  });

  it("of two blocks taken at the same time is lost of neither", async () => {
    const stage = await Stage.open({ caps: { budget } });
    for (const id of ids(4)) await stage.connect(id);
    await stage.within(MINUTE_MS, Promise.all([stage.get("a-0"), stage.get("a-1")]));
    await stage.within(MINUTE_MS, Promise.all([stage.get("a-2"), stage.get("a-3")]));
    expect(stage.vendors.sent).toHaveLength(4);
    expect(blocks(stage)).toBe(2);
  });
});

describe("a vendor that is down for an hour", () => {
  it("flags nobody and is sent one probe a minute, until one succeeds", async () => {
    const stage = await Stage.open();
    for (const id of ids(50)) await stage.connect(id);
    stage.vendors.always = { kind: "refuse", class: "transient" };
    await stage.start();
    const polled = async (untilMs: number) => {
      for (let n = 0; stage.time.nowMs < untilMs; n += 1) {
        void stage.get(`a-${n % 50}`, { deadlineMs: SECOND_MS });
        await stage.pass(500);
      }
    };
    await polled(MINUTE_MS);
    const before = stage.vendors.sent.length;
    await polled(61 * MINUTE_MS);
    const probes = stage.vendors.sent.slice(before).map(({ atMs }) => atMs);
    expect(probes.length).toBeGreaterThanOrEqual(58);
    expect(probes.length).toBeLessThanOrEqual(60);
    expect(Math.min(...probes.slice(1).map((atMs, i) => atMs - (probes[i] ?? 0)))).toBeGreaterThanOrEqual(
      60_000,
    );
    expect(stage.count("integrated_account:authentication_error")).toBe(0);
    expect(stage.count("provider:outage_suspected")).toBe(1);

    stage.vendors.always = { kind: "grant" };
    await polled(64 * MINUTE_MS);
    expect(stage.count("provider:outage_cleared")).toBe(1);
    const answers = await stage.within(MINUTE_MS, Promise.all(ids(50).map((id) => stage.get(id))));
    expect(answers.every(({ token }) => token?.startsWith("at-"))).toBe(true);
  });
});

describe("429 from a token endpoint", () => {
  const throttled = (retryAfterMs: number | undefined) =>
    ({ kind: "refuse", class: "rate_limited", retryAfterMs, rateLimit: limits(retryAfterMs) }) as const;
  const limits = (retryAfterMs: number | undefined) => ({
    limit: 10,
    remaining: 0,
    resetAfterMs: undefined,
    retryAfterMs,
  });

  it("keeps everybody of that client away until Retry-After, after a restart too, and is never retried inline", async () => {
    const stage = await Stage.open();
    for (const id of ids(20)) await stage.connect(id);
    stage.vendors.next.push(throttled(90 * SECOND_MS));
    expect(await stage.ask("a-0")).toMatchObject({
      reason: "PROVIDER_RATE_LIMITED",
      cause: "token_endpoint",
    });
    const until = stage.time.nowMs + 80 * SECOND_MS;
    await stage.start();
    while (stage.time.nowMs < until) {
      const got = await stage.ask("a-7");
      expect(got.reason).toBe("PROVIDER_RATE_LIMITED");
      expect(got.retryAfterMs).toBeLessThanOrEqual(90 * SECOND_MS - (stage.time.nowMs - 50));
      await stage.pass(7 * SECOND_MS);
      stage.kill();
      stage.revive();
      await stage.start();
    }
    expect(stage.vendors.sent).toHaveLength(1);
    await stage.pass(MINUTE_MS);
    expect((await stage.ask("a-7")).token).toMatch(/^at-/);
  });

  it("waits 60 s, 120 s, 240 s when the provider does not say for how long", async () => {
    const stage = await Stage.open();
    await stage.connect("a");
    stage.vendors.always = { ...throttled(undefined), afterMs: 0 };
    while (stage.time.nowMs < 8 * MINUTE_MS) {
      await stage.ask("a", { deadlineMs: SECOND_MS });
      await stage.pass(250);
    }
    const at = stage.vendors.sent.map(({ atMs }) => atMs);
    const pauses = at.slice(1).map((atMs, i) => Math.floor((atMs - (at[i] ?? 0)) / MINUTE_MS));
    expect(pauses).toEqual([1, 2, 4]);
  });

  it("serves a token that is still valid meanwhile", async () => {
    const stage = await Stage.open();
    await stage.connect("a", 25 * SECOND_MS);
    stage.vendors.next.push(throttled(90 * SECOND_MS));
    expect(await stage.ask("a")).toMatchObject({ token: "at-a" });
    expect(await stage.ask("a")).toMatchObject({ token: "at-a" });
    expect(stage.vendors.sent).toHaveLength(1);
  });
});
