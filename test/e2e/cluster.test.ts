import { describe, expect, it } from "vitest";
import { AccountService } from "../../src/gen/keyturn/v1/account_service_pb.js";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { cluster, times } from "./cluster.ts";
import { reasonOf } from "./harness.ts";

const { getToken } = CredentialService.method;

describe("several sidecars over one etcd", () => {
  it("ask the provider once for an account that a hundred callers of each want at once", async () => {
    const { sidecars, simulator, connect } = await cluster({ sidecars: 5 });
    await connect("herd");
    const answers = await times(500, (n) => {
      const sidecar = sidecars[n % sidecars.length];
      if (sidecar === undefined) throw new Error("no sidecar");
      return sidecar.data.call(getToken, { accountId: "herd" });
    });
    expect(new Set(answers.map(({ accessToken }) => accessToken)).size).toBe(1);
    expect(simulator.stats().tokenRequests).toBe(1);
  });

  it("refuse a disabled and a deleted account within two seconds, wherever it was warm", async () => {
    const { sidecars, admin, connect } = await cluster({ sidecars: 3 });
    await connect("disabled", { expired: false });
    await connect("deleted", { expired: false });
    const ask = (accountId: string) =>
      Promise.all(sidecars.map(({ data }) => data.call(getToken, { accountId }).then(() => "", reasonOf)));
    expect(await ask("disabled")).toEqual(["", "", ""]);
    expect(await ask("deleted")).toEqual(["", "", ""]);
    await admin.call(AccountService.method.disableAccount, { accountId: "disabled" });
    await admin.call(AccountService.method.deleteAccount, { accountId: "deleted" });
    const options = { timeout: 2_000, interval: 50 };
    await expect.poll(() => ask("disabled"), options).toEqual(Array(3).fill("ACCOUNT_DISABLED"));
    await expect.poll(() => ask("deleted"), options).toEqual(Array(3).fill("ACCOUNT_NOT_FOUND"));
  });
});
