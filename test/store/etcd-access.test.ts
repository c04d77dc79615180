import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { systemClock } from "../../src/clock.ts";
import type { EtcdAccess } from "../../src/store/etcd/access.ts";
import { openEtcdStore } from "../../src/store/etcd/open.ts";
import { upkeepFaults, upkeepOf } from "../../src/store/etcd/upkeep.ts";
import { key } from "../../src/tokens/records.ts";
import { startEtcd } from "../backends/etcd.ts";
import { account, transaction } from "./samples.ts";

const ID = key("account", "acme");
const put = () => transaction({ writes: [{ put: ID, value: account("acme") }], reads: [ID] });

async function openWith(access: EtcdAccess, options: { readonly prefix?: string } = {}) {
  const opened = await openEtcdStore({ access, environment: "test", clock: systemClock(), ...options });
  onTestFinished(() => opened.close());
  return opened;
}

/** An authority, and what it signed for 127.0.0.1 as a server and a client. */
function certificates(): Readonly<Record<"ca" | "cert" | "key", string>> {
  const folder = mkdtempSync(join(tmpdir(), "keyturn-tls-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const files = { ca: join(folder, "ca.pem"), cert: join(folder, "cert.pem"), key: join(folder, "key.pem") };
  const openssl = (...args: string[]) => execFileSync("openssl", args, { stdio: "ignore" });
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
  const caKey = join(folder, "ca-key.pem");
  openssl("req", "-x509", ...curve, "-keyout", caKey, "-out", files.ca, "-subj", "/CN=test authority");
  const signed = ["-CA", files.ca, "-CAkey", caKey, "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
  const usage = ["-addext", "extendedKeyUsage=serverAuth,clientAuth"];
  const out = ["-keyout", files.key, "-out", files.cert, "-subj", "/CN=keyturn"];
  openssl("req", "-x509", ...curve, ...signed, ...usage, ...out);
  return files;
}

/** Open is all that is asked for: the JSON gateway wants a client certificate too. */
function isOpen(url: string): Promise<boolean> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve) => {
    const socket = connect(Number(port), hostname);
    socket.once("connect", () => resolve(true));
    socket.once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
}

describe("an etcd that asks for client certificates", () => {
  it("is reached with one, and refuses who comes without", async () => {
    const files = certificates();
    await using etcd = await startEtcd({
      scheme: "https",
      isReady: isOpen,
      flags: [
        `--cert-file=${files.cert}`,
        `--key-file=${files.key}`,
        "--client-cert-auth",
        `--trusted-ca-file=${files.ca}`,
      ],
    });
    const authority = readFileSync(files.ca);
    const mine = { authority, certificate: readFileSync(files.cert), key: readFileSync(files.key) };
    const access = { endpoints: [`https://localhost:${etcd.only.port}`], login: undefined };
    const { store } = await openWith({ ...access, tls: mine });
    expect((await store.write(put())).applied).toBe(true);
    expect((await upkeepOf({ ...access, tls: mine })).quotaBytes).toBe(2 * 1024 ** 3);
    const withoutOne = { ...access, tls: { authority, certificate: undefined, key: undefined } };
    await expect(openWith(withoutOne)).rejects.toMatchObject({ reason: "STORE_UNAVAILABLE" });
    const withoutTrust = { ...access, tls: { ...mine, authority: undefined } };
    await expect(openWith(withoutTrust)).rejects.toMatchObject({ reason: "STORE_UNAVAILABLE" });
  });
});

describe("an etcd with users", () => {
  it("is reached with name and password, again after its tokens have become invalid", async () => {
    await using etcd = await startEtcd({ flags: ["--auth-token-ttl=2"] });
    const prefix = Buffer.from("/apps/one/keyturn/test/").toString("base64");
    const end = Buffer.from("/apps/one/keyturn/test0").toString("base64");
    await etcd.call("auth/role/add", { name: "root" });
    await etcd.call("auth/user/add", { name: "root", password: "root-password" });
    await etcd.call("auth/user/grant", { user: "root", role: "root" });
    await etcd.call("auth/role/add", { name: "keyturn" });
    await etcd.call("auth/role/grant", {
      name: "keyturn",
      perm: { permType: "READWRITE", key: prefix, range_end: end },
    });
    await etcd.call("auth/user/add", { name: "keyturn", password: "a password" });
    await etcd.call("auth/user/grant", { user: "keyturn", role: "keyturn" });
    await etcd.call("auth/enable", {});
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
    await expect(openWith(access("another password"), { prefix: "/apps/one" })).rejects.toMatchObject({
      reason: "STORE_UNAVAILABLE",
      metadata: { cause: "etcd_denied" },
    });
    await expect(openWith(access("a password"), { prefix: "/apps/two" })).rejects.toMatchObject({
      reason: "STORE_UNAVAILABLE",
      metadata: { cause: "etcd_denied" },
    });
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
});
