import { createServer } from "node:http";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { ConnectionService } from "../../src/gen/keyturn/v1/connection_service_pb.js";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { OAuthClientService } from "../../src/gen/keyturn/v1/oauth_client_service_pb.js";
import { reasonOf, scene } from "./harness.ts";

const REDIRECT = "http://127.0.0.1:8000/setup";

/** Installs the app as number 7, and mints tokens for that one alone. */
async function startVendor() {
  const minted: string[] = [];
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? "", "http://vendor.invalid");
    if (url.pathname === "/apps/mine/install") {
      const state = encodeURIComponent(url.searchParams.get("state") ?? "");
      const location = `${REDIRECT}?installation_id=7&setup_action=install&state=${state}`;
      response.writeHead(302, { location }).end();
      return;
    }
    minted.push(url.pathname);
    const isOurs = url.pathname === "/installations/7/token";
    const body = isOurs
      ? { access_token: `at-${minted.length}`, expires_in: 600 }
      : { error: "invalid_grant" };
    response.writeHead(isOurs ? 200 : 400, { "content-type": "application/json" }).end(JSON.stringify(body));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  return { port: typeof address === "object" && address !== null ? String(address.port) : "", minted };
}

async function stage() {
  const vendor = await startVendor();
  const here = await scene({ flags: { "providers.directories": join(import.meta.dirname, "providers") } });
  onTestFinished(() => here.stop());
  const client = { provider: "app-install", name: "main", clientId: "app", clientSecret: "app-secret" };
  await here.admin.call(OAuthClientService.method.putClient, client);
  const install = async (fields: Record<string, string> = {}) => {
    const started = await here.data.call(ConnectionService.method.startAuthorization, {
      provider: "app-install",
      client: "main",
      accountId: "acme",
      fields: { port: vendor.port, ...fields },
      redirectUri: REDIRECT,
    });
    const { headers } = await fetch(started.authorizationUrl, { redirect: "manual" });
    return { callbackUrl: headers.get("location") ?? "", browserBinding: started.browserBinding };
  };
  const complete = (of: { callbackUrl: string; browserBinding: string }) =>
    here.data.call(ConnectionService.method.completeAuthorization, of);
  const getToken = () => here.data.call(CredentialService.method.getToken, { accountId: "acme" });
  return { vendor, install, complete, getToken };
}

describe("a customer who installs our app", () => {
  it("is connected by the redirect alone, and the app gets the installation's token", async () => {
    const { vendor, install, complete, getToken } = await stage();
    const installed = await install();
    expect(new URL(installed.callbackUrl).searchParams.has("code")).toBe(false);
    expect(await complete(installed)).toMatchObject({ accountId: "acme", externalSubject: "7" });
    const { accessToken, fields } = await getToken();
    expect([accessToken, fields["installation"]]).toEqual(["at-1", "7"]);
    expect(vendor.minted).toEqual(["/installations/7/token"]);
    expect(await complete(installed).catch(reasonOf)).toBe("AUTHORIZATION_STATE_INVALID");
  });

  it("cannot name another installation than the app has said, nor one that gives no token", async () => {
    const { vendor, install, complete, getToken } = await stage();
    const other = await install({ installation: "8" });
    expect(await complete(other).catch(reasonOf)).toBe("AUTHORIZATION_STATE_INVALID");
    expect(vendor.minted).toEqual([]);
    const foreign = await install();
    const callbackUrl = foreign.callbackUrl.replace("installation_id=7", "installation_id=9");
    expect(await complete({ ...foreign, callbackUrl }).catch(reasonOf)).toBe("AUTHORIZATION_DENIED");
    expect(await getToken().catch(reasonOf)).toBe("ACCOUNT_PENDING");
  });
});
