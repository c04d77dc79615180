import { setTimeout as delay } from "node:timers/promises";
import { beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { AccountService } from "../../src/gen/keyturn/v1/account_service_pb.js";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { startStallingProxy } from "../backends/stalling-proxy.ts";
import { afterAllTests, type Cluster, cluster } from "./cluster.ts";
import { reasonOf } from "./harness.ts";

const { getToken } = CredentialService.method;

/** The token, or the error's reason; what a caller with five seconds gets. */
async function ask({ sidecars }: Pick<Cluster, "sidecars">, n: number, accountId: string) {
  const sidecar = sidecars[n];
  if (sidecar === undefined) throw new Error("no sidecar");
  return sidecar.data
    .call(getToken, { accountId }, { deadlineMs: 5_000 })
    .then(({ accessToken }) => accessToken, reasonOf);
}

const sent = ({ simulator }: Cluster, subject: string) =>
  simulator.history().filter((entry) => entry.subject === subject).length;

/** Resolves when the provider has a request for the subject before it. */
async function arrival(one: Cluster, subject: string): Promise<void> {
  while (sent(one, subject) === 0) await delay(10);
}

const onEnd = afterAllTests();
let one: Cluster;
beforeAll(async () => {
  one = await cluster({ sidecars: 3, onEnd });
}, 60_000);

describe("sidecars whose etcd", () => {
  it("is frozen for fifteen seconds, and then killed, serve what is warm and recover within five seconds", async () => {
    const { accessToken } = await one.connect("warm", { expired: false });
    for (const n of [0, 1, 2]) expect(await ask(one, n, "warm")).toBe(accessToken);
    for (const id of ["first", "second"]) await one.connect(id);
    const recovery = async (accountId: string) => {
      const startMs = Date.now();
      await expect.poll(() => ask(one, 1, accountId), { timeout: 5_000, interval: 100 }).toMatch(/^sim_at_/);
      return Date.now() - startMs;
    };

    one.etcd.only.freeze();
    const thawAtMs = Date.now() + 15_000;
    while (Date.now() < thawAtMs) {
      const startMs = Date.now();
      const got = await Promise.all([0, 1, 2].map((n) => ask(one, n, "warm")));
      expect(got).toEqual([accessToken, accessToken, accessToken]);
      expect(Date.now() - startMs).toBeLessThan(2_500);
      await delay(500);
    }
    expect(await ask(one, 1, "first")).toBe("STORE_UNAVAILABLE");
    one.etcd.only.thaw();
    expect(await recovery("first")).toBeLessThan(5_000);
    expect(sent(one, "first")).toBe(1);

    await one.etcd.only.kill();
    expect(await Promise.all([0, 1, 2].map((n) => ask(one, n, "warm")))).toEqual(Array(3).fill(accessToken));
    expect(await ask(one, 2, "second")).toBe("STORE_UNAVAILABLE");
    await one.etcd.only.restart();
    expect(await recovery("second")).toBeLessThan(5_000);
    expect(sent(one, "second")).toBe(1);
    // What changes now is seen by all of them.
    await one.admin.call(AccountService.method.disableAccount, { accountId: "warm" });
    await expect
      .poll(() => Promise.all([0, 1, 2].map((n) => ask(one, n, "warm"))), { timeout: 2_000, interval: 50 })
      .toEqual(Array(3).fill("ACCOUNT_DISABLED"));
  }, 60_000);

  it("goes away exactly when an answer is to be saved, and who are killed then, save it after both are back", async () => {
    await one.connect("journaled");
    one.simulator.faults.add({ endpoint: "token", subject: "journaled", kind: "late", ms: 1_500, times: 1 });
    const second = one.sidecars[1];
    if (second === undefined) throw new Error("no sidecar");
    const answer = ask(one, 1, "journaled");
    await arrival(one, "journaled");
    await one.etcd.only.kill();
    // It has the answer and cannot save it: it serves what lies in its journal.
    const token = await answer;
    expect(token).toMatch(/^sim_at_/);
    await second.end("SIGKILL");
    await one.etcd.only.restart();
    // Its lock stands until its session has ended, its attempt for longer.
    expect(await ask(one, 0, "journaled")).not.toMatch(/^sim_at_/);
    await one.serve("s1");
    await expect.poll(() => ask(one, 0, "journaled"), { timeout: 5_000, interval: 100 }).toBe(token);
    expect(sent(one, "journaled")).toBe(1);
    expect(one.simulator.history().filter(({ reuse }) => reuse)).toEqual([]);
  }, 60_000);

  it("is cut off from one of them after the provider's answer: the others serve the old token, then its", async () => {
    const proxy = await startStallingProxy(one.etcd.only.port);
    onTestFinished(() => proxy.close());
    const endpoints = [`http://127.0.0.1:${proxy.port}`];
    const cut = await one.serve("cut", { endpoints, config: "roles: [serve]" });
    const { accessToken } = await one.connect("cut-off", { expired: false });
    one.simulator.faults.add({ endpoint: "token", subject: "cut-off", kind: "late", ms: 1_000, times: 1 });
    const refreshed = cut.admin
      .call(AccountService.method.refreshAccount, { accountId: "cut-off" })
      .catch(() => undefined);
    await arrival(one, "cut-off");
    proxy.stall();
    await delay(12_000);
    for (const n of [0, 2]) expect(await ask(one, n, "cut-off")).toBe(accessToken);
    const own = await ask({ sidecars: [cut] }, 0, "cut-off");
    expect(own).toMatch(/^sim_at_/);
    expect(own).not.toBe(accessToken);
    proxy.reset();
    proxy.resume();
    await refreshed;
    await expect.poll(() => ask(one, 0, "cut-off"), { timeout: 8_000, interval: 100 }).toBe(own);
    expect(sent(one, "cut-off")).toBe(1);
  }, 60_000);

  it("goes silent on one of them's connections: a disabled and a deleted account are refused there within twenty seconds", async () => {
    const proxy = await startStallingProxy(one.etcd.only.port);
    onTestFinished(() => proxy.close());
    const deaf = await one.serve("deaf", { endpoints: [`http://127.0.0.1:${proxy.port}`] });
    const ids = ["to-disable", "to-delete"];
    for (const id of ids) await one.connect(id, { expired: false });
    const askDeaf = () => Promise.all(ids.map((id) => ask({ sidecars: [deaf] }, 0, id)));
    for (const answer of await askDeaf()) expect(answer).toMatch(/^sim_at_/);
    proxy.stallThoseOpen();
    await one.admin.call(AccountService.method.disableAccount, { accountId: "to-disable" });
    await one.admin.call(AccountService.method.deleteAccount, { accountId: "to-delete" });
    await expect
      .poll(askDeaf, { timeout: 20_000, interval: 200 })
      .toEqual(["ACCOUNT_DISABLED", "ACCOUNT_NOT_FOUND"]);
  }, 60_000);

  it("loses its leader go on at another member", async () => {
    const three = await cluster({ sidecars: 2, etcd: { members: 3 } });
    await three.connect("before");
    await three.connect("after");
    expect(await ask(three, 0, "before")).toMatch(/^sim_at_/);
    await (await three.etcd.leader()).kill();
    await expect.poll(() => ask(three, 1, "after"), { timeout: 8_000, interval: 100 }).toMatch(/^sim_at_/);
    expect(sent(three, "after")).toBe(1);
  }, 60_000);
});
