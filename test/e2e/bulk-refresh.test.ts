import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { AccountService } from "../../src/gen/keyturn/v1/account_service_pb.js";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { run } from "../cli/run.ts";
import { reasonOf, type Scene, scene } from "./harness.ts";

let at: Scene;
beforeAll(async () => {
  at = await scene();
});
afterAll(() => at.stop());

function bulk(...args: readonly string[]) {
  const sockets = { data: join(at.stateDir, "data.sock"), admin: join(at.stateDir, "admin.sock") };
  return run(["accounts", "bulk-refresh", ...args], { sockets });
}

it("replaces the selected accounts' tokens, and the old ones are dead at the provider", async () => {
  const alive = (token: string) =>
    fetch(`http://127.0.0.1:${at.simulator.port}/api/me`, {
      headers: { authorization: `Bearer ${token}` },
    }).then(({ status }) => status);
  const mine = await at.connect("eu-1", { expired: false, labels: { region: "eu" } });
  const other = await at.connect("us-1", { expired: false, labels: { region: "us" } });
  expect(await alive(mine.accessToken)).toBe(200);
  const ran = await bulk("--provider", "simulator", "--label", "region=eu", "--revoke-previous", "--json");
  expect(ran.exit, ran.stderr).toBe(0);
  expect(ran.json().at(-1)).toMatchObject({ done: "1", total: "1", failed: "0", finished: true });
  expect([await alive(mine.accessToken), await alive(other.accessToken)]).toEqual([401, 200]);
  const { accessToken } = await at.data.call(CredentialService.method.getToken, { accountId: "eu-1" });
  expect(await alive(accessToken)).toBe(200);
  expect(
    await alive((await at.data.call(CredentialService.method.getToken, { accountId: "us-1" })).accessToken),
  ).toBe(200);
});

it("refuses to take everything, a client without its provider, and a cursor of nobody", async () => {
  for (const request of [
    {},
    { client: "main" },
    { resumeCursor: "x" },
    { resumeCursor: "x", tenant: "acme" },
  ]) {
    const call = at.admin.stream(AccountService.method.bulkRefreshAccounts, request);
    const error = await new Promise((resolve) => call.on("error", resolve).on("data", () => undefined));
    expect(reasonOf(error)).toBe("INVALID_REQUEST");
  }
});

it("says in plain words what it did, and the exit code tells of failures", async () => {
  // Its schedule leaves it alone, so that it is the bulk refresh that finds it refused.
  await at.connect("dead", { expired: false, labels: { kind: "dead" } });
  at.simulator.revokeFamily({ subject: "dead" });
  const dry = await bulk("--label", "kind=dead", "--dry-run");
  expect([dry.exit, dry.stdout]).toEqual([0, "dead: would be refreshed\n1 accounts are selected.\n"]);
  const wet = await bulk("--label", "kind=dead");
  expect(wet.exit).toBe(1);
  expect(wet.stdout).toContain("dead: The provider refuses this account's credential");
  expect(wet.stdout).toContain("1 of 1 accounts dealt with, 1 of them failed.");
});
