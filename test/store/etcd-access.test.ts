import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, expect, it, onTestFinished } from "vitest";
import { systemClock } from "../../src/clock.ts";
import type { KeyturnError } from "../../src/errors.ts";
import type { EtcdAccess } from "../../src/store/etcd/access.ts";
import { openEtcdStore } from "../../src/store/etcd/open.ts";
import { upkeepFaults, upkeepOf } from "../../src/store/etcd/upkeep.ts";
import { key } from "../../src/tokens/records.ts";
import { startEtcd } from "../backends/etcd.ts";
import { certificates, enableUsers, withClientCertificates } from "../backends/etcd-access.ts";
import { tempFolder } from "../fakes/temp-folder.ts";
import { account, transaction } from "./samples.ts";

const ID = key("account", "acme");
const put = () => transaction({ writes: [{ put: ID, value: account("acme") }], reads: [ID] });

async function openWith(access: EtcdAccess, options: { readonly prefix?: string } = {}) {
  const opened = await openEtcdStore({ access, environment: "test", clock: systemClock(), ...options });
  onTestFinished(() => opened.close());
  return opened;
}

describe("an etcd that asks for client certificates", () => {
  it("is reached with one, and refuses who comes without", async () => {
    const files = certificates(tempFolder());
    await using etcd = await startEtcd(withClientCertificates(files));
    const authority = readFileSync(files.ca);
    const mine = { authority, certificate: readFileSync(files.cert), key: readFileSync(files.key) };
    const access = { endpoints: [`https://localhost:${etcd.only.port}`], login: undefined };
    const { store } = await openWith({ ...access, tls: mine });
    expect((await store.write(put())).applied).toBe(true);
    expect((await upkeepOf({ ...access, tls: mine })).quotaBytes).toBe(2 * 1024 ** 3);
    const withoutOne = { ...access, tls: { authority, certificate: undefined, key: undefined } };
    const denied = { reason: "STORE_UNAVAILABLE", metadata: { cause: "etcd_denied" } };
    await expect(openWith(withoutOne)).rejects.toMatchObject(denied);
    const stranger = certificates(tempFolder());
    const unknown = { certificate: readFileSync(stranger.cert), key: readFileSync(stranger.key) };
    await expect(openWith({ ...access, tls: { authority, ...unknown } })).rejects.toMatchObject(denied);
    const withoutTrust = { ...access, tls: { ...mine, authority: undefined } };
    await expect(openWith(withoutTrust)).rejects.toMatchObject({
      reason: "STORE_UNAVAILABLE",
      metadata: { cause: "etcd_unreachable" },
    });
  });
});

describe("an etcd with users", () => {
  it("is reached with name and password, again after its tokens have become invalid", async () => {
    await using etcd = await startEtcd({ flags: ["--auth-token-ttl=2"] });
    await enableUsers(etcd, "/apps/one/keyturn/test", "a password");
    const access = (password: string) => ({
      endpoints: etcd.urls,
      tls: undefined,
      login: { username: "keyturn", password },
    });
    const { store, events } = await openWith(access("a password"), { prefix: "/apps/one" });
    expect((await store.write(put())).applied).toBe(true);
    // Outside of the tokens' life, and of etcd's own memory of them.
    await etcd.only.kill();
    await etcd.only.restart();
    await expect
      .poll(async () => (await store.read([ID])).get(ID)?.value.id, { timeout: 5_000 })
      .toBe("acme");
    await expect.poll(() => events.isCurrent, { timeout: 5_000 }).toBe(true);
    // A busy machine checks a password slowly, and a call does not wait for it.
    const causeOf = (password: string, prefix: string) => () =>
      openWith(access(password), { prefix }).then(
        () => "open",
        ({ metadata }: KeyturnError) => metadata["cause"],
      );
    const patience = { timeout: 8_000 };
    await expect.poll(causeOf("another password", "/apps/one"), patience).toBe("etcd_denied");
    await expect.poll(causeOf("a password", "/apps/two"), patience).toBe("etcd_denied");
  });
});

describe("environments in one etcd", () => {
  it("do not see each other, nor another prefix's", async () => {
    await using etcd = await startEtcd();
    const access = { endpoints: etcd.urls, tls: undefined, login: undefined };
    const one = await openWith(access);
    const two = await openWith(access, { prefix: "/apps/two" });
    await one.store.write(put());
    expect((await two.store.read([ID])).get(ID)).toBeUndefined();
    expect(two.epoch).not.toBe(one.epoch);
  });
});

describe("the look at etcd's upkeep", () => {
  it("finds a small quota, and history that nobody compacts", async () => {
    await using etcd = await startEtcd();
    const access = { endpoints: etcd.urls, tls: undefined, login: undefined };
    const { quotaBytes, revision, compactedRevision } = await upkeepOf(access);
    expect(quotaBytes).toBe(2 * 1024 ** 3);
    expect(revision).toBe(1);
    expect(compactedRevision).toBeDefined();
    expect(upkeepFaults({ quotaBytes, revision, compactedRevision })).toEqual([
      "etcd's quota is 2048 MiB; 100,000 accounts want --quota-backend-bytes=4294967296 or more",
    ]);
    expect(
      upkeepFaults({ quotaBytes: 4 * 1024 ** 3, revision: 1_000_000, compactedRevision: 1 })[0],
    ).toContain("--auto-compaction-retention");
    expect(
      upkeepFaults({ quotaBytes: undefined, revision: undefined, compactedRevision: undefined }),
    ).toEqual([]);
  });

  it("fails where no metrics are served", async () => {
    const server = createServer((_, response) => response.writeHead(404).end("no such page"));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    onTestFinished(() => void server.close());
    const { port } = server.address() as AddressInfo;
    const access = { endpoints: [`http://127.0.0.1:${port}`], tls: undefined, login: undefined };
    await expect(upkeepOf(access)).rejects.toThrow("404");
    server.close();
    await expect(upkeepOf(access)).rejects.toThrow();
  });
});
