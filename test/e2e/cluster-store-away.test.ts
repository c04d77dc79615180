import { setTimeout as delay } from "node:timers/promises";
import { beforeAll, describe, type ExpectStatic, it } from "vitest";
import { AccountService } from "../../src/gen/keyturn/v1/account_service_pb.js";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { startStallingProxy } from "../backends/stalling-proxy.ts";
import { afterAllTests, type Cluster, cluster } from "./cluster.ts";
import { reasonOf } from "./harness.ts";

const { getToken } = CredentialService.method;

interface AskOptions {
  readonly deadlineMs?: number;
  /** Zero: the sidecar's own. */
  readonly minValidityMs?: number;
}

/** The token, or the error's reason; what a caller with five seconds gets unless said otherwise. */
async function ask(
  { sidecars }: Pick<Cluster, "sidecars">,
  n: number,
  accountId: string,
  { deadlineMs = 5_000, minValidityMs = 0 }: AskOptions = {},
): Promise<string> {
  const sidecar = sidecars[n];
  if (sidecar === undefined) throw new Error("no sidecar");
  const minValidity = { seconds: BigInt(minValidityMs / 1_000) };
  return sidecar.data
    .call(getToken, { accountId, minValidity }, { deadlineMs })
    .then(({ accessToken }) => accessToken, reasonOf);
}

const askAll = (of: Pick<Cluster, "sidecars">, accountId: string) =>
  Promise.all(of.sidecars.map((_, n) => ask(of, n, accountId)));

const sent = ({ simulator }: Cluster, subject: string) =>
  simulator.history().filter((entry) => entry.subject === subject).length;

/** Resolves when the provider has a request for the subject before it. */
async function arrival(one: Cluster, subject: string): Promise<void> {
  while (sent(one, subject) === 0) await delay(10);
}

/** What `recover` asks for: an account for all sidecars, and one for each of them that nobody else asks for. */
const namesFor = ({ sidecars }: Cluster, name: string) => [name, ...sidecars.map((_, n) => `${name}-${n}`)];

async function connectFor(of: Cluster, name: string): Promise<void> {
  for (const id of namesFor(of, name)) await of.connect(id);
}

/**
 * Etcd is back as of now: within five seconds every sidecar has the one token of each account that all ask for, and one of
 * an account that it alone asks for. The provider was asked once for each.
 */
async function recover(
  { expect }: { readonly expect: ExpectStatic },
  of: Cluster,
  name: string,
  ...shared: readonly string[]
): Promise<void> {
  const startMs = Date.now();
  const asks = of.sidecars.flatMap((_, n) =>
    [name, `${name}-${n}`, ...shared].map((id) =>
      expect.poll(() => ask(of, n, id), { timeout: 5_000, interval: 50 }).toMatch(/^sim_at_/),
    ),
  );
  await Promise.all(asks);
  // Half a second for the last of them to be heard of.
  expect(Date.now() - startMs).toBeLessThan(5_500);
  for (const id of [name, ...shared]) expect(new Set(await askAll(of, id)).size).toBe(1);
  for (const id of [...namesFor(of, name), ...shared]) expect([id, sent(of, id)]).toEqual([id, 1]);
}

const onEnd = afterAllTests();
let one: Cluster;
beforeAll(async () => {
  // Nobody refreshes but whom a test asks.
  one = await cluster({ sidecars: 3, onEnd, config: "roles: [serve]" });
}, 60_000);

describe("sidecars whose etcd", () => {
  it("is frozen for fifteen seconds, and then killed, serve what is warm and recover within five seconds", async ({
    expect,
  }) => {
    const { accessToken } = await one.connect("warm", { expired: false });
    const warm = one.sidecars.map(() => accessToken);
    expect(await askAll(one, "warm")).toEqual(warm);
    for (const name of ["thawed", "restarted"]) await connectFor(one, name);
    await one.connect("answered");
    one.simulator.faults.add({ endpoint: "token", subject: "answered", kind: "late", ms: 1_500, times: 1 });
    const answer = ask(one, 1, "answered", { deadlineMs: 15_000 });
    await arrival(one, "answered");

    one.etcd.only.freeze();
    const thawAtMs = Date.now() + 15_000;
    const refused = Promise.all([askAll(one, "thawed"), ask(one, 0, "answered")]);
    while (Date.now() < thawAtMs) {
      const startMs = Date.now();
      expect(await askAll(one, "warm")).toEqual(warm);
      // A second and a half for etcd to be found away, and a second of a loaded machine's.
      expect(Date.now() - startMs).toBeLessThan(2_500);
      await delay(500);
    }
    expect((await refused).flat()).toEqual(Array(4).fill("STORE_UNAVAILABLE"));
    // Who has the answer serves it, though etcd has not got it yet.
    const token = await answer;
    expect(token).toMatch(/^sim_at_/);
    one.etcd.only.thaw();
    await recover({ expect }, one, "thawed", "answered");
    expect(await ask(one, 0, "answered")).toBe(token);

    await one.etcd.only.kill();
    expect(await askAll(one, "warm")).toEqual(warm);
    expect(await askAll(one, "restarted")).toEqual(Array(3).fill("STORE_UNAVAILABLE"));
    await one.etcd.only.restart();
    await recover({ expect }, one, "restarted");
    // What changes now is seen by all of them.
    await one.admin.call(AccountService.method.disableAccount, { accountId: "warm" });
    await expect
      .poll(() => askAll(one, "warm"), { timeout: 2_000, interval: 50 })
      .toEqual(Array(3).fill("ACCOUNT_DISABLED"));
  }, 60_000);

  it("is frozen until one of them has given a refresh up: the others have a new token within five seconds, whatever of it lands late", async ({
    expect,
  }) => {
    // Valid for ten minutes: who asks for more than that gets it for want of a new one, and waits for a new one.
    const { accessToken } = await one.connect("given-up", { expired: false, lifetimeMs: 600_000 });
    const askFor = (n: number) => ask(one, n, "given-up", { minValidityMs: 1_200_000, deadlineMs: 10_000 });
    expect(await ask(one, 1, "given-up")).toBe(accessToken);
    // The next lock goes under the lease of this one's, which has not to be asked for.
    await one.connect("before");
    expect(await ask(one, 1, "before")).toMatch(/^sim_at_/);
    one.etcd.only.freeze();
    expect(await askFor(1)).toBe(accessToken);
    one.etcd.only.thaw();
    const startMs = Date.now();
    // The one that has given up is not asked: it would know its own lock.
    const renewed = [0, 2].map((n) =>
      expect
        .poll(() => askFor(n), { timeout: 5_000, interval: 50 })
        .toSatisfy((got: string) => got.startsWith("sim_at_") && got !== accessToken),
    );
    await Promise.all(renewed);
    expect(Date.now() - startMs).toBeLessThan(5_500);
    expect(sent(one, "given-up")).toBe(1);
  }, 30_000);

  it("goes away exactly when an answer is to be saved, and who are killed then, save it after both are back", async ({
    expect,
  }) => {
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
});

// Each of these leaves the etcd of the others alone, and mostly waits.
describe.concurrent("sidecars whose etcd", () => {
  it("is cut off from one of them after the provider's answer: the others serve the old token, then its", async ({
    expect,
    onTestFinished,
  }) => {
    const proxy = await startStallingProxy(one.etcd.only.port);
    onTestFinished(() => proxy.close());
    const endpoints = [`http://127.0.0.1:${proxy.port}`];
    const cut = await one.serve("cut", { endpoints });
    const { accessToken } = await one.connect("cut-off", { expired: false });
    await one.connect("reconnected");
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
    const within = { timeout: 5_000, interval: 50 };
    await Promise.all([
      ...[0, 2].map((n) => expect.poll(() => ask(one, n, "cut-off"), within).toBe(own)),
      expect.poll(() => ask({ sidecars: [cut] }, 0, "reconnected"), within).toMatch(/^sim_at_/),
    ]);
    await refreshed;
    for (const id of ["cut-off", "reconnected"]) expect(sent(one, id)).toBe(1);
  }, 60_000);

  it("goes silent on one of them's connections: a disabled and a deleted account are refused there within twenty seconds", async ({
    expect,
    onTestFinished,
  }) => {
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

  it("loses its leader serve what is warm, save what comes meanwhile, and go on at another member", async ({
    expect,
    onTestFinished,
  }) => {
    const three = await cluster({
      sidecars: 2,
      etcd: { members: 3 },
      config: "roles: [serve]",
      onEnd: onTestFinished,
    });
    const { accessToken } = await three.connect("warm", { expired: false });
    await connectFor(three, "elected");
    expect(await askAll(three, "warm")).toEqual([accessToken, accessToken]);
    await three.connect("answered");
    three.simulator.faults.add({
      endpoint: "token",
      subject: "answered",
      kind: "late",
      ms: 1_000,
      times: 1,
    });
    const leader = await three.etcd.leader();
    const answer = ask(three, 0, "answered", { deadlineMs: 15_000 });
    await arrival(three, "answered");
    await leader.kill();
    const isLed = () =>
      three.etcd.leader().then(
        () => true,
        () => false,
      );
    do {
      const startMs = Date.now();
      expect(await askAll(three, "warm")).toEqual([accessToken, accessToken]);
      expect(Date.now() - startMs).toBeLessThan(2_500);
    } while (!(await isLed()));
    await recover({ expect }, three, "elected", "answered");
    expect(await answer).toBe(await ask(three, 1, "answered"));
  }, 60_000);
});
