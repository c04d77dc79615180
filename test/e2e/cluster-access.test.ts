import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it, type TestContext } from "vitest";
import { systemClock } from "../../src/clock.ts";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { type Simulator, startSimulator } from "../../src/simulator/simulator.ts";
import { type Etcd, startEtcd } from "../backends/etcd.ts";
import {
  type Certificates,
  certificates,
  enableUsers,
  withClientCertificates,
} from "../backends/etcd-access.ts";
import { freePorts } from "../backends/ports.ts";
import { afterAllTests, subscribe } from "./cluster.ts";
import { connectAccount, putSimulatorClient } from "./harness.ts";
import { type Serving, serve, spawnServe } from "./serving-process.ts";

const { getToken } = CredentialService.method;

const PASSWORD = "s3cret of keyturn";
const QUOTA = "etcd's quota is 2048 MiB";
const HISTORY = "--auto-compaction-retention";
const UNREAD = "etcd's quota and history could not be looked into";
const ASKED_AGAIN = "etcd does not answer yet: it is asked again";

/** Lines that say that a refusal was waited out like a silence. */
const askedAgain = (log: string) =>
  log.split("\n").filter((line) => line.includes(ASKED_AGAIN) && line.includes("etcd_denied"));

const onEnd = afterAllTests();
let folder: string;
let files: Certificates;
let simulator: Simulator;
/** One that wants certificates, one that wants a login, one as it comes. */
let guarded: Etcd;
let withUsers: Etcd;
let plain: Etcd;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "keyturn-access-"));
  onEnd(async () => rmSync(folder, { recursive: true, force: true }));
  files = certificates(folder);
  const tls = withClientCertificates(files);
  const [httpPort = 0] = await freePorts(1);
  [guarded, withUsers, plain, simulator] = await Promise.all([
    // What is not gRPC, its metrics among it, has a port of its own.
    startEtcd({ ...tls, flags: [...tls.flags, `--listen-client-http-urls=https://127.0.0.1:${httpPort}`] }),
    startEtcd({ flags: ["--quota-backend-bytes=4294967296", "--auto-compaction-retention=5m"] }),
    startEtcd(),
    startSimulator({ clock: systemClock() }),
  ]);
  onEnd(async () => {
    await Promise.all([guarded.stop(), withUsers.stop(), plain.stop(), simulator.close()]);
  });
  await enableUsers(withUsers, "/keyturn/development", PASSWORD);
}, 60_000);

/** What a sidecar is started with that has `store` in its configuration file. */
function settings(name: string, store: readonly string[], { onTestFinished }: TestContext) {
  const config = [
    `store: { backend: etcd, ${store.join(", ")} }`,
    `kek: { keyring_file: ${join(folder, `${name}.json`)} }`,
  ].join("\n");
  return {
    stateDir: join(folder, name),
    config,
    onEnd: (work: () => Promise<void>) => void onTestFinished(work),
  };
}

const tlsStore = ({ cert, key }: Partial<Certificates>) => [
  `endpoints: ["https://localhost:${guarded.only.port}"]`,
  `tls: { ca_file: ${files.ca}${cert ? `, certificate_file: ${cert}` : ""}${key ? `, key_file: ${key}` : ""} }`,
];

/** Whatever ends the line in the file is not part of the password. */
function loginStore(password: string) {
  const file = join(folder, `password-${password.length}`);
  writeFileSync(file, `${password}\n`, { mode: 0o600 });
  return [`endpoints: ["${withUsers.only.url}"]`, "username: keyturn", `password_file: ${file}`];
}

/** An account that is stored, refreshed, handed out, and heard of. */
async function isAtWork({ admin, data }: Serving, id: string, { expect }: TestContext): Promise<void> {
  await putSimulatorClient(admin);
  const events = subscribe(data, [id]);
  await expect.poll(events.cursor, { timeout: 10_000 }).not.toBe("");
  await connectAccount(admin, simulator, id);
  expect((await data.call(getToken, { accountId: id })).accessToken).toMatch(/^sim_at_/);
  await expect
    .poll(() => events.seen, { timeout: 10_000 })
    .toEqual([`${id} integrated_account:created`, `${id} integrated_account:token_refreshed`]);
  events.end();
}

// Each has a sidecar of its own, and mostly waits for it: they run at the same time.

describe("a sidecar whose etcd asks for a client certificate", () => {
  it.concurrent("stores, refreshes and watches with the one that its configuration names", async (test) => {
    const serving = await serve(settings("guarded", tlsStore(files), test));
    await isAtWork(serving, "behind-tls", test);
    await test.expect.poll(serving.log, { timeout: 10_000 }).toContain(UNREAD);
    expect(serving.log()).not.toContain(QUOTA);
  }, 60_000);

  it.concurrent("ends with 4 without one, and says that etcd refuses it", async (test) => {
    const { exited, log } = spawnServe(settings("bare", tlsStore({}), test));
    expect(await exited).toBe(4);
    expect(log()).toContain("etcd_denied");
    expect(askedAgain(log())).toEqual([]);
  }, 60_000);

  it.concurrent("ends with 2 when its file is not there, and names the setting", async (test) => {
    const cert = join(folder, "nowhere.pem");
    const { exited, log } = spawnServe(settings("lost", tlsStore({ ...files, cert }), test));
    expect(await exited).toBe(2);
    expect(log()).toContain("store.tls.certificate_file");
    expect(log()).toContain(cert);
  }, 60_000);
});

describe("a sidecar whose etcd asks for a login", () => {
  it.concurrent("stores, refreshes and watches with the password in its file, and finds nothing amiss with a large quota", async (test) => {
    const serving = await serve(settings("user", loginStore(PASSWORD), test));
    await isAtWork(serving, "behind-login", test);
    for (const said of [QUOTA, HISTORY, UNREAD, PASSWORD]) expect(serving.log()).not.toContain(said);
  }, 60_000);

  it.concurrent("ends with 4 with another password, says that etcd refuses it, and not which it was", async (test) => {
    const { exited, log } = spawnServe(settings("stranger", loginStore(`${PASSWORD}s`), test));
    expect(await exited).toBe(4);
    expect(log()).toContain("etcd_denied");
    expect(askedAgain(log())).toEqual([]);
    expect(log()).not.toContain(PASSWORD);
  }, 60_000);
});

describe("a sidecar whose etcd has its usual quota", () => {
  it.concurrent("says what it should have", async (test) => {
    const store = [`endpoints: ["${plain.only.url}"]`];
    const serving = await serve(settings("plain", store, test));
    await test.expect.poll(serving.log, { timeout: 10_000 }).toContain(QUOTA);
    expect(serving.log()).toContain("--quota-backend-bytes=4294967296");
    expect(serving.log()).not.toContain(UNREAD);
  }, 60_000);
});
