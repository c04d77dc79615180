import { describe, expect, it } from "vitest";
import { oauth, REAUTH } from "../fakes/vendors.ts";
import { HOUR_MS, MINUTE_MS, SECOND_MS, Stage } from "./stage.ts";

const INVALID_CLIENT = {
  kind: "refuse",
  class: "fix_configuration",
  code: "invalid_client",
  clientFault: true,
} as const;
const ids = Array.from({ length: 10_000 }, (_, n) => `a-${n}`);

/** What 10,000 callers are told. */
async function reasons(stage: Stage): Promise<ReadonlySet<string | undefined>> {
  return new Set((await Promise.all(ids.map((id) => stage.get(id)))).map(({ reason }) => reason));
}

describe("10,000 accounts of one client", () => {
  it("cost one write and one event when the provider refuses the client, and a new secret frees them all", async () => {
    const stage = await Stage.open();
    for (const id of ids) await stage.connect(id);
    stage.vendors.always = ({ clientSecret }) =>
      clientSecret === "secret-1" ? INVALID_CLIENT : { kind: "grant" };
    expect(await stage.ask("a-0")).toMatchObject({ reason: "CLIENT_MISCONFIGURED", cause: "invalid_client" });
    const before = { ...stage.storeCalls, revision: stage.store.revision };
    expect(await reasons(stage)).toEqual(new Set(["CLIENT_MISCONFIGURED"]));
    expect(stage.store.revision).toBe(before.revision);
    expect(stage.storeCalls.write).toBe(before.write);
    expect(stage.count("oauth_client:configuration_error")).toBe(1);
    expect(stage.vendors.sent).toHaveLength(1);
    for (const id of ids.slice(0, 100))
      expect(stage.slot(id)).toMatchObject({ state: "active", failures: 0 });

    await stage.putClient("secret-2");
    expect(stage.count("oauth_client:secret_rotated")).toBe(1);
    for (const id of ids.slice(0, 50)) expect((await stage.ask(id)).token).toMatch(/^at-\d+$/);
  });

  it("write the client's fault once when many refreshes were on their way", async () => {
    const stage = await Stage.open({ caps: { maxConcurrent: 30 } });
    for (const id of ids.slice(0, 30)) await stage.connect(id);
    stage.vendors.always = { ...INVALID_CLIENT, afterMs: 500 };
    await stage.within(MINUTE_MS, Promise.all(ids.slice(0, 30).map((id) => stage.get(id))));
    expect(stage.vendors.sent).toHaveLength(30);
    expect(stage.count("oauth_client:configuration_error")).toBe(1);
  });

  it("are not condemned by an answer to the old secret that comes after the new one was put", async () => {
    const stage = await Stage.open();
    await stage.connect("a");
    stage.vendors.next.push({ ...INVALID_CLIENT, afterMs: 10 * SECOND_MS });
    void stage.get("a");
    await stage.pass(SECOND_MS);
    await stage.putClient("secret-2");
    await stage.pass(10 * SECOND_MS);
    expect(stage.count("oauth_client:configuration_error")).toBe(0);
    expect(await stage.ask("a")).toMatchObject({ token: "at-1" });
  });

  it("are answered from memory while they need their customers, however often they are polled", async () => {
    const stage = await Stage.open();
    // Ended, and nothing to refresh it with.
    for (const id of ids)
      await stage.create(id, oauth(`at-${id}`, undefined, stage.nowMs - HOUR_MS, stage.nowMs));
    for (const id of ids) await stage.get(id);
    expect(stage.count("integrated_account:authentication_error")).toBe(10_000);
    const before = { ...stage.storeCalls };
    for (let round = 0; round < 3; round += 1) {
      expect(await reasons(stage)).toEqual(new Set(["REAUTHORIZATION_REQUIRED"]));
    }
    expect(stage.storeCalls).toEqual(before);
    expect(stage.vendors.sent).toHaveLength(0);
  });
});

describe("those who wait behind a refresh that fails", () => {
  it.each([
    { reply: REAUTH, reason: "REAUTHORIZATION_REQUIRED" },
    { reply: { kind: "refuse", class: "transient" } as const, reason: "PROVIDER_UNAVAILABLE" },
    { reply: { kind: "reset" } as const, reason: "PROVIDER_UNAVAILABLE" },
    { reply: { kind: "unreachable" } as const, reason: "PROVIDER_UNAVAILABLE" },
    { reply: { kind: "refuse", class: "rate_limited" } as const, reason: "PROVIDER_RATE_LIMITED" },
    { reply: { kind: "unmapped" } as const, reason: "PROVIDER_UNAVAILABLE" },
    { reply: INVALID_CLIENT, reason: "CLIENT_MISCONFIGURED" },
  ])("answer from its outcome and do not try again ($reason, $reply.kind)", async ({ reply, reason }) => {
    const stage = await Stage.open();
    await stage.connect("a");
    stage.vendors.always = { ...reply, afterMs: 500 };
    const waiting = Array.from({ length: 50 }, () => stage.get("a"));
    await stage.pass(900);
    const answers = await Promise.all(waiting);
    expect(new Set(answers.map((got) => got.reason))).toEqual(new Set([reason]));
    expect(stage.vendors.sent).toHaveLength(1);
  });
});

describe("a vendor that answers 401 to every fresh token", () => {
  /** A caller who reports whatever it is given as rejected, as often as it can. */
  async function complain(stage: Stage, untilMs: number, everyMs: number): Promise<void> {
    while (stage.time.nowMs < untilMs) {
      const { generation, incarnation } = await stage.ask("a");
      await stage.ask("a", { rejected: { generation, incarnation } });
      await stage.pass(everyMs);
    }
  }

  it("costs one refresh, then at most one a minute, doubling to one an hour", async () => {
    const stage = await Stage.open();
    await stage.connect("a", 24 * HOUR_MS, 24 * HOUR_MS);
    stage.vendors.lifetimeMs = 24 * HOUR_MS;
    await complain(stage, 59_000, 500);
    expect(stage.vendors.sent).toHaveLength(1);
    await complain(stage, 10 * HOUR_MS, 5_000);
    const at = stage.vendors.sent.map(({ atMs }) => atMs);
    const pausesMin = at.slice(1).map((atMs, i) => Math.floor((atMs - (at[i] ?? 0)) / MINUTE_MS));
    expect(pausesMin.slice(0, 6)).toEqual([1, 2, 4, 8, 16, 32]);
    expect(new Set(pausesMin.slice(6))).toEqual(new Set([60]));
    expect(stage.count("integrated_account:authentication_error")).toBe(0);
  });

  it("is one refresh for everybody who reports the same token, also much later", async () => {
    const stage = await Stage.open();
    await stage.connect("a", HOUR_MS);
    const { generation, incarnation } = await stage.ask("a");
    const rejected = { generation, incarnation };
    const asks = Array.from({ length: 500 }, () => stage.get("a", { rejected }));
    await stage.pass(SECOND_MS);
    expect(new Set((await Promise.all(asks)).map(({ token }) => token))).toEqual(new Set(["at-1"]));
    await stage.pass(30 * MINUTE_MS);
    expect(await stage.ask("a", { rejected })).toMatchObject({ token: "at-1" });
    expect(stage.vendors.sent).toHaveLength(1);
  });

  it("is asked about the credential instead when that cannot be refreshed, and a refusal flags it", async () => {
    const stage = await Stage.open();
    const rules = stage.vendors.rulesNow;
    stage.vendors.rulesNow = rules === undefined ? rules : { ...rules, canVerify: true };
    await stage.create("a", oauth("at-a", undefined, stage.nowMs, stage.nowMs + 24 * HOUR_MS));
    const { generation, incarnation } = await stage.ask("a");
    const rejected = { generation, incarnation };
    for (let i = 0; i < 50; i += 1)
      expect(await stage.ask("a", { rejected })).toMatchObject({ token: "at-a" });
    expect(stage.vendors.verified).toHaveLength(1);
    stage.vendors.verdict = { kind: "refused", status: 401 };
    await stage.pass(MINUTE_MS);
    expect(await stage.ask("a", { rejected })).toMatchObject({ reason: "REAUTHORIZATION_REQUIRED" });
    expect(stage.vendors.verified).toHaveLength(2);
    expect(stage.count("integrated_account:authentication_error", "a")).toBe(1);
  });
});
