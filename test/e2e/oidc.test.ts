import { join } from "node:path";
import type { Page } from "puppeteer-core";
import { describe, expect, it, onTestFinished } from "vitest";
import { AccountService } from "../../src/gen/keyturn/v1/account_service_pb.js";
import { ConnectionService } from "../../src/gen/keyturn/v1/connection_service_pb.js";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { OAuthClientService } from "../../src/gen/keyturn/v1/oauth_client_service_pb.js";
import { startBrowser } from "../clients/browser.ts";
import { scene } from "./harness.ts";
import { APP_SECRET, startOidcServer } from "./oidc-server.ts";

const { getToken } = CredentialService.method;

async function stage() {
  const server = await startOidcServer();
  onTestFinished(() => server.close());
  const directories = join(import.meta.dirname, "providers");
  const here = await scene({
    flags: { "providers.directories": directories, "listeners.callback.port": "0" },
  });
  onTestFinished(() => here.stop());
  const putClient = (provider: string, clientId: string, proof: object) =>
    here.admin.call(OAuthClientService.method.putClient, { provider, name: "main", clientId, ...proof });
  const fields = { port: String(server.port) };
  return { ...here, server, putClient, fields };
}

/** Whoever sits before the browser signs in and agrees. */
async function consent(page: Page, login: string): Promise<void> {
  await page.type("input[name=login]", login);
  await page.type("input[name=password]", "any");
  await Promise.all([page.waitForNavigation(), page.click("button[type=submit]")]);
  await Promise.all([page.waitForNavigation(), page.click("button[type=submit]")]);
}

describe("an OpenID provider from npm", () => {
  it("connects in a browser with PKCE, refreshes, and is told when the customer leaves", async () => {
    const { data, admin, server, putClient, fields } = await stage();
    await putClient("oidc", "app", { clientSecret: APP_SECRET });
    const accountId = "acme";
    const start = { provider: "oidc", client: "main", accountId, fields };
    const started = await data.call(ConnectionService.method.startAuthorization, start);
    const browser = await startBrowser();
    const page = await browser.newPage();
    const { hostname: domain } = new URL(started.redirectUri);
    await browser.setCookie({ name: "keyturn_binding", value: started.browserBinding, domain });
    await page.goto(started.authorizationUrl);
    await consent(page, "alice");
    expect(await page.$eval("body", (body) => body.textContent)).toContain("Connected.");

    const { account } = await admin.call(AccountService.method.getAccount, { accountId });
    expect(account?.externalSubject).toBe("alice");
    const first = await data.call(getToken, { accountId });
    expect(first.scopes).toEqual(["openid", "offline_access"]);
    const userInfo = async (token: string) =>
      (await fetch(`${server.url}/me`, { headers: { authorization: `Bearer ${token}` } })).status;
    expect(await userInfo(first.accessToken)).toBe(200);
    await admin.call(AccountService.method.refreshAccount, { accountId });
    const second = await data.call(getToken, { accountId });
    expect(second.accessToken).not.toBe(first.accessToken);
    expect(await userInfo(second.accessToken)).toBe(200);
    expect(await data.call(ConnectionService.method.disconnect, { accountId })).toMatchObject({
      revoked: true,
    });
    expect(await userInfo(second.accessToken)).toBe(401);
  }, 60_000);
});
