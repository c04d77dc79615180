import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { ServiceError } from "@grpc/grpc-js";
import { beforeAll, describe, expect, it } from "vitest";
import { AccountService } from "../../src/gen/keyturn/v1/account_service_pb.js";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { JournalService } from "../../src/gen/keyturn/v1/journal_service_pb.js";
import { KeyService } from "../../src/gen/keyturn/v1/key_service_pb.js";
import { startOpenBao } from "../backends/openbao.ts";
import { freshKey } from "../seal/vault/stage.ts";
import { afterAllTests, type Cluster, cluster } from "./cluster.ts";
import { recordsIn } from "./etcd-records.ts";
import { reasonOf } from "./harness.ts";
import type { Serving } from "./serving-process.ts";

const MAIN = join(import.meta.dirname, "../../src/main.ts");

const onEnd = afterAllTests();
let one: Cluster;
let authority: string;
beforeAll(async () => {
  const bao = await startOpenBao();
  onEnd(() => bao.stop());
  const { key, token, authority: administrator } = await freshKey(bao);
  authority = administrator.reveal();
  const vault = `{ address: ${bao.url}, key: ${key}, token: ${token.reveal()} }`;
  const kek = `kek: { backend: vault-transit, vault: ${vault} }`;
  // Nobody refreshes ahead: each exchange is the sidecar's that was asked.
  one = await cluster({ sidecars: 1, onEnd, kek, config: "roles: [serve]" });
}, 60_000);

const tokenAt = ({ data }: Pick<Serving, "data">, accountId: string) =>
  data.call(CredentialService.method.getToken, { accountId }).then((got) => got.accessToken, reasonOf);
const instanceIn = ({ stateDir }: Serving) => readFileSync(join(stateDir, "instance"), "utf8").trim();
const sent = (subject: string) => one.simulator.history().filter((entry) => entry.subject === subject).length;

/** `keyturn journal replay DIR` in a process of its own, at the sidecar that lives. */
function replay(directory: string): Promise<{ readonly exit: unknown; readonly said: string }> {
  const [asked] = one.sidecars;
  const args = ["journal", "replay", directory, "--socket", join(asked?.stateDir ?? "", "s-admin.sock")];
  return new Promise((resolve) => {
    execFile(process.execPath, [MAIN, ...args], (error, stdout, stderr) =>
      resolve({ exit: error === null ? 0 : error.code, said: stdout + stderr }),
    );
  });
}

describe("an answer that only one sidecar's disk has", () => {
  it("keeps the version of the KEK that it is sealed under from being retired at another sidecar", async () => {
    const retire = () =>
      one.admin.call(KeyService.method.retireKekVersion, { version: 1, authority }).then(
        () => "retired",
        ({ details }: ServiceError) => details,
      );
    const keeper = await one.serve("keeper");
    const instance = instanceIn(keeper);
    await one.connect("unread");
    one.simulator.faults.add({
      endpoint: "token",
      subject: "unread",
      kind: "wrong_shape",
      redeems: true,
      times: 1,
    });
    expect(await tokenAt(keeper, "unread")).toBe("PROVIDER_UNAVAILABLE");
    const { entries } = await keeper.admin.call(JournalService.method.listEntries, {});
    expect(entries).toMatchObject([{ accountId: "unread", instance }]);

    await one.admin.call(KeyService.method.rotateKek, { authority });
    for await (const _ of one.admin.stream(KeyService.method.rewrapKeys, {}));
    expect(await retire()).toContain(`the journal of instance ${instance}`);

    // A sidecar tells of its journal when it starts, and then once a minute: this one has no need of version 1 but for
    // what it keeps.
    await keeper.end("SIGTERM");
    const again = await one.serve("keeper");
    expect(await retire()).toContain(
      `the journal of instance ${instance} may hold answers under version 1 (`,
    );

    const { accessToken, refreshToken } = one.simulator.issueGrant({ subject: "unread" });
    const credential = { kind: { case: "oauth" as const, value: { accessToken, refreshToken } } };
    await one.admin.call(AccountService.method.putCredential, { accountId: "unread", credential });
    expect(await again.admin.call(JournalService.method.replayEntries, {})).toMatchObject({ settled: 1 });
    await again.end("SIGTERM");
    expect(await retire()).toBe("retired");
  }, 60_000);

  it("is stored by another one that is given the disk once its sidecar is gone", async () => {
    const [other] = one.sidecars;
    if (other === undefined) throw new Error("no sidecar");
    const holder = await one.serve("holder");
    const instance = instanceIn(holder);
    await one.connect("adopted");
    one.simulator.faults.add({ endpoint: "token", subject: "adopted", kind: "late", ms: 1_000, times: 1 });
    const answer = tokenAt(holder, "adopted");
    while (sent("adopted") === 0) await delay(10);
    await one.etcd.only.kill();
    const token = await answer;
    expect(token).toMatch(/^sim_at_/);

    // Its process holds the disk; when that has died, etcd's word that it lives outlasts it for some seconds.
    const held = await replay(holder.stateDir);
    expect(held).toMatchObject({ exit: 2, said: expect.stringMatching(/another process/) });
    await holder.end("SIGKILL");
    await one.etcd.only.restart();
    const living = await replay(holder.stateDir);
    expect(living).toMatchObject({ exit: 2, said: expect.stringContaining(`${instance} lives`) });
    const members = async () => [...(await recordsIn(one.etcd, "members")).keys()];
    await expect.poll(members, { timeout: 30_000, interval: 200 }).not.toContain(instance);
    expect(await tokenAt(other, "adopted")).toBe("REFRESH_UNCERTAIN");

    expect(await replay(holder.stateDir)).toMatchObject({
      exit: 0,
      said: expect.stringMatching(/^1 settled, 0 /),
    });
    expect(await tokenAt(other, "adopted")).toBe(token);
    for (const left of ["attempts", "holds"]) expect(await recordsIn(one.etcd, left)).toEqual(new Map());
    // Nobody has to ask for this disk any more.
    expect([...(await recordsIn(one.etcd, "journals")).keys()]).not.toContain(instance);
    expect(await replay(holder.stateDir)).toMatchObject({
      exit: 0,
      said: expect.stringMatching(/^0 settled, 0 /),
    });
    expect(sent("adopted")).toBe(1);
    expect(one.simulator.history().filter(({ reuse }) => reuse)).toEqual([]);
  }, 90_000);
});
