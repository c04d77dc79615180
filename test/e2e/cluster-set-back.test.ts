import { cpSync, rmSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { AccountService } from "../../src/gen/keyturn/v1/account_service_pb.js";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { JournalService } from "../../src/gen/keyturn/v1/journal_service_pb.js";
import { cluster } from "./cluster.ts";
import { reasonOf } from "./harness.ts";
import type { Serving } from "./serving-process.ts";

const ROTATIONS = 20;

it("notices an etcd put back by many rotations, serves what is valid, and refreshes nothing until that is accepted", async () => {
  const one = await cluster({ sidecars: 2 });
  const [first, second] = one.sidecars;
  if (first === undefined || second === undefined) throw new Error("two sidecars");
  const token = ({ data }: Serving) =>
    data
      .call(CredentialService.method.getToken, { accountId: "acme" })
      .then((got) => got.accessToken, reasonOf);
  const refresh = ({ admin }: Serving) =>
    admin.call(AccountService.method.refreshAccount, { accountId: "acme" }).then(() => "refreshed", reasonOf);
  await one.connect("acme");
  expect(await token(first)).toMatch(/^sim_at_/);

  const { only, folder } = one.etcd;
  const [data, copy] = [join(folder, "m0"), join(folder, "copy")];
  await only.kill();
  cpSync(data, copy, { recursive: true });
  await only.restart();
  await expect.poll(() => refresh(first), { timeout: 10_000 }).toBe("refreshed");
  for (let n = 1; n < ROTATIONS; n += 1) expect(await refresh(first)).toBe("refreshed");

  await only.kill();
  rmSync(data, { recursive: true });
  cpSync(copy, data, { recursive: true });
  await only.restart();
  const requests = () => one.simulator.history().length;
  const sent = requests();
  for (const sidecar of [first, second])
    await expect.poll(() => refresh(sidecar), { timeout: 20_000, interval: 200 }).toBe("REFRESH_UNCERTAIN");
  const headers = { authorization: `Bearer ${await token(first)}` };
  const api = await fetch(`http://127.0.0.1:${one.simulator.port}/api/me`, { headers });
  expect(api.status).toBe(200);
  const { restoreHold } = await second.admin.call(JournalService.method.listEntries, {});
  expect(restoreHold?.foundRevision).toBeLessThan(restoreHold?.seenRevision ?? 0n);
  // One on a fresh disk finds the hold in the store.
  const third = await one.serve("third");
  expect(await refresh(third)).toBe("REFRESH_UNCERTAIN");
  const { account } = await third.admin.call(AccountService.method.getAccount, { accountId: "acme" });
  expect(account?.statusReason).toBe("");
  expect(requests()).toBe(sent);

  await third.admin.call(JournalService.method.acceptRestore, {});
  // The provider has seen its refresh token before: now that is its own word, and nobody's guess.
  await expect
    .poll(() => refresh(second), { timeout: 20_000, interval: 500 })
    .toBe("REAUTHORIZATION_REQUIRED");
}, 120_000);
