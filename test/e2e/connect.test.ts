import { get, type IncomingHttpHeaders } from "node:http";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { systemClock } from "../../src/clock.ts";
import { AccountService, AccountStatus } from "../../src/gen/keyturn/v1/account_service_pb.js";
import { AuditService } from "../../src/gen/keyturn/v1/audit_service_pb.js";
import { ConnectionService } from "../../src/gen/keyturn/v1/connection_service_pb.js";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { startSimulator } from "../../src/simulator/simulator.ts";
import { freePort } from "../backends/ports.ts";
import { tempFolder } from "../fakes/temp-folder.ts";
import { causeOf, putSimulatorClient, reasonOf, type Scene, scene } from "./harness.ts";
import { serve } from "./serving-process.ts";

const { startAuthorization, completeAuthorization, connectWithSecret, disconnect } = ConnectionService.method;
const { getToken } = CredentialService.method;
const REDIRECT = "https://app.example/oauth/callback?client=main";

async function stage(flags: Record<string, string> = {}) {
  const here = await scene({ flags });
  onTestFinished(() => here.stop());
  const start = (accountId: string, more: Omit<Start, "accountId"> = {}) =>
    started(here, { accountId, ...more });
  return { ...here, start };
}

interface Start {
  readonly accountId: string;
  readonly tenant?: string;
  readonly subject?: string;
  readonly prompt?: string;
  readonly returnUrl?: string;
  readonly redirectUri?: string;
  readonly allowIdentityChange?: boolean;
  readonly scopes?: string[];
}

/** Starts, and goes where a browser would be sent: what comes back on the redirect. */
async function started({ data, simulator }: Pick<Scene, "data" | "simulator">, of: Start) {
  const { subject = of.accountId, prompt, ...asked } = of;
  const answer = await data.call(startAuthorization, {
    provider: "simulator",
    client: "main",
    tenant: "acme",
    redirectUri: REDIRECT,
    fields: { port: String(simulator.port) },
    ...asked,
  });
  const url = new URL(answer.authorizationUrl);
  url.searchParams.set("login_hint", subject);
  if (prompt !== undefined) url.searchParams.set("prompt", prompt);
  const callbackUrl = await redirectOf(url.href);
  const { accountId, authorizationUrl, browserBinding } = answer;
  return { accountId, authorizationUrl, browserBinding, callbackUrl };
}

async function redirectOf(url: string): Promise<string> {
  const response = await fetch(url, { redirect: "manual" });
  return response.headers.get("location") ?? "";
}

async function faultOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => "none",
    (error) => [reasonOf(error), causeOf(error)].filter(Boolean).join(" "),
  );
}

/** Of what ConnectionService was asked: who, about whom, and how it ended. */
async function auditOf({ admin }: Pick<Scene, "admin">, accountId: string): Promise<string[]> {
  const stream = admin.stream(AuditService.method.queryAudit, { accountId });
  const acts: string[] = [];
  for await (const { record } of stream)
    if (record?.operation.startsWith("ConnectionService/") && record.outcome !== "begun")
      acts.push(
        [
          record.operation.slice("ConnectionService/".length),
          record.outcome,
          record.detail["cause"] ?? record.detail["field"] ?? "",
        ]
          .join(" ")
          .trim(),
      );
  return acts;
}

function getOver(url: string, headers: Record<string, string> = {}) {
  return new Promise<{ status: number; headers: IncomingHttpHeaders; body: string }>((resolve, reject) => {
    get(url, { headers }, (response) => {
      let body = "";
      response.on("data", (chunk) => (body += chunk));
      response.on("end", () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body }),
      );
    }).on("error", reject);
  });
}

describe("a customer's consent", () => {
  it("becomes an account whose token an app gets, and whose vendor was asked with PKCE", async () => {
    const { data, admin, simulator, start } = await stage();
    const { browserBinding, callbackUrl, accountId, authorizationUrl } = await start("acme-1");
    expect(new URL(authorizationUrl).searchParams.get("code_challenge_method")).toBe("S256");
    expect(await faultOf(data.call(getToken, { accountId }))).toBe("ACCOUNT_PENDING");
    const done = await data.call(completeAuthorization, { callbackUrl, browserBinding });
    expect(done).toMatchObject({ accountId, grantedScopes: ["read", "write"], externalSubject: "acme-1" });
    expect(done.expireTime).toBeDefined();
    const { accessToken } = await data.call(getToken, { accountId });
    const me = await fetch(`${simulator.url}/api/me`, {
      headers: { authorization: `Bearer ${accessToken}` },
    });
    expect(await me.json()).toMatchObject({ subject: "acme-1", scope: "read write" });
    const { account } = await admin.call(AccountService.method.getAccount, { accountId });
    expect(account).toMatchObject({ status: AccountStatus.ACTIVE, tenant: "acme" });
  });

  it("is asked for the scopes that the app wants, and says which were granted", async () => {
    const { data, start } = await stage();
    const { browserBinding, callbackUrl } = await start("acme", { scopes: ["read"] });
    const done = await data.call(completeAuthorization, { callbackUrl, browserBinding });
    expect(done.grantedScopes).toEqual(["read"]);
  });

  it("refused by the customer is AUTHORIZATION_DENIED with the provider's code, and stores nothing", async () => {
    const here = await stage();
    const { browserBinding, callbackUrl, accountId } = await here.start("acme", { prompt: "deny" });
    const work = here.data.call(completeAuthorization, { callbackUrl, browserBinding });
    expect(await faultOf(work)).toBe("AUTHORIZATION_DENIED redirect");
    expect(await faultOf(here.data.call(getToken, { accountId }))).toBe("ACCOUNT_PENDING");
    expect(await auditOf(here, accountId)).toEqual([
      "StartAuthorization ok",
      "CompleteAuthorization AUTHORIZATION_DENIED redirect",
    ]);
  });

  it("that is not what was asked for is refused, audited, and stores nothing", async () => {
    const here = await stage();
    const { data, simulator, admin } = here;
    const { browserBinding, callbackUrl, accountId } = await here.start("acme");
    const mixedUp = callbackUrl.replace(/iss=[^&]+/, "iss=https%3A%2F%2Fevil.example");
    const elsewhere = callbackUrl.replace("client=main", "client=other");
    const attempts = [
      { callbackUrl, browserBinding: "another-browser" },
      { callbackUrl: mixedUp, browserBinding },
      { callbackUrl: elsewhere, browserBinding },
      { callbackUrl: callbackUrl.replace(/state=[^&]+/, "state=guessed"), browserBinding },
    ];
    const faults: string[] = [];
    for (const attempt of attempts) faults.push(await faultOf(data.call(completeAuthorization, attempt)));
    expect(faults).toEqual([
      "AUTHORIZATION_STATE_INVALID browser_binding",
      "AUTHORIZATION_STATE_INVALID iss",
      "AUTHORIZATION_STATE_INVALID redirect_uri",
      "AUTHORIZATION_STATE_INVALID unknown",
    ]);
    expect(simulator.stats().tokenRequests).toBe(0);
    expect(await auditOf(here, accountId)).toEqual([
      "StartAuthorization ok",
      "CompleteAuthorization AUTHORIZATION_STATE_INVALID browser_binding",
      "CompleteAuthorization AUTHORIZATION_STATE_INVALID iss",
      "CompleteAuthorization AUTHORIZATION_STATE_INVALID redirect_uri",
    ]);
    expect(await auditOf(here, "")).toContain("CompleteAuthorization AUTHORIZATION_STATE_INVALID unknown");
    const { account } = await admin.call(AccountService.method.getAccount, { accountId });
    expect(account?.status).toBe(AccountStatus.PENDING);
  });

  it("is exchanged once when it comes twice at once, and never again", async () => {
    const here = await stage();
    const { data, simulator } = here;
    const { browserBinding, callbackUrl } = await here.start("acme");
    const complete = () => data.call(completeAuthorization, { callbackUrl, browserBinding });
    const both = await Promise.all([faultOf(complete()), faultOf(complete())]);
    expect(both.sort()).toEqual(["AUTHORIZATION_STATE_INVALID used", "none"]);
    expect(await faultOf(complete())).toBe("AUTHORIZATION_STATE_INVALID used");
    expect(simulator.stats().tokenRequests).toBe(1);
    const acts = await auditOf(here, "acme");
    expect(acts.sort()).toEqual([
      "CompleteAuthorization AUTHORIZATION_STATE_INVALID used",
      "CompleteAuthorization AUTHORIZATION_STATE_INVALID used",
      "CompleteAuthorization ok",
      "StartAuthorization ok",
    ]);
  });

  it("by somebody else at the vendor does not take an account over", async () => {
    const here = await stage();
    const { data } = here;
    const first = await here.start("acme", { subject: "alice" });
    await data.call(completeAuthorization, first);
    const before = await data.call(getToken, { accountId: "acme" });
    const second = await here.start("acme", { subject: "mallory" });
    expect(await faultOf(data.call(completeAuthorization, second))).toBe("IDENTITY_MISMATCH");
    expect(await data.call(getToken, { accountId: "acme" })).toEqual(before);
    expect(await auditOf(here, "acme")).toContain("CompleteAuthorization IDENTITY_MISMATCH");
  });

  it("of an account that needs its customer again repairs it, and its token is the new one", async () => {
    const here = await stage();
    const { data, simulator } = here;
    await data.call(completeAuthorization, await here.start("acme", { subject: "alice" }));
    const { revision } = await data.call(getToken, { accountId: "acme" });
    simulator.revokeFamily({ subject: "alice" });
    const rejected = { accountId: "acme", rejectedRevision: revision };
    expect(await faultOf(data.call(getToken, rejected))).toBe("REAUTHORIZATION_REQUIRED refused");
    await data.call(completeAuthorization, await here.start("acme", { subject: "alice" }));
    const { accessToken } = await data.call(getToken, { accountId: "acme" });
    const me = await fetch(`${simulator.url}/api/me`, {
      headers: { authorization: `Bearer ${accessToken}` },
    });
    expect(me.status).toBe(200);
  });

  it("survives the sidecar's restart between start and completion", async () => {
    const stateDir = tempFolder();
    const simulator = await startSimulator({ clock: systemClock() });
    onTestFinished(() => simulator.close());
    const before = await serve({ stateDir });
    await putSimulatorClient(before.admin);
    const begun = await started({ data: before.data, simulator }, { accountId: "acme" });
    expect(await before.end("SIGKILL")).toBe("SIGKILL");
    const after = await serve({ stateDir });
    const done = await after.data.call(completeAuthorization, begun);
    expect(done.accountId).toBe("acme");
    expect((await after.data.call(getToken, { accountId: "acme" })).accessToken).not.toBe("");
  }, 30_000);

  it("is not asked for without what it needs", async () => {
    const here = await stage();
    const { data, start } = here;
    const ask = (over: object) =>
      faultOf(data.call(startAuthorization, { provider: "simulator", client: "main", ...over }));
    expect(await ask({})).toBe("INVALID_REQUEST");
    expect(await ask({ redirectUri: "http://app.example/cb" })).toBe("INVALID_REQUEST");
    const stranger = { accountId: "st", redirectUri: REDIRECT, returnUrl: "https://evil.example/" };
    expect(await ask(stranger)).toBe("INVALID_REQUEST");
    expect(await auditOf(here, "st")).toEqual(["StartAuthorization INVALID_REQUEST return_url"]);
    expect(await faultOf(data.call(getToken, { accountId: "st" }))).toBe("ACCOUNT_NOT_FOUND");
    expect(await ask({ redirectUri: REDIRECT })).toBe("INVALID_REQUEST");
    expect(await ask({ redirectUri: REDIRECT, fields: { prot: "8080" } })).toBe("INVALID_REQUEST");
    expect(await ask({ redirectUri: REDIRECT, client: "none" })).toBe("CLIENT_NOT_FOUND");
    expect(await ask({ redirectUri: REDIRECT, provider: "none" })).toBe("PROVIDER_NOT_FOUND");
    await data.call(completeAuthorization, await start("acme"));
    expect(await ask({ redirectUri: REDIRECT, accountId: "acme", tenant: "globex" })).toBe("INVALID_REQUEST");
  });
});

describe("the callback listener", () => {
  const RETURN = "https://app.example/connected?from=keyturn";

  async function listening() {
    const flags = { "listeners.callback.port": "0", "connections.return_urls": RETURN };
    const here = await stage(flags);
    const begin = (more: Omit<Start, "accountId"> = {}) => here.start("acme", { redirectUri: "", ...more });
    return { ...here, begin };
  }

  it("completes for the browser that has the cookie, and sends it to the registered address", async () => {
    const here = await listening();
    const { callbackUrl, browserBinding } = await here.begin({ returnUrl: RETURN });
    const strange = await getOver(callbackUrl);
    expect(strange.status).toBe(400);
    const { status, headers } = await getOver(callbackUrl, {
      cookie: `other=1; keyturn_binding=${browserBinding}`,
    });
    expect([status, headers.location]).toEqual([303, `${RETURN}&account_id=acme&status=connected`]);
    expect(headers["referrer-policy"]).toBe("no-referrer");
    expect((await here.data.call(getToken, { accountId: "acme" })).accessToken).not.toBe("");
    expect(await auditOf(here, "acme")).toEqual([
      "StartAuthorization ok",
      "CompleteAuthorization AUTHORIZATION_STATE_INVALID browser_binding",
      "CompleteAuthorization ok",
    ]);
  });

  it("tells the app that its customer declined, and shows a page where there is no app to go back to", async () => {
    const here = await listening();
    const denied = await here.begin({ returnUrl: RETURN, prompt: "deny" });
    const cookie = (of: { browserBinding: string }) => ({ cookie: `keyturn_binding=${of.browserBinding}` });
    const { headers } = await getOver(denied.callbackUrl, cookie(denied));
    expect(headers.location).toBe(`${RETURN}&account_id=acme&status=denied&reason=AUTHORIZATION_DENIED`);
    const plain = await here.begin();
    const page = await getOver(plain.callbackUrl, cookie(plain));
    expect([page.status, page.body]).toEqual([200, expect.stringContaining("Connected.")]);
  });

  it("keeps the browser while its redirect is still good, and reloading the page connects", async () => {
    const here = await listening();
    const throttled = { kind: "rate_limit", dialect: "retry_after_seconds", endpoint: "token" } as const;
    here.simulator.faults.add({ ...throttled, times: 1, retryAfterMs: 2_000 });
    const cookie = (of: { browserBinding: string }) => ({ cookie: `keyturn_binding=${of.browserBinding}` });
    const [first, second] = [
      await here.begin({ returnUrl: RETURN }),
      await here.begin({ returnUrl: RETURN }),
    ];
    const spent = await getOver(first.callbackUrl, cookie(first));
    expect(spent.headers.location).toBe(
      `${RETURN}&account_id=acme&status=failed&reason=PROVIDER_RATE_LIMITED`,
    );
    const open = await getOver(second.callbackUrl, cookie(second));
    expect([open.status, open.body]).toEqual([
      503,
      expect.stringContaining("Reload this page to try again."),
    ]);
    expect(Number(open.headers["retry-after"])).toBeLessThanOrEqual(2);
    const reload = () => getOver(second.callbackUrl, cookie(second));
    await expect
      .poll(async () => (await reload()).headers.location, { timeout: 10_000, interval: 500 })
      .toBe(`${RETURN}&account_id=acme&status=connected`);
  });

  it("is known by its public address behind the app's proxy", async () => {
    const port = String(await freePort());
    const publicUrl = "https://app.example/oauth/cb";
    const flags = { "listeners.callback.port": port, "listeners.callback.public_url": publicUrl };
    const { start } = await stage(flags);
    const { callbackUrl, browserBinding } = await start("acme", { redirectUri: "" });
    expect(callbackUrl).toMatch(/^https:\/\/app\.example\/oauth\/cb\?/);
    const { pathname, search } = new URL(callbackUrl);
    const headers = { host: "app.example", cookie: `keyturn_binding=${browserBinding}` };
    const { status } = await getOver(`http://127.0.0.1:${port}${pathname}${search}`, headers);
    expect(status).toBe(200);
  });

  it("answers one path, one method and its own names only", async () => {
    const here = await listening();
    const { callbackUrl } = await here.begin();
    const { origin } = new URL(callbackUrl);
    expect((await getOver(`${origin}/`)).status).toBe(404);
    expect((await getOver(callbackUrl, { host: "evil.example" })).status).toBe(421);
    expect((await fetch(callbackUrl, { method: "POST" })).status).toBe(405);
    expect((await getOver(`${origin}/callback`)).body).toContain("has not exactly one state");
  });
});

describe("a customer's API key", () => {
  const flags = { "providers.directories": join(import.meta.dirname, "providers") };

  async function keyStage() {
    const here = await stage(flags);
    const connect = (apiKey: string, accountId = "hr") =>
      here.data.call(connectWithSecret, {
        provider: "sim-key",
        tenant: "acme",
        accountId,
        fields: { port: String(here.simulator.port) },
        secrets: { api_key: apiKey },
      });
    return { ...here, connect };
  }

  it("is stored once the provider accepts it, and not at all when it does not", async () => {
    const here = await keyStage();
    expect(await faultOf(here.connect("wrong-key"))).toBe("AUTHORIZATION_DENIED secret_refused");
    expect(await faultOf(here.data.call(getToken, { accountId: "hr" }))).toBe("ACCOUNT_NOT_FOUND");
    expect(await here.connect("demo-api-key")).toMatchObject({ accountId: "hr", verified: true });
    const { headers } = await here.data.call(getToken, { accountId: "hr" });
    expect(headers).toEqual({ "X-Api-Key": "demo-api-key" });
    expect(await auditOf(here, "hr")).toEqual([
      "ConnectWithSecret AUTHORIZATION_DENIED secret_refused",
      "ConnectWithSecret ok",
    ]);
  });

  it("that the vendor refuses later needs its customer, found out by asking the vendor", async () => {
    const here = await keyStage();
    await here.connect("demo-api-key");
    const { revision } = await here.data.call(getToken, { accountId: "hr" });
    here.simulator.setApiCredentials({ apiKeys: ["next-key"] });
    const rejected = { accountId: "hr", rejectedRevision: revision };
    expect(await faultOf(here.data.call(getToken, rejected))).toBe(
      "REAUTHORIZATION_REQUIRED verification_refused",
    );
    await here.connect("next-key");
    const { headers } = await here.data.call(getToken, { accountId: "hr" });
    expect(headers).toEqual({ "X-Api-Key": "next-key" });
  });

  it("names what is missing or unknown among its secrets, never their values", async () => {
    const { data } = await keyStage();
    const ask = (secrets: Record<string, string>) =>
      data.call(connectWithSecret, { provider: "sim-key", secrets }).catch((error) => String(error.details));
    expect(await ask({})).toBe("secrets.api_key: this provider needs it");
    expect(await ask({ api_key: "k-4711", token: "t-4711" })).toBe(
      "secrets.token: this provider asks for api_key",
    );
  });
});

describe("disconnecting", () => {
  it("revokes the grant, the refresh token first, and deletes the account", async () => {
    const here = await stage();
    await here.data.call(completeAuthorization, await here.start("acme"));
    const { accessToken } = await here.data.call(getToken, { accountId: "acme" });
    expect(await here.data.call(disconnect, { accountId: "acme" })).toMatchObject({ revoked: true });
    expect(await faultOf(here.data.call(getToken, { accountId: "acme" }))).toBe("ACCOUNT_NOT_FOUND");
    const headers = { authorization: `Bearer ${accessToken}` };
    expect((await fetch(`${here.simulator.url}/api/me`, { headers })).status).toBe(401);
    expect(await auditOf(here, "acme")).toContain("Disconnect ok");
  });

  it("says when the provider could not be told", async () => {
    const here = await stage();
    await here.data.call(completeAuthorization, await here.start("acme"));
    await here.simulator.close();
    expect(await here.data.call(disconnect, { accountId: "acme" })).toMatchObject({ revoked: false });
    expect(await faultOf(here.data.call(getToken, { accountId: "acme" }))).toBe("ACCOUNT_NOT_FOUND");
  });
});
