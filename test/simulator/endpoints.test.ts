import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { textOf, vendor } from "./setup.ts";

const VERIFIER = "v".repeat(43);
const S256 = createHash("sha256").update(VERIFIER).digest("base64url");
const CALLBACK = "http://127.0.0.1:9/callback?keep=1";

type Vendor = Awaited<ReturnType<typeof vendor>>;

async function consent({ call }: Vendor, extra: Record<string, string> = {}): Promise<URL> {
  const query = new URLSearchParams({
    response_type: "code",
    client_id: "demo-client",
    redirect_uri: CALLBACK,
    state: "st ate",
    code_challenge: S256,
    code_challenge_method: "S256",
    ...extra,
  });
  const reply = await call(`/oauth/authorize?${query}`);
  expect(reply.status).toBe(302);
  return new URL(reply.headers.get("location") ?? "");
}

function redeemCode({ token }: Vendor, location: URL, extra: Record<string, string> = {}) {
  const code = location.searchParams.get("code") ?? "";
  return token({
    grant_type: "authorization_code",
    code,
    redirect_uri: CALLBACK,
    code_verifier: VERIFIER,
    ...extra,
  });
}

describe("authorize", () => {
  it("consents by itself and its code becomes a working grant", async () => {
    const v = await vendor();
    const location = await consent(v, { scope: "a b", login_hint: "ann" });
    expect(Object.fromEntries(location.searchParams)).toMatchObject({
      keep: "1",
      state: "st ate",
      iss: v.simulator.url,
    });
    const reply = await redeemCode(v, location);
    expect(reply.json).toMatchObject({ scope: "a b", expires_in: 3600 });
    expect((await v.me(textOf(reply, "access_token"))).json).toMatchObject({
      subject: "ann",
      client_id: "demo-client",
    });
    expect((await v.refresh(textOf(reply, "refresh_token"))).status).toBe(200);
  });

  it("ends the grant when its code comes again", async () => {
    const v = await vendor();
    const location = await consent(v);
    const reply = await redeemCode(v, location);
    expect((await redeemCode(v, location)).json.error).toBe("invalid_grant");
    expect((await v.me(textOf(reply, "access_token"))).status).toBe(401);
    expect(v.simulator.stats().familiesRevokedByReuse).toBe(1);
  });

  it("refuses a code with a wrong verifier, redirect address or age, and still takes the right one", async () => {
    const v = await vendor();
    const location = await consent(v);
    expect((await redeemCode(v, location, { code_verifier: "w".repeat(43) })).json.error).toBe(
      "invalid_grant",
    );
    expect((await redeemCode(v, location, { code_verifier: "" })).json.error).toBe("invalid_grant");
    expect((await redeemCode(v, location, { redirect_uri: "http://127.0.0.1:9/" })).json.error).toBe(
      "invalid_grant",
    );
    v.clock.advance(59_999);
    expect((await redeemCode(v, location)).status).toBe(200);
    const late = await consent(v);
    v.clock.advance(60_000);
    expect((await redeemCode(v, late)).json.error_description).toBe("the code has expired");
  });

  it("checks a plain challenge, and refuses a verifier nobody asked for", async () => {
    const v = await vendor();
    const plain = await consent(v, { code_challenge: VERIFIER, code_challenge_method: "plain" });
    expect((await redeemCode(v, plain)).status).toBe(200);
    const bare = await consent(v, { code_challenge: "", code_challenge_method: "" });
    expect((await redeemCode(v, bare)).json.error).toBe("invalid_grant");
    expect((await redeemCode(v, bare, { code_verifier: "" })).status).toBe(200);
  });

  it("sends its errors on the redirect", async () => {
    const clients = [{ clientId: "demo-client" }];
    const v = await vendor({ clients });
    const errorOf = async (extra: Record<string, string>) =>
      (await consent(v, extra)).searchParams.get("error");
    expect(await errorOf({ prompt: "deny" })).toBe("access_denied");
    expect(await errorOf({ response_type: "token" })).toBe("unsupported_response_type");
    expect(await errorOf({ code_challenge_method: "S512" })).toBe("invalid_request");
    expect(await errorOf({ code_challenge: "short" })).toBe("invalid_request");
    expect(await errorOf({ code_challenge: "", code_challenge_method: "" })).toBe("invalid_request");
  });

  it("never redirects for a wrong client or redirect address", async () => {
    const redirectUris = ["https://app.example/cb", "http://127.0.0.1/cb"];
    const { call } = await vendor({ clients: [{ clientId: "c", clientSecret: "s", redirectUris }] });
    const statusOf = async (client: string, uri: string) =>
      (
        await call(
          `/oauth/authorize?${new URLSearchParams({ response_type: "code", client_id: client, redirect_uri: uri })}`,
        )
      ).status;
    expect(await statusOf("nobody", "https://app.example/cb")).toBe(400);
    expect(await statusOf("c", "https://app.example/cb2")).toBe(400);
    expect(await statusOf("c", "https://app.example:444/cb")).toBe(400);
    expect(await statusOf("c", "javascript:alert(1)")).toBe(400);
    expect(await statusOf("c", "https://app.example/cb")).toBe(302);
    expect(await statusOf("c", "http://127.0.0.1:5555/cb")).toBe(302);
    expect((await call("/oauth/authorize?client_id=c&client_id=c")).status).toBe(400);
  });
});

describe("token endpoint", () => {
  it("wants Basic credentials form-encoded first", async () => {
    const { form } = await vendor({ clients: [{ clientId: "a:b c", clientSecret: "p+%ü" }] });
    const grant = { grant_type: "client_credentials" };
    const basic = (pair: string) => ({ authorization: `Basic ${Buffer.from(pair).toString("base64")}` });
    expect((await form("/oauth/token", grant, basic("a%3Ab+c:p%2B%25%C3%BC"))).status).toBe(200);
    const raw = await form("/oauth/token", grant, basic("a:b c:p+%ü"));
    expect([raw.status, raw.json.error]).toEqual([401, "invalid_client"]);
    expect(raw.headers.get("www-authenticate")).toContain("Basic");
  });

  it("takes a JSON body", async () => {
    const { post } = await vendor();
    const body = {
      grant_type: "client_credentials",
      client_id: "demo-client",
      client_secret: "demo-secret",
      scope: "x",
    };
    const reply = await post("/oauth/token", body);
    expect(reply.json).toMatchObject({ expires_in: 3600, scope: "x" });
    expect("refresh_token" in reply.json).toBe(false);
  });

  it("lets a public client refresh without a secret, but gives it no credentials grant", async () => {
    const { simulator, form } = await vendor({ clients: [{ clientId: "app" }] });
    const { refreshToken } = simulator.issueGrant();
    const fields = { grant_type: "refresh_token", refresh_token: refreshToken, client_id: "app" };
    expect((await form("/oauth/token", { ...fields, client_secret: "s" })).json.error).toBe("invalid_client");
    expect((await form("/oauth/token", fields)).status).toBe(200);
    const own = await form("/oauth/token", { grant_type: "client_credentials", client_id: "app" });
    expect(own.json.error).toBe("unauthorized_client");
  });

  it("refuses what is not as the specification says, and counts it", async () => {
    const { simulator, token, form, call, post } = await vendor();
    const codeOf = async (reply: Promise<{ json: Record<string, unknown> }>) => (await reply).json.error;
    expect(await codeOf(token({}))).toBe("invalid_request");
    expect(await codeOf(token({ grant_type: "password" }))).toBe("unsupported_grant_type");
    expect(await codeOf(token({ grant_type: "refresh_token" }))).toBe("invalid_request");
    expect(await codeOf(token({ grant_type: "authorization_code" }))).toBe("invalid_request");
    expect(await codeOf(token({ grant_type: "client_credentials", client_secret: "wrong" }))).toBe(
      "invalid_client",
    );
    expect(await codeOf(form("/oauth/token", { grant_type: "client_credentials" }))).toBe("invalid_client");
    expect(await codeOf(post("/oauth/token", { grant_type: 5 }))).toBe("invalid_request");
    expect(await codeOf(call("/oauth/token", { method: "POST", body: "x" }))).toBe("invalid_request");
    const twice = "grant_type=client_credentials&grant_type=client_credentials";
    const headers = { "content-type": "application/x-www-form-urlencoded" };
    expect(await codeOf(call("/oauth/token", { method: "POST", body: twice, headers }))).toBe(
      "invalid_request",
    );
    expect((await call("/oauth/token")).status).toBe(405);
    expect(simulator.stats()).toMatchObject({
      tokenRequests: 10,
      byGrantType: { none: 5, other: 1, refresh_token: 1, authorization_code: 1, client_credentials: 2 },
      byStatus: { 400: 7, 401: 2, 405: 1 },
      unanswered: 0,
      redeemed: 0,
    });
  });

  it("refuses two ways of authenticating and one that is not registered", async () => {
    const clients = [{ clientId: "c", clientSecret: "s", authMethods: ["client_secret_basic" as const] }];
    const { form } = await vendor({ clients });
    const authorization = `Basic ${Buffer.from("c:s").toString("base64")}`;
    const grant = { grant_type: "client_credentials" };
    expect((await form("/oauth/token", { ...grant, client_secret: "s" }, { authorization })).status).toBe(
      401,
    );
    expect((await form("/oauth/token", { ...grant, client_id: "c", client_secret: "s" })).status).toBe(401);
    expect((await form("/oauth/token", { ...grant, client_id: "c" }, { authorization })).status).toBe(200);
  });

  it("honours a client's new secret at once", async () => {
    const { simulator, token } = await vendor();
    simulator.putClient({ clientId: "demo-client", clientSecret: "second" });
    expect((await token({ grant_type: "client_credentials" })).status).toBe(401);
    expect((await token({ grant_type: "client_credentials", client_secret: "second" })).status).toBe(200);
  });
});

describe("introspection and revocation", () => {
  const secret = { client_id: "demo-client", client_secret: "demo-secret" };

  it("describes live tokens to their own client only", async () => {
    const clients = [
      { clientId: "demo-client", clientSecret: "demo-secret" },
      { clientId: "other", clientSecret: "s" },
    ];
    const { simulator, clock, form } = await vendor({ clients });
    const { accessToken, refreshToken, expiresAtMs } = simulator.issueGrant({ subject: "ann" });
    const access = await form("/oauth/introspect", { ...secret, token: accessToken });
    const exp = expiresAtMs / 1000;
    const about = {
      active: true,
      client_id: "demo-client",
      sub: "ann",
      scope: "read write",
      iss: simulator.url,
    };
    expect(access.json).toEqual({ ...about, token_type: "Bearer", exp, iat: exp - 3600 });
    expect((await form("/oauth/introspect", { ...secret, token: refreshToken })).json).toEqual(about);
    const foreign = { client_id: "other", client_secret: "s", token: accessToken };
    expect((await form("/oauth/introspect", foreign)).json).toEqual({ active: false });
    expect((await form("/oauth/introspect", { token: accessToken })).status).toBe(401);
    clock.advance(3_600_000);
    expect((await form("/oauth/introspect", { ...secret, token: accessToken })).json).toEqual({
      active: false,
    });
  });

  it("revokes an access token alone and a refresh token with its family", async () => {
    const { simulator, form, me, refresh } = await vendor();
    const { accessToken, refreshToken } = simulator.issueGrant();
    expect((await form("/oauth/revoke", { ...secret, token: accessToken })).status).toBe(200);
    expect((await me(accessToken)).status).toBe(401);
    const next = await refresh(refreshToken);
    expect((await form("/oauth/revoke", { ...secret, token: textOf(next, "refresh_token") })).status).toBe(
      200,
    );
    expect((await me(textOf(next, "access_token"))).status).toBe(401);
    expect((await form("/oauth/revoke", { ...secret, token: "unknown" })).status).toBe(200);
    expect((await form("/oauth/revoke", { token: "unknown" })).status).toBe(401);
    expect(simulator.stats()).toMatchObject({
      familiesRevoked: 1,
      familiesRevokedByReuse: 0,
      activeGrants: 0,
    });
  });
});

describe("api", () => {
  it("echoes how it was called, without the credential", async () => {
    const { simulator, call } = await vendor();
    const { accessToken } = simulator.issueGrant({ subject: "ann" });
    const headers = { authorization: `bearer ${accessToken}`, "x-trace": "7" };
    const reply = await call("/api/things/1?x=2", { method: "PUT", body: "hello", headers });
    expect(reply.json).toMatchObject({
      method: "PUT",
      path: "/api/things/1",
      query: { x: "2" },
      body_bytes: 5,
      subject: "ann",
    });
    expect(reply.json.headers).toMatchObject({ "x-trace": "7" });
    expect(reply.text).not.toContain(accessToken);
  });

  it("takes API keys in every usual place and Basic users", async () => {
    const { simulator, call } = await vendor();
    const statusOf = async (headers: Record<string, string>, path = "/api/me") =>
      (await call(path, { headers })).status;
    const basic = (pair: string) => ({ authorization: `Basic ${Buffer.from(pair).toString("base64")}` });
    expect(await statusOf({ "x-api-key": "demo-api-key" })).toBe(200);
    expect(await statusOf({ authorization: "Bearer demo-api-key" })).toBe(200);
    expect(await statusOf(basic("demo-api-key:x"))).toBe(200);
    expect(await statusOf(basic("demo-user:demo-password"))).toBe(200);
    expect(await statusOf({}, "/api/me?api_key=demo-api-key")).toBe(200);
    expect(await statusOf(basic("demo-user:wrong"))).toBe(401);
    expect(await statusOf({})).toBe(401);
    simulator.setApiCredentials({ apiKeys: ["next"] });
    expect(await statusOf({ "x-api-key": "demo-api-key" })).toBe(401);
    expect(await statusOf({ "x-api-key": "next" })).toBe(200);
    expect(simulator.stats()).toMatchObject({ apiAccepted: 6, apiRefused: 3 });
  });
});

describe("starting", () => {
  it("says which address it cannot have", async () => {
    const { simulator } = await vendor();
    const second = vendor({ port: simulator.port });
    await expect(second).rejects.toThrow(`port: cannot listen on 127.0.0.1:${simulator.port} (EADDRINUSE)`);
  });

  it("frees its port when closed", async () => {
    const { simulator, me } = await vendor();
    await me("x");
    await simulator.close();
    expect((await vendor({ port: simulator.port })).simulator.port).toBe(simulator.port);
  });
});

describe("metadata", () => {
  it("names the endpoints under the public address", async () => {
    const { call } = await vendor({ publicUrl: "https://vendor.example" });
    const { json } = await call("/.well-known/oauth-authorization-server");
    expect(json).toMatchObject({
      issuer: "https://vendor.example",
      token_endpoint: "https://vendor.example/oauth/token",
      code_challenge_methods_supported: ["S256", "plain"],
    });
    expect((await call("/constructor")).status).toBe(404);
  });
});
