import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { beforeAll, describe, it } from "vitest";
import { systemClock } from "../../src/clock.ts";
import { AccountService } from "../../src/gen/keyturn/v1/account_service_pb.js";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { openEtcdStore } from "../../src/store/etcd/open.ts";
import { key } from "../../src/tokens/records.ts";
import { afterAllTests, type Cluster, cluster, subscribe } from "./cluster.ts";
import { reasonOf } from "./harness.ts";
import type { Moment } from "./stopped-sidecar.ts";

const { getToken } = CredentialService.method;

/** Past the lock's 30 s, within the ear's 60 s. */
const PAST_LOCK_MS = 33_000;
/** Past the ear, within the hold's 90 s. */
const PAST_EAR_MS = 65_000;

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

/** A sidecar that stops itself at a moment of its first refresh, which is this account's. */
async function holder(accountId: string, moment: Moment) {
  const script = [join(import.meta.dirname, "stopped-sidecar.ts"), moment] as const;
  const serving = await one.serve(accountId, { script });
  const { stateDir } = one.settings(accountId);
  const answer = serving.data
    .call(getToken, { accountId }, { deadlineMs: 120_000 })
    .then(({ accessToken }) => accessToken, reasonOf);
  while (!existsSync(join(stateDir, "stopped"))) await delay(20);
  return { ...serving, answer };
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
  }, 130_000);

  for (const { accountId, limit, ms } of [
    { accountId: "long-unanswered", limit: "the time to listen", ms: PAST_EAR_MS },
    { accountId: "unanswered", limit: "the lock", ms: PAST_LOCK_MS },
  ]) {
    it(`with its request unanswered, past ${limit}, saves what has arrived when it resumes, and one event tells`, async ({
      expect,
      onTestFinished,
    }) => {
      await one.connect(accountId);
      one.simulator.faults.add({ endpoint: "token", subject: accountId, kind: "late", ms: 1_500, times: 1 });
      const told = subscribe(sidecarOf(0).data, [accountId]);
      onTestFinished(() => told.end());
      const { child, data } = await one.serve(accountId);
      const answer = data
        .call(getToken, { accountId }, { deadlineMs: 120_000 })
        .then(({ accessToken }) => accessToken, reasonOf);
      while (sent(accountId) === 0) await delay(10);
      child.kill("SIGSTOP");
      expect(await ask(accountId)).toBe("REFRESH_UNCERTAIN");
      await delay(ms);
      expect(await ask(accountId, 1)).toBe("REFRESH_UNCERTAIN");
      child.kill("SIGCONT");
      await expect.poll(() => ask(accountId, 1), { timeout: 10_000, interval: 200 }).toMatch(/^sim_at_/);
      expect(sent(accountId)).toBe(1);
      expect(["REFRESH_UNCERTAIN", await ask(accountId)]).toContain(await answer);
      await expect.poll(() => told.seen).toEqual([`${accountId} integrated_account:token_refreshed`]);
    }, 120_000);
  }

  it("before it has sent does not send when it resumes, and nobody waits for it any longer", async ({
    expect,
  }) => {
    await one.connect("unsent");
    const { child } = await holder("unsent", "before-send");
    expect(await ask("unsent")).toBe("REFRESH_UNCERTAIN");
    await delay(PAST_LOCK_MS);
    expect(sent("unsent")).toBe(0);
    child.kill("SIGCONT");
    await expect.poll(() => ask("unsent", 1), { timeout: 10_000, interval: 200 }).toMatch(/^sim_at_/);
    expect(sent("unsent")).toBe(1);
  }, 90_000);

  it("after the provider has answered saves the answer when it resumes, and it was asked once", async ({
    expect,
  }) => {
    await one.connect("answered");
    const { child, answer } = await holder("answered", "after-answer");
    expect(sent("answered")).toBe(1);
    expect(await ask("answered")).toBe("REFRESH_UNCERTAIN");
    await delay(PAST_LOCK_MS);
    child.kill("SIGCONT");
    await expect.poll(() => ask("answered", 1), { timeout: 10_000, interval: 200 }).toMatch(/^sim_at_/);
    expect(sent("answered")).toBe(1);
    // Its own caller was freed when the lock was void.
    expect(["REFRESH_UNCERTAIN", await ask("answered")]).toContain(await answer);
  }, 90_000);

  it("with its request on the way: the others serve the old token while it is valid", async ({ expect }) => {
    const { accessToken } = await one.connect("valid", { expired: false });
    const { child } = await holderRefreshing("valid");
    expect(sent("valid")).toBe(1);
    expect(await ask("valid")).toBe(accessToken);
    await delay(PAST_LOCK_MS);
    expect(await ask("valid", 1)).toBe(accessToken);
    expect(sent("valid")).toBe(1);
    child.kill("SIGCONT");
    await expect.poll(() => ask("valid", 1), { timeout: 10_000, interval: 200 }).not.toBe(accessToken);
    expect(sent("valid")).toBe(1);
  }, 90_000);
});

describe.concurrent("a lock that nobody will give back", () => {
  /** A lock as its write has left it that landed after its sender had given up waiting. */
  async function ghost(accountId: string, instance: string): Promise<void> {
    const access = { endpoints: one.etcd.urls, tls: undefined, login: undefined };
    const clock = systemClock();
    const opened = await openEtcdStore({ access, environment: "development", clock });
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
});

async function instanceOf(name: string): Promise<string> {
  return (await readFile(join(one.settings(name).stateDir, "instance"), "utf8")).trim();
}

/** A holder of a valid token's refresh, which an operator has asked for. */
async function holderRefreshing(accountId: string) {
  const script = [join(import.meta.dirname, "stopped-sidecar.ts"), "after-answer" satisfies Moment] as const;
  const serving = await one.serve(accountId, { script });
  const { stateDir } = one.settings(accountId);
  void serving.admin.call(AccountService.method.refreshAccount, { accountId }).catch(() => undefined);
  while (!existsSync(join(stateDir, "stopped"))) await delay(20);
  return serving;
}
