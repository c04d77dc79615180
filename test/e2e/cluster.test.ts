import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fromBinary } from "@bufbuild/protobuf";
import { beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { systemClock } from "../../src/clock.ts";
import { ShardOwnerRecordSchema } from "../../src/gen/keyturn/storage/v1/cluster_pb.js";
import { AccountService } from "../../src/gen/keyturn/v1/account_service_pb.js";
import { ConnectionService } from "../../src/gen/keyturn/v1/connection_service_pb.js";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { openEtcdStore } from "../../src/store/etcd/open.ts";
import { SHARDS, shardOf, sharesOf } from "../../src/tokens/shard.ts";
import { startStallingProxy } from "../backends/stalling-proxy.ts";
import { tempFolder } from "../fakes/temp-folder.ts";
import newerRelease from "../store/fixtures/newer-release.json" with { type: "json" };
import { event, transaction } from "../store/samples.ts";
import { afterAllTests, type Cluster, cluster, subscribe, times } from "./cluster.ts";
import { recordsIn } from "./etcd-records.ts";
import { causeOf, reasonOf } from "./harness.ts";
import { type Serving, spawnServe } from "./serving-process.ts";

const { getToken } = CredentialService.method;

/** More than a sidecar reads at once when it has missed some, of which the page then ends within a transaction. */
const EVENTS_MISSED = 2_250;
const EVENTS_AT_ONCE = 90;

const onEnd = afterAllTests();
let one: Cluster;
beforeAll(async () => {
  one = await cluster({ sidecars: 5, onEnd });
}, 60_000);

const requestsFor = (subject: string) =>
  one.simulator.history().filter((entry) => entry.subject === subject).length;
const sidecar = (n: number) => {
  const found = one.sidecars[n % one.sidecars.length];
  if (found === undefined) throw new Error("no sidecar");
  return found;
};
const ask = (n: number, accountId: string) =>
  sidecar(n)
    .data.call(getToken, { accountId })
    .then(() => "", reasonOf);
const askAll = (accountId: string) => Promise.all(one.sidecars.map((_, n) => ask(n, accountId)));

/** Etcd forgets what was before, as its own compaction does every few minutes. */
async function compact(): Promise<void> {
  const { header } = (await one.etcd.call("kv/range", { key: "AA==" })) as {
    readonly header: { readonly revision: string };
  };
  await one.etcd.call("kv/compaction", { revision: header.revision, physical: true });
}

/** Writes an event of each account, of which no sidecar but its subscribers take notice, many to a transaction. */
async function tellOf(accountIds: readonly string[]): Promise<void> {
  const access = { endpoints: one.etcd.urls, tls: undefined, login: undefined };
  const opened = await openEtcdStore({ access, environment: "development", clock: systemClock() });
  for (let n = 0; n < accountIds.length; n += EVENTS_AT_ONCE) {
    const some = accountIds.slice(n, n + EVENTS_AT_ONCE);
    const events = some.map((accountId) => event("integrated_account:expiring", { accountId, slot: "" }));
    await opened.store.write(transaction({ events }));
  }
  await opened.close();
}

describe("several sidecars over one etcd and one Vault", () => {
  it("ask the provider once for an account that a hundred callers of each want at once", async () => {
    await one.connect("herd");
    const answers = await times(500, (n) => sidecar(n).data.call(getToken, { accountId: "herd" }));
    expect(new Set(answers.map(({ accessToken }) => accessToken)).size).toBe(1);
    expect(requestsFor("herd")).toBe(1);
  });

  it("refresh two accounts at the same time", async () => {
    await one.connect("left");
    await one.connect("right");
    one.simulator.faults.add(
      { endpoint: "token", subject: "left", kind: "late", ms: 1_500, times: 1 },
      { endpoint: "token", subject: "right", kind: "late", ms: 1_500, times: 1 },
    );
    expect(await Promise.all([ask(0, "left"), ask(1, "right")])).toEqual(["", ""]);
    const [left, right] = ["left", "right"].map((name) =>
      one.simulator.history().find(({ subject }) => subject === name),
    );
    expect(Math.abs((left?.arrivedAtMs ?? 0) - (right?.arrivedAtMs ?? 0))).toBeLessThan(1_500);
  });

  it("complete at one of them, once, what was started at another", async () => {
    const { startAuthorization, completeAuthorization } = ConnectionService.method;
    const started = await sidecar(1).data.call(startAuthorization, {
      accountId: "connected",
      provider: "simulator",
      client: "main",
      tenant: "acme",
      redirectUri: "https://app.example/callback",
      fields: { port: String(one.simulator.port) },
    });
    const { browserBinding } = started;
    const consent = await fetch(`${started.authorizationUrl}&login_hint=connected`, { redirect: "manual" });
    const callbackUrl = consent.headers.get("location") ?? "";
    const answers = await times(5, (n) =>
      sidecar(n)
        .data.call(completeAuthorization, { callbackUrl, browserBinding })
        .then(() => "", reasonOf),
    );
    expect(answers.toSorted()).toEqual(["", ...Array(4).fill("AUTHORIZATION_STATE_INVALID")]);
    expect(requestsFor("connected")).toBe(1);
    expect(await ask(3, "connected")).toBe("");
  });

  it("do not start with a keyring of their own, which would open nothing that the others seal", async () => {
    const stateDir = tempFolder();
    const config = `store: { backend: etcd, endpoints: ["${one.etcd.only.url}"] }`;
    const { exited, log } = spawnServe({ stateDir, config });
    expect(await exited).toBe(2);
    expect(log()).toContain("kek.keyring_file");
  });

  it("keep what a newer release has added to a record, and refuse a format that only it knows by name", async () => {
    for (const id of ["newer", "format-2"]) await one.connect(id, { expired: false });
    const recordOf = (id: string) =>
      Buffer.from(`/keyturn/development/accounts/${shardOf(id)}/${id}`).toString("base64");
    const stored = async (id: string) => {
      const { kvs } = (await one.etcd.call("kv/range", { key: recordOf(id) })) as {
        readonly kvs: readonly { readonly value: string }[];
      };
      return Buffer.from(kvs[0]?.value ?? "", "base64");
    };
    const put = (id: string, bytes: Buffer) =>
      one.etcd.call("kv/put", { key: recordOf(id), value: bytes.toString("base64") });
    // Field 1000, a text.
    const added = Buffer.concat([Buffer.from([0xc2, 0x3e, 18]), Buffer.from("of a newer release")]);
    await put("newer", Buffer.concat([await stored("newer"), added]));
    await sidecar(2).admin.call(AccountService.method.refreshAccount, { accountId: "newer" });
    expect(requestsFor("newer")).toBe(1);
    expect((await stored("newer")).includes(added)).toBe(true);

    await put("format-2", Buffer.from(newerRelease.format_2.account, "base64"));
    const refusal = await sidecar(3)
      .data.call(getToken, { accountId: "format-2" })
      .catch((error: unknown) => error);
    expect([reasonOf(refusal), causeOf(refusal)]).toEqual(["INTERNAL_ERROR", "record_format_unknown"]);
    expect(requestsFor("format-2")).toBe(0);
  });

  it("refuse a disabled and a deleted account within two seconds, wherever it was warm", async () => {
    await one.connect("disabled", { expired: false });
    await one.connect("deleted", { expired: false });
    const all = (reason: string) => Array(one.sidecars.length).fill(reason);
    expect(await askAll("disabled")).toEqual(all(""));
    expect(await askAll("deleted")).toEqual(all(""));
    await one.admin.call(AccountService.method.disableAccount, { accountId: "disabled" });
    await one.admin.call(AccountService.method.deleteAccount, { accountId: "deleted" });
    const within = { timeout: 2_000, interval: 50 };
    await expect.poll(() => askAll("disabled"), within).toEqual(all("ACCOUNT_DISABLED"));
    await expect.poll(() => askAll("deleted"), within).toEqual(all("ACCOUNT_NOT_FOUND"));
  });

  it("tell every subscriber the same order, before and after etcd has compacted its history, and replay it exactly", async () => {
    const accounts = ["e0", "e1", "e2", "e3"];
    const [first, second] = [subscribe(sidecar(0).data, accounts), subscribe(sidecar(1).data, accounts)];
    await expect.poll(() => [first.cursor(), second.cursor()]).not.toContain("");
    const start = first.cursor();
    for (const id of accounts.slice(0, 3)) await one.connect(id);
    expect(await times(3, (n) => ask(n, `e${n}`))).toEqual(["", "", ""]);
    await expect.poll(() => first.seen.length, { timeout: 5_000 }).toBe(6);
    await expect.poll(() => second.seen).toEqual(first.seen);
    await compact();
    const third = subscribe(sidecar(3).data, accounts, start);
    await expect.poll(() => third.seen, { timeout: 5_000 }).toEqual(first.seen);
    await one.connect("e3");
    expect(await ask(4, "e3")).toBe("");
    const all = [
      ...third.seen.slice(0, 6),
      "e3 integrated_account:created",
      "e3 integrated_account:token_refreshed",
    ];
    for (const { seen } of [first, second, third])
      await expect.poll(() => seen, { timeout: 5_000 }).toEqual(all);
    for (const subscriber of [first, second, third]) subscriber.end();
  });

  it("tell a subscriber of one that was cut off all that etcd has compacted meanwhile, once and in order, and refuse there what is disabled then", async () => {
    const proxy = await startStallingProxy(one.etcd.only.port);
    onTestFinished(() => proxy.close());
    const endpoints = [`http://127.0.0.1:${proxy.port}`];
    const cut = await one.serve("cut", { endpoints, config: "roles: [serve]" });
    onTestFinished(() => void cut.end("SIGKILL"));
    await one.connect("later", { expired: false });
    const askCut = () => cut.data.call(getToken, { accountId: "later" }).then(() => "", reasonOf);
    expect(await askCut()).toBe("");
    const subscriber = subscribe(cut.data, []);
    onTestFinished(() => subscriber.end());
    await expect.poll(subscriber.cursor).not.toBe("");
    proxy.stall();
    const ids = Array.from({ length: EVENTS_MISSED }, (_, n) => `missed-${n}`);
    await tellOf(ids);
    await compact();
    // A stream that had only waited would go on from what etcd holds ready for it; a new one has to ask for it.
    proxy.reset();
    proxy.resume();
    const told = () => subscriber.seen.filter((line) => line.startsWith("missed-"));
    await expect
      .poll(() => told().length, { timeout: 10_000, interval: 50 })
      .toBeGreaterThanOrEqual(ids.length);
    await one.admin.call(AccountService.method.disableAccount, { accountId: "later" });
    await expect.poll(askCut, { timeout: 2_000, interval: 50 }).toBe("ACCOUNT_DISABLED");
    expect(told()).toEqual(ids.map((id) => `${id} integrated_account:expiring`));
  });

  it("refresh ahead of expiry, each its own accounts; a dead one's shards are the others' within fifteen seconds", async () => {
    const killed = sidecar(4);
    await one.serve("server", { config: "roles: [serve]" });
    const instanceIn = ({ stateDir }: Serving) => readFileSync(join(stateDir, "instance"), "utf8").trim();
    const owners = async () => {
      const records = await recordsIn(one.etcd, "shards");
      return new Map(
        [...records].map(([n, value]) => [n, fromBinary(ShardOwnerRecordSchema, value).instance]),
      );
    };
    const schedulers = one.sidecars.map(instanceIn);
    const dead = instanceIn(killed);
    const living = new Set(schedulers.filter((instance) => instance !== dead));
    // Settled: with the one that only serves nothing has moved, and it has none.
    const shares = sharesOf(schedulers.toSorted());
    await expect.poll(owners, { timeout: 20_000, interval: 200 }).toEqual(shares);
    const ids = Array.from({ length: 30 }, (_, n) => `ahead-${n}`);
    for (const id of ids) await one.connect(id, { expired: false, lifetimeMs: 20_000 });

    const untilMs = Date.now() + 16_000;
    await killed.end("SIGKILL");
    const ownedByLiving = async () =>
      [...(await owners()).values()].filter((instance) => living.has(instance));
    // Fifteen seconds, and one for the look at it.
    await expect
      .poll(ownedByLiving, { timeout: untilMs - Date.now(), interval: 200 })
      .toHaveLength(SHARDS.length);
    const after = await owners();
    expect([...shares].filter(([n, instance]) => instance !== dead && after.get(n) !== instance)).toEqual([]);

    await expect
      .poll(() => ids.filter((id) => requestsFor(id) > 0).length, { timeout: 20_000, interval: 500 })
      .toBe(ids.length);
    // Nobody refreshed for another: each generation once.
    const uses = Map.groupBy(one.simulator.history(), ({ fingerprint }) => fingerprint);
    expect([...uses.values()].filter((entries) => entries.length > 1)).toEqual([]);
  }, 60_000);
});
