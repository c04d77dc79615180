import { createServer, type ServerResponse } from "node:http";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { AccountService } from "../../src/gen/keyturn/v1/account_service_pb.js";
import { ConnectionService } from "../../src/gen/keyturn/v1/connection_service_pb.js";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { OAuthClientService } from "../../src/gen/keyturn/v1/oauth_client_service_pb.js";
import { tempFolder } from "../fakes/temp-folder.ts";
import { serve } from "./serving-process.ts";

const config = `providers: { directories: [${join(import.meta.dirname, "../providers/rows")}] }`;
const client = { provider: "rest-login", name: "main", clientId: "app", clientSecret: "app-secret" };

/** Codes and refresh tokens work once; a login hangs until it is told not to. */
async function startVendor() {
  const redeemed: string[] = [];
  const refreshed: string[] = [];
  const logins: string[] = [];
  let live = "rt-0";
  let hanging: ServerResponse | undefined;
  const answer = (response: ServerResponse, status: number, body: object) =>
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
  const server = createServer(async (request, response) => {
    const body = new URLSearchParams(Buffer.concat(await request.toArray()).toString());
    const url = new URL(request.url ?? "", "http://vendor.invalid");
    if (body.get("grant_type") === "authorization_code") {
      const code = body.get("code") ?? "";
      const isFresh = !redeemed.includes(code);
      redeemed.push(code);
      if (isFresh)
        answer(response, 200, { access_token: `at-of-${code}`, refresh_token: "rt-0", expires_in: 600 });
      else answer(response, 400, { error: "invalid_grant" });
      return;
    }
    if (url.pathname === "/token") {
      const token = body.get("refresh_token") ?? "";
      refreshed.push(token);
      if (token !== live) {
        answer(response, 400, { error: "invalid_grant" });
        return;
      }
      live = `rt-${refreshed.length}`;
      answer(response, 200, {
        access_token: `at-${refreshed.length}`,
        refresh_token: live,
        expires_in: 600,
      });
      return;
    }
    const token = url.searchParams.get("access_token") ?? "";
    logins.push(token);
    if (logins.length === 1) hanging = response;
    else answer(response, 200, { BhRestToken: `session-of-${token}`, restUrl: "https://rest.acme.example/" });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  onTestFinished(() => {
    hanging?.destroy();
    server.closeAllConnections();
    server.close();
  });
  return {
    port: typeof address === "object" && address !== null ? String(address.port) : "",
    redeemed,
    refreshed,
    logins,
  };
}

it("goes on with the second request after kill -9 between the two, and never sends the first one again", async () => {
  const vendor = await startVendor();
  const stateDir = tempFolder();
  let sidecar = await serve({ stateDir, config });
  await sidecar.admin.call(OAuthClientService.method.putClient, client);
  await sidecar.admin.call(AccountService.method.createAccount, {
    accountId: "acme",
    provider: "rest-login",
    client: "main",
    fields: { port: vendor.port },
    credential: { kind: { case: "oauth", value: { refreshToken: "rt-0" } } },
  });
  void sidecar.data.call(CredentialService.method.getToken, { accountId: "acme" }).catch(() => undefined);
  await expect.poll(() => vendor.logins.length, { timeout: 10_000 }).toBe(1);
  await sidecar.end("SIGKILL");

  sidecar = await serve({ stateDir, config });
  const token = await sidecar.data.call(CredentialService.method.getToken, { accountId: "acme" });
  expect(token.headers).toEqual({ BhRestToken: "session-of-at-1" });
  expect(token.fields).toMatchObject({ rest_url: "https://rest.acme.example/" });
  expect([vendor.refreshed, vendor.logins]).toEqual([["rt-0"], ["at-1", "at-1"]]);
  await sidecar.admin.call(AccountService.method.refreshAccount, { accountId: "acme" });
  expect(vendor.refreshed).toEqual(["rt-0", "rt-1"]);
  expect(await sidecar.end("SIGTERM")).toBe(0);
}, 60_000);

it("does so for a code, too, which goes out once, and whose account is there when the sidecar is ready", async () => {
  const vendor = await startVendor();
  const stateDir = tempFolder();
  let sidecar = await serve({ stateDir, config });
  await sidecar.admin.call(OAuthClientService.method.putClient, client);
  const redirectUri = "http://127.0.0.1:8000/callback";
  const started = await sidecar.data.call(ConnectionService.method.startAuthorization, {
    provider: "rest-login",
    client: "main",
    accountId: "acme",
    fields: { port: vendor.port },
    redirectUri,
  });
  const { authorizationUrl, browserBinding } = started;
  const state = new URL(authorizationUrl).searchParams.get("state") ?? "";
  const callbackUrl = `${redirectUri}?code=c-1&state=${state}`;
  const complete = { callbackUrl, browserBinding };
  const method = ConnectionService.method.completeAuthorization;
  void sidecar.data.call(method, complete).catch(() => undefined);
  await expect.poll(() => vendor.logins.length, { timeout: 10_000 }).toBe(1);
  await sidecar.end("SIGKILL");

  sidecar = await serve({ stateDir, config });
  const token = await sidecar.data.call(CredentialService.method.getToken, { accountId: "acme" });
  expect(token.headers).toEqual({ BhRestToken: "session-of-at-of-c-1" });
  expect([vendor.redeemed, vendor.logins]).toEqual([["c-1"], ["at-of-c-1", "at-of-c-1"]]);
  await expect(sidecar.data.call(method, complete)).rejects.toThrow("has been completed already");
  expect(await sidecar.end("SIGTERM")).toBe(0);
}, 60_000);
