import { createServer } from "node:http";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AccountService } from "../../src/gen/keyturn/v1/account_service_pb.js";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { OAuthClientService } from "../../src/gen/keyturn/v1/oauth_client_service_pb.js";
import { reasonOf, type Scene, scene } from "./harness.ts";

const { putClient, getClient } = OAuthClientService.method;

/** A vendor whose API wants a token of the app's own beside the customer's. */
async function startAds() {
  const seen: (string | undefined)[] = [];
  const managers: (string | undefined)[] = [];
  let n = 0;
  const server = createServer((request, response) => {
    response.setHeader("content-type", "application/json");
    if (request.url === "/token") {
      n += 1;
      response.end(JSON.stringify({ access_token: `access-${n}`, token_type: "Bearer", expires_in: 3_600 }));
      return;
    }
    seen.push(request.headers["developer-token"]?.toString());
    managers.push(request.headers["login-customer-id"]?.toString());
    response.end("{}");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  return {
    port: typeof address === "object" && address !== null ? String(address.port) : "",
    seen,
    managers,
    refreshes: () => n,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

let ads: Awaited<ReturnType<typeof startAds>>;
let stage: Scene;
beforeAll(async () => {
  ads = await startAds();
  stage = await scene({ flags: { "providers.directories": join(import.meta.dirname, "providers") } });
});
afterAll(async () => {
  await stage.stop();
  ads.close();
});

const put = (secretFields: Record<string, string>, more: object = {}) =>
  stage.admin.call(putClient, { provider: "ads", name: "main", clientId: "app", secretFields, ...more }).then(
    ({ client }) => client,
    (error: Error) => `${reasonOf(error)}: ${error.message}`,
  );
const headers = () =>
  stage.data
    .call(CredentialService.method.getToken, { accountId: "customer" })
    .then((answer) => answer.headers, reasonOf);

describe("a secret of the OAuth client that calls of the API carry", () => {
  it("has to be given, by a name of the provider's file", async () => {
    expect(await put({}, { clientSecret: "s" })).toMatch(
      /^INVALID_REQUEST: .*secret_fields.*developer_token/,
    );
    expect(await put({ developer_token: "dev-1", other: "x" })).toMatch(
      /^INVALID_REQUEST: .*secret_fields\.other: .*developer_token/,
    );
    expect(await put({ developer_token: "" })).toMatch(/^INVALID_REQUEST: .*secret_fields\.developer_token/);
    expect(await put({ developer_token: "dev-1" }, { clientSecret: "s" })).toMatchObject({
      secretFields: ["developer_token"],
      secrets: [{ version: "1" }],
    });
  });

  it("goes into each call beside the account's token, and is never shown", async () => {
    await stage.admin.call(AccountService.method.createAccount, {
      accountId: "customer",
      provider: "ads",
      client: "main",
      fields: { port: ads.port },
      credential: { kind: { case: "oauth", value: { refreshToken: "grant" } } },
    });
    expect(await headers()).toEqual({ Authorization: "Bearer access-1", "developer-token": "dev-1" });
    await stage.data.call(CredentialService.method.proxy, {
      accountId: "customer",
      method: "GET",
      path: "/campaigns",
    });
    expect(ads.seen).toEqual(["dev-1"]);
    const shown = await stage.admin.call(getClient, { provider: "ads", name: "main" });
    expect(
      JSON.stringify(shown, (_, value) => (typeof value === "bigint" ? String(value) : value)),
    ).not.toContain("dev-1");
    expect(stage.logs.join("\n")).not.toContain("dev-1");
  });

  it("is the new one in the next call after it was replaced, without a refresh; the other secrets stay", async () => {
    expect(await put({ developer_token: "dev-2" })).toMatchObject({ secrets: [{ version: "1" }] });
    await expect.poll(headers, { timeout: 2_000 }).toEqual({
      Authorization: "Bearer access-1",
      "developer-token": "dev-2",
    });
    expect(ads.refreshes()).toBe(1);
    expect(await put({}, { clientSecret: "s2" })).toMatchObject({ secretFields: ["developer_token"] });
    await expect.poll(headers, { timeout: 2_000 }).toMatchObject({ "developer-token": "dev-2" });
  });
});

describe("a header of a field that an account may lack", () => {
  it("goes into the calls of accounts that have it, and of no others", async () => {
    await stage.admin.call(AccountService.method.createAccount, {
      accountId: "managed",
      provider: "ads",
      client: "main",
      fields: { port: ads.port, manager: "1234567890" },
      credential: { kind: { case: "oauth", value: { refreshToken: "grant" } } },
    });
    ads.managers.length = 0;
    for (const accountId of ["customer", "managed"])
      await stage.data.call(CredentialService.method.proxy, { accountId, method: "GET", path: "/campaigns" });
    expect(ads.managers).toEqual([undefined, "1234567890"]);
  });
});
