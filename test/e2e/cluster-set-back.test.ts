import { setTimeout as delay } from "node:timers/promises";
import { expect, it } from "vitest";
import { AccountService, AccountStatus } from "../../src/gen/keyturn/v1/account_service_pb.js";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { JournalService } from "../../src/gen/keyturn/v1/journal_service_pb.js";
import { cluster } from "./cluster.ts";
import { reasonOf } from "./harness.ts";
import type { Serving } from "./serving-process.ts";

const ROTATIONS = 100;

const token = ({ data }: Serving, accountId: string) =>
  data.call(CredentialService.method.getToken, { accountId }).then((got) => got.accessToken, reasonOf);
const refresh = ({ admin }: Serving, accountId: string) =>
  admin.call(AccountService.method.refreshAccount, { accountId }).then(() => "refreshed", reasonOf);

// How etcd.io has it: the second way keeps those who watch from taking old state for news, and leaves no number that
// shows it.
const WAYS = [
  { way: "from a snapshot", flags: [] },
  {
    way: "from a snapshot with its revision bumped",
    flags: ["--bump-revision=1000000000", "--mark-compacted"],
  },
];

it.each(WAYS)(
  "notices an etcd put back by many rotations $way, serves what is valid, and refreshes nothing until that is accepted",
  async ({ flags }) => {
    const one = await cluster({ sidecars: 2 });
    const [first, second] = one.sidecars;
    if (first === undefined || second === undefined) throw new Error("two sidecars");
    await one.connect("acme");
    expect(await token(first, "acme")).toMatch(/^sim_at_/);

    const { putBack } = await one.etcd.snapshot();
    for (let n = 0; n < ROTATIONS; n += 1) expect(await refresh(first, "acme")).toBe("refreshed");

    await putBack(...flags);
    const requests = () => one.simulator.history().length;
    const sent = requests();
    for (const sidecar of [first, second])
      await expect
        .poll(() => refresh(sidecar, "acme"), { timeout: 20_000, interval: 200 })
        .toBe("REFRESH_UNCERTAIN");
    const headers = { authorization: `Bearer ${await token(first, "acme")}` };
    const api = await fetch(`http://127.0.0.1:${one.simulator.port}/api/me`, { headers });
    expect(api.status).toBe(200);
    const { restoreHold } = await second.admin.call(JournalService.method.listEntries, {});
    expect(restoreHold?.foundRevision).not.toBe(restoreHold?.seenRevision);
    // One on a fresh disk finds the hold in the store.
    const third = await one.serve("third");
    expect(await refresh(third, "acme")).toBe("REFRESH_UNCERTAIN");
    const { account } = await third.admin.call(AccountService.method.getAccount, { accountId: "acme" });
    expect(account?.statusReason).toBe("");
    expect(requests()).toBe(sent);

    await third.admin.call(JournalService.method.acceptRestore, {});
    // The provider has seen its refresh token before: now that is its own word, and nobody's guess.
    await expect
      .poll(() => refresh(second, "acme"), { timeout: 20_000, interval: 500 })
      .toBe("REAUTHORIZATION_REQUIRED");
  },
  120_000,
);

it.each(WAYS)(
  "put back $way while nobody ran, is noticed by a sidecar that starts on its old disk",
  async ({ flags }) => {
    const one = await cluster({ sidecars: 1, config: "roles: [serve]" });
    const [first] = one.sidecars;
    if (first === undefined) throw new Error("a sidecar");
    await one.connect("acme", { expired: false });
    const { putBack } = await one.etcd.snapshot();
    expect(await refresh(first, "acme")).toBe("refreshed");
    await first.end("SIGTERM");
    await putBack(...flags);

    const again = await one.serve("s0");
    expect(await refresh(again, "acme")).toBe("REFRESH_UNCERTAIN");
    const { why, nextStep } = await again.admin.call(AccountService.method.explainAccount, {
      accountId: "acme",
    });
    expect(why).toMatch(/^The store was set back/);
    expect(nextStep).toMatch(/accept-restore/);
    expect(one.simulator.history()).toHaveLength(1);
  },
  60_000,
);

it("put back under sidecars that are gone, loses no account whose journal lives, and flags nobody by guess", async () => {
  const one = await cluster({ sidecars: 2, config: "roles: [serve]" });
  const [first, second] = one.sidecars;
  if (first === undefined || second === undefined) throw new Error("two sidecars");
  await one.connect("kept", { expired: false });
  await one.connect("plain", { expired: false });
  const { putBack } = await one.etcd.snapshot();
  for (let n = 0; n < ROTATIONS; n += 1) {
    expect(await refresh(second, "kept")).toBe("refreshed");
    expect(await refresh(first, "plain")).toBe("refreshed");
  }
  // The last answer of one is in its sidecar's journal and nowhere else when everything dies.
  const sent = () => one.simulator.history().filter(({ subject }) => subject === "kept").length;
  const before = sent();
  one.simulator.faults.add({ endpoint: "token", subject: "kept", kind: "late", ms: 1_000, times: 1 });
  const last = refresh(second, "kept");
  while (sent() === before) await delay(10);
  await one.etcd.only.kill();
  await last;
  const newest = await token(second, "kept");
  expect(newest).toMatch(/^sim_at_/);
  await Promise.all([first.end("SIGKILL"), second.end("SIGKILL")]);
  await putBack();
  const requests = one.simulator.history().length;

  const fresh = await one.serve("fresh", { words: ["--after-restore"] });
  const status = async (accountId: string) => {
    const { account } = await fresh.admin.call(AccountService.method.getAccount, { accountId });
    return account?.status;
  };
  for (const id of ["kept", "plain"]) expect(await refresh(fresh, id)).toBe("REFRESH_UNCERTAIN");
  const again = await one.serve("s1");
  await expect.poll(() => token(fresh, "kept"), { timeout: 5_000, interval: 100 }).toBe(newest);
  expect(await refresh(again, "plain")).toBe("REFRESH_UNCERTAIN");
  expect([await status("kept"), await status("plain")]).toEqual(Array(2).fill(AccountStatus.ACTIVE));
  expect(one.simulator.history()).toHaveLength(requests);

  await fresh.admin.call(JournalService.method.acceptRestore, {});
  await expect.poll(() => refresh(again, "kept"), { timeout: 20_000, interval: 500 }).toBe("refreshed");
  expect(one.simulator.history().filter(({ reuse }) => reuse)).toEqual([]);
  expect(await refresh(fresh, "plain")).toBe("REAUTHORIZATION_REQUIRED");
}, 120_000);
