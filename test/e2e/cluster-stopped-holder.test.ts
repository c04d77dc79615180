import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { beforeAll, describe, it } from "vitest";
import { systemClock } from "../../src/clock.ts";
import { AccountService } from "../../src/gen/keyturn/v1/account_service_pb.js";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { decode } from "../../src/store/codec.ts";
import { openEtcdStore } from "../../src/store/etcd/open.ts";
import { pathOf, rootOf } from "../../src/store/keys.ts";
import { key } from "../../src/tokens/records.ts";
import { startStallingProxy } from "../backends/stalling-proxy.ts";
import { afterAllTests, type Cluster, cluster, subscribe } from "./cluster.ts";
import { reasonOf } from "./harness.ts";
import type { Moment } from "./stopped-sidecar.ts";

const { getToken } = CredentialService.method;

/** Past the lock's 30 s, within the ear's 60 s. */
const PAST_LOCK_MS = 33_000;
/** Past the ear, within the hold's 90 s. */
const PAST_EAR_MS = 65_000;
const ENVIRONMENT = "development";

// Each story waits for half a minute or more, and they are of different accounts: they are told at the same
// time, five at once, the longest first.

const onEnd = afterAllTests();
let one: Cluster;
beforeAll(async () => {
  // Whoever sends a spent refresh token again gets an answer: what is counted is how often it was sent. And nobody
  // refreshes but whom a test asks.
  const simulator = { style: "grace", graceMs: 600_000 } as const;
  one = await cluster({ sidecars: 2, onEnd, simulator, config: "roles: [serve]" });
}, 60_000);

const sent = (subject: string) => one.simulator.history().filter((entry) => entry.subject === subject).length;
const sidecarOf = (n: number) => {
  const sidecar = one.sidecars[n];
  if (sidecar === undefined) throw new Error("no sidecar");
  return sidecar;
};
const ask = async (accountId: string, n = 0) =>
  sidecarOf(n)
    .data.call(getToken, { accountId }, { deadlineMs: 120_000 })
    .then(({ accessToken }) => accessToken, reasonOf);

const explain = (accountId: string) => one.admin.call(AccountService.method.explainAccount, { accountId });
const pastSince = (startMs: number, ms: number) => delay(Math.max(0, startMs + ms - Date.now()));
const answersLate = (subject: string) =>
  one.simulator.faults.add({ endpoint: "token", subject, kind: "late", ms: 1_500, times: 1 });

/** Resolves when the provider has the account's request before it. */
async function arrival(accountId: string): Promise<void> {
  while (sent(accountId) === 0) await delay(10);
}

/** A sidecar stopped at a moment of its first refresh, which is this account's; a valid token's is asked for by an operator. */
async function holder(accountId: string, moment: Moment | "on-the-way", isValid = false) {
  const script = [join(import.meta.dirname, "stopped-sidecar.ts"), moment] as const;
  const serving = await one.serve(accountId, moment === "on-the-way" ? {} : { script });
  const { child, data, admin, stateDir } = serving;
  if (moment === "on-the-way") answersLate(accountId);
  const answer = isValid
    ? admin.call(AccountService.method.refreshAccount, { accountId }).then(() => "refreshed", reasonOf)
    : data
        .call(getToken, { accountId }, { deadlineMs: 120_000 })
        .then(({ accessToken }) => accessToken, reasonOf);
  if (moment === "on-the-way") {
    await arrival(accountId);
    child.kill("SIGSTOP");
  } else while (!existsSync(join(stateDir, "stopped"))) await delay(20);
  return { child, answer, stoppedAtMs: Date.now() };
}

describe.concurrent("a holder that is stopped past its lock", () => {
  it("and does not come back: the others wait for as long as its answer may come, and then send once", async ({
    expect,
    onTestFinished,
  }) => {
    await one.connect("doubtful");
    const told = subscribe(sidecarOf(0).data, ["doubtful"]);
    onTestFinished(() => told.end());
    const startMs = Date.now();
    const { child } = await holder("doubtful", "after-answer");
    for (;;) {
      const got = await ask("doubtful", 1);
      if (got !== "REFRESH_UNCERTAIN") break;
      expect(sent("doubtful")).toBe(1);
      await delay(1_000);
    }
    expect(Date.now() - startMs).toBeGreaterThan(88_000);
    expect(sent("doubtful")).toBe(2);
    const now = await ask("doubtful");
    expect(now).toMatch(/^sim_at_/);
    // What it brings back is of a generation that has passed.
    child.kill("SIGCONT");
    await delay(3_000);
    expect(await ask("doubtful")).toBe(now);
    const explained = await one.admin.call(AccountService.method.getAccount, { accountId: "doubtful" });
    expect(explained.account?.slots[0]?.generation).toBe(2n);
    expect(sent("doubtful")).toBe(2);
    expect(told.seen).toEqual([
      "doubtful integrated_account:token_refreshed",
      "doubtful integrated_account:refresh_failed",
    ]);
  }, 180_000);

  for (const { accountId, limit, ms } of [
    { accountId: "long-unanswered", limit: "the time to listen", ms: PAST_EAR_MS },
    { accountId: "unanswered", limit: "the lock", ms: PAST_LOCK_MS },
  ]) {
    it(`with its request unanswered, past ${limit}, saves what has arrived when it resumes, and one event tells`, async ({
      expect,
      onTestFinished,
    }) => {
      await one.connect(accountId);
      const told = subscribe(sidecarOf(0).data, [accountId]);
      onTestFinished(() => told.end());
      const { child, answer, stoppedAtMs } = await holder(accountId, "on-the-way");
      expect(await ask(accountId)).toBe("REFRESH_UNCERTAIN");
      await pastSince(stoppedAtMs, ms);
      expect(await ask(accountId, 1)).toBe("REFRESH_UNCERTAIN");
      child.kill("SIGCONT");
      await expect.poll(() => ask(accountId, 1), { timeout: 10_000, interval: 200 }).toMatch(/^sim_at_/);
      expect(sent(accountId)).toBe(1);
      expect(["REFRESH_UNCERTAIN", await ask(accountId)]).toContain(await answer);
      await expect.poll(() => told.seen).toEqual([`${accountId} integrated_account:token_refreshed`]);
    }, 120_000);
  }

  it("before it has sent does not send when it resumes: another one does, and waits for it no longer", async ({
    expect,
  }) => {
    await one.connect("unsent");
    const { child } = await holder("unsent", "before-send");
    expect(await ask("unsent")).toBe("REFRESH_UNCERTAIN");
    // Past the lease of the lock, too, which outlives what the lock is good for.
    await expect
      .poll(async () => (await explain("unsent")).lock, { timeout: 60_000, interval: 500 })
      .toBeUndefined();
    expect((await explain("unsent")).openAttempt?.instance).toBe(await instanceOf("unsent"));
    expect(sent("unsent")).toBe(0);
    child.kill("SIGCONT");
    await expect.poll(() => ask("unsent", 1), { timeout: 10_000, interval: 200 }).toMatch(/^sim_at_/);
    expect(sent("unsent")).toBe(1);
    // Whose request it was: a holder that had sent would have said so here.
    const { attempts } = await explain("unsent");
    expect(attempts.map(({ instance, outcome }) => ({ instance, outcome }))).toEqual([
      { instance: await instanceOf("s1"), outcome: "granted" },
    ]);
  }, 90_000);

  it("after the provider has answered saves the answer when it resumes, and it was asked once", async ({
    expect,
  }) => {
    await one.connect("answered");
    const { child, answer, stoppedAtMs } = await holder("answered", "after-answer");
    expect(sent("answered")).toBe(1);
    expect(await ask("answered")).toBe("REFRESH_UNCERTAIN");
    await pastSince(stoppedAtMs, PAST_LOCK_MS);
    child.kill("SIGCONT");
    await expect.poll(() => ask("answered", 1), { timeout: 10_000, interval: 200 }).toMatch(/^sim_at_/);
    expect(sent("answered")).toBe(1);
    // Its own caller was freed when the lock was void.
    expect(["REFRESH_UNCERTAIN", await ask("answered")]).toContain(await answer);
  }, 90_000);

  for (const { accountId, moment, when } of [
    { accountId: "valid-unanswered", moment: "on-the-way", when: "with its request on the way" },
    { accountId: "valid-answered", moment: "after-answer", when: "after the provider has answered" },
  ] as const) {
    it(`${when}: the others serve the old token while it is valid, and its new one when it resumes`, async ({
      expect,
    }) => {
      const { accessToken } = await one.connect(accountId, { expired: false });
      const { child, stoppedAtMs } = await holder(accountId, moment, true);
      expect(sent(accountId)).toBe(1);
      expect(await ask(accountId)).toBe(accessToken);
      await pastSince(stoppedAtMs, PAST_LOCK_MS);
      expect(await ask(accountId, 1)).toBe(accessToken);
      expect(sent(accountId)).toBe(1);
      child.kill("SIGCONT");
      await expect.poll(() => ask(accountId, 1), { timeout: 10_000, interval: 200 }).not.toBe(accessToken);
      expect(sent(accountId)).toBe(1);
      const { attempts } = await explain(accountId);
      expect(attempts.map(({ instance }) => instance)).toEqual([await instanceOf(accountId)]);
    }, 90_000);
  }
});

describe.concurrent("a holder that is killed with its request on the way, and starts again on its disk", () => {
  it("has declared the answer lost by the time it is ready, so that nobody waits for it any longer", async ({
    expect,
  }) => {
    await one.connect("killed");
    const { data, end } = await one.serve("killed");
    answersLate("killed");
    void data.call(getToken, { accountId: "killed" }).catch(() => undefined);
    await arrival("killed");
    await end("SIGKILL");
    const killedAtMs = Date.now();
    expect((await explain("killed")).openAttempt?.held).toBe(true);
    const again = await one.serve("killed");
    expect((await explain("killed")).openAttempt).toBeUndefined();
    const askAgain = () =>
      again.data.call(getToken, { accountId: "killed" }).then(({ accessToken }) => accessToken, reasonOf);
    await expect.poll(askAgain, { timeout: 20_000, interval: 200 }).toMatch(/^sim_at_/);
    // Its hold would have lasted for ninety seconds.
    expect(Date.now() - killedAtMs).toBeLessThan(60_000);
    expect(await ask("killed")).toBe(await askAgain());
    expect(sent("killed")).toBe(2);
    const { attempts } = await explain("killed");
    expect(attempts.map(({ outcome }) => outcome)).toEqual(["granted", "unknown"]);
  }, 60_000);
});

describe.concurrent("a lock that nobody will give back", () => {
  /** A lock as its write has left it that landed after its sender had given up waiting. */
  async function ghost(accountId: string, instance: string): Promise<void> {
    const access = { endpoints: one.etcd.urls, tls: undefined, login: undefined };
    const clock = systemClock();
    const opened = await openEtcdStore({ access, environment: ENVIRONMENT, clock });
    const at = key("lock", accountId, "default");
    const value = { lockId: "ghost", instance, notAfterMs: clock.now() + 30_000 };
    const writes = [{ put: at, value, ttlMs: 35_000 }];
    await opened.store.write({ nonce: "ghost", expect: [], writes, events: [], reads: [] });
    await opened.close();
  }

  it("delays nobody when its sidecar is gone", async ({ expect }) => {
    await one.connect("gone");
    await ghost("gone", "a sidecar that was here");
    const startMs = Date.now();
    expect(await ask("gone")).toMatch(/^sim_at_/);
    expect(Date.now() - startMs).toBeLessThan(5_000);
  });

  it("delays nobody beyond thirty seconds when its sidecar lives", async ({ expect }) => {
    await one.connect("ghostly");
    await ghost("ghostly", await instanceOf("s1"));
    const startMs = Date.now();
    expect(await ask("ghostly", 0)).toMatch(/^sim_at_/);
    expect(Date.now() - startMs).toBeLessThan(33_000);
    expect(sent("ghostly")).toBe(1);
  }, 60_000);

  it("delays nobody for long when it landed after its sidecar had given it up: that one removes it", async ({
    expect,
    onTestFinished,
  }) => {
    const proxy = await startStallingProxy(one.etcd.only.port);
    onTestFinished(() => proxy.close());
    const { data } = await one.serve("given-up", { endpoints: [`http://127.0.0.1:${proxy.port}`] });
    const { accessToken } = await one.connect("landed", { expired: false });
    await one.connect("refreshed-before");
    const { revision } = await data.call(getToken, { accountId: "landed" });
    const rejecting = { accountId: "landed", rejectedRevision: revision };
    // A refresh that has just been made has fetched the lease that the lock will be put under.
    await data.call(getToken, { accountId: "refreshed-before" });
    proxy.stall();
    // It has given up: the old token is good yet.
    expect((await data.call(getToken, rejecting)).accessToken).toBe(accessToken);
    proxy.resume();
    const ghost = await instanceOf("given-up");
    expect(await holdersOf("landed", 1)).toEqual([ghost]);
    const startMs = Date.now();
    const answer = await sidecarOf(0).data.call(getToken, rejecting, { deadlineMs: 60_000 });
    expect(answer.accessToken).not.toBe(accessToken);
    expect(Date.now() - startMs).toBeLessThan(10_000);
    expect(await holdersOf("landed", 2)).toEqual([ghost, await instanceOf("s0")]);
    expect(sent("landed")).toBe(1);
  }, 90_000);
});

/** Whose an account's locks have been, in order, as etcd's own history has it; waits until there are `count`. */
async function holdersOf(accountId: string, count: number): Promise<readonly string[]> {
  const path = pathOf(key("lock", accountId, "default"));
  const at = Buffer.from(`${rootOf(ENVIRONMENT)}${path}`).toString("base64");
  const { body } = await fetch(`${one.etcd.only.url}/v3/watch`, {
    method: "POST",
    body: JSON.stringify({ create_request: { key: at, start_revision: 1 } }),
    signal: AbortSignal.timeout(20_000),
  });
  let text = "";
  for await (const chunk of body ?? []) {
    text += Buffer.from(chunk).toString("latin1");
    const answers = text.split("\n").slice(0, -1);
    const events = answers.flatMap((line) => (JSON.parse(line) as WatchAnswer).result.events ?? []);
    const puts = events.filter(({ type }) => type !== "DELETE");
    const holders = puts.map(
      ({ kv }) => decode("lock", Buffer.from(kv.value ?? "", "base64"), path).instance,
    );
    if (holders.length >= count) return holders;
  }
  throw new Error("etcd ended the watch");
}

interface WatchAnswer {
  readonly result: {
    readonly events?: readonly { readonly type?: string; readonly kv: { readonly value?: string } }[];
  };
}

async function instanceOf(name: string): Promise<string> {
  return (await readFile(join(one.settings(name).stateDir, "instance"), "utf8")).trim();
}
