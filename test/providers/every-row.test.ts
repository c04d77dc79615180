import { createHash, createHmac, createPublicKey, generateKeyPairSync, verify } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer, type IncomingHttpHeaders } from "node:http";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { systemClock } from "../../src/clock.ts";
import { createEgress } from "../../src/egress/egress.ts";
import { authorizationFor } from "../../src/providers/authorization.ts";
import { sendStep } from "../../src/providers/exchange.ts";
import { interpretExchange } from "../../src/providers/interpret.ts";
import { catalogueOf } from "../../src/providers/load.ts";
import { createVendors } from "../../src/providers/vendors.ts";
import type { Credential, OAuthCredential } from "../../src/tokens/credential.ts";
import { Secret } from "../../src/tokens/secret.ts";
import type { CodeGrant, ContextClient, Interpretation, RawAnswer } from "../../src/tokens/vendor.ts";
import { CLIENT_SECRET, contextOf, OLD_ACCESS, OLD_REFRESH, oauthCredential, providerOf } from "./stage.ts";

/** A request as a vendor sees it: parameters from the query and from a form or JSON body. */
interface Seen {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  readonly params: Record<string, unknown>;
}
type Says = readonly [status: number, body: object];

const egress = createEgress({ clock: systemClock() });
const outside = { send: egress.request.bind(egress), now: () => Date.now() };
let says: (seen: Seen) => Says = () => [500, {}];
const seen: Seen[] = [];
const server = createServer(async (request, response) => {
  const body = Buffer.concat(await request.toArray()).toString();
  const url = new URL(request.url ?? "", "http://vendor.invalid");
  const isJson = request.headers["content-type"]?.includes("json") === true;
  const inBody = isJson && body !== "" ? JSON.parse(body) : Object.fromEntries(new URLSearchParams(body));
  const params = { ...Object.fromEntries(url.searchParams), ...inBody };
  const { method = "", headers } = request;
  const one = { method, path: url.pathname, headers, body, params };
  seen.push(one);
  const [status, answer] = says(one);
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(answer));
});
let port = "";
beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  port = typeof address === "object" && address !== null ? String(address.port) : "";
});
afterAll(async () => {
  await egress.close();
  server.closeAllConnections();
  server.close();
});

const CODE: CodeGrant = {
  code: new Secret("the-code"),
  redirectUri: "https://app.example/callback",
  codeVerifier: new Secret("the-verifier"),
  state: "the-state",
};

interface Asking {
  readonly answer: (one: Seen) => Says;
  readonly code?: boolean;
  readonly credential?: Credential;
  readonly fields?: Record<string, string>;
  readonly slot?: string;
  readonly client?: Partial<ContextClient>;
}

function row(name: string) {
  return providerOf(readFileSync(join(import.meta.dirname, "rows", `${name}.yaml`), "utf8"), name);
}

function contextFor(name: string, { credential = oauthCredential(), fields = {}, slot, client }: Asking) {
  const context = contextOf(name, { port, ...fields }, credential);
  const own = context.client && { ...context.client, ...client };
  return { ...context, slot: slot ?? row(name).tokenNames[0] ?? "", client: own };
}

/** All requests of one exchange through the real way out, and what they come to. */
async function exchange(name: string, asking: Asking): Promise<Interpretation> {
  seen.length = 0;
  says = asking.answer;
  const provider = row(name);
  const context = contextFor(name, asking);
  const code = asking.code === true ? CODE : undefined;
  const answers: RawAnswer[] = [];
  for (;;) {
    const sent = await sendStep(
      outside,
      provider,
      { context, code, answers },
      () => true,
      AbortSignal.timeout(5_000),
    );
    if (sent.kind !== "answer") throw new Error(sent.cause);
    answers.push(sent.answer);
    const read = await interpretExchange(outside, provider, { context, code, answers });
    if (read.kind !== "more") return read;
  }
}

async function granted(name: string, asking: Asking) {
  const read = await exchange(name, asking);
  if (read.kind !== "granted" || read.credential.kind !== "oauth" || read.unfinished !== undefined)
    throw new Error(JSON.stringify(read));
  const { credential } = read;
  const isUsable = credential.accessToken.reveal() !== "";
  const use = isUsable
    ? authorizationFor(row(name), { ...contextFor(name, asking), credential }).headers.reveal()
    : {};
  return {
    credential,
    fields: read.fields,
    token: credential.accessToken.reveal(),
    refresh: credential.refreshToken?.reveal(),
    leftS: leftS(credential),
    headers: use,
    requests: seen.map(({ method, path }) => `${method} ${path}`),
  };
}

/** Whole seconds from now to its end, to the nearest ten. */
function leftS({ expiresAtMs }: OAuthCredential): number | undefined {
  return expiresAtMs === undefined ? undefined : Math.round((expiresAtMs - Date.now()) / 10_000) * 10 + 0;
}

function only(): Seen {
  const [one] = seen;
  if (one === undefined) throw new Error("nothing was sent");
  return one;
}

const basicOf = ({ headers }: Seen) =>
  Buffer.from(headers.authorization?.replace("Basic ", "") ?? "", "base64").toString();
const inS = (s: number) => Math.floor(Date.now() / 1_000) + s;

function claimsOf(jwt: unknown, key: Parameters<typeof createPublicKey>[0]) {
  const [head = "", payload = "", signature = ""] = String(jwt).split(".");
  const good = verify(
    "sha256",
    Buffer.from(`${head}.${payload}`),
    createPublicKey(key),
    Buffer.from(signature, "base64url"),
  );
  expect(good).toBe(true);
  return JSON.parse(Buffer.from(payload, "base64url").toString());
}
const RSA = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey;
const PEM = String(RSA.export({ type: "pkcs8", format: "pem" }));
const APP_KEY = { privateKey: { key: new Secret(PEM), keyId: undefined } };

describe("what vendors need is data:", () => {
  it("renamed request fields, an envelope, a header of its own", async () => {
    const ok = { code: 0, data: { access_token: "a1", refresh_token: "r1", expires_in: 86_400 } };
    const got = await granted("renamed-fields", { code: true, answer: () => [200, ok] });
    expect(seen[0]?.params).toEqual({ app_id: "client id/1", secret: CLIENT_SECRET, auth_code: "the-code" });
    expect(got).toMatchObject({
      token: "a1",
      refresh: "r1",
      leftS: 86_400,
      headers: { "Access-Token": "a1" },
    });
    const refused = await exchange("renamed-fields", { answer: () => [200, { code: 40_105 }] });
    expect(refused).toMatchObject({ kind: "refused", class: "reauth", code: "40105" });
  });

  it("no grant_type, JSON, a refresh by another path and an end that is a point in time", async () => {
    const answer = () =>
      [200, { access_token: "a2", refresh_token: "r2", access_token_expiration: inS(600) }] as const;
    expect(await granted("no-grant-type", { code: true, answer })).toMatchObject({ token: "a2", leftS: 600 });
    expect(seen[0]?.params).toEqual({
      client_id: "client id/1",
      client_secret: CLIENT_SECRET,
      code: "the-code",
      code_verifier: "the-verifier",
    });
    expect(await granted("no-grant-type", { answer })).toMatchObject({ requests: ["POST /refresh"] });
    expect(seen[0]?.params).toEqual({ client_id: "client id/1", refresh_token: OLD_REFRESH });
  });

  it("the secret as the Basic user, and a lifetime that no answer tells", async () => {
    const got = await granted("secret-as-user", { answer: () => [200, { access_token: "a3" }] });
    expect(seen.map(basicOf)).toEqual([`${CLIENT_SECRET}:`]);
    expect(seen[0]?.params).not.toHaveProperty("client_secret");
    expect(got).toMatchObject({ token: "a3", leftS: 3_600, refresh: OLD_REFRESH });
  });

  it("a public client, proved by PKCE alone", async () => {
    const client = { secret: undefined };
    await granted("public-client", { code: true, client, answer: () => [200, { access_token: "a4" }] });
    expect(seen[0]?.headers.authorization).toBeUndefined();
    expect(seen[0]?.params).toEqual({
      grant_type: "authorization_code",
      client_id: "client id/1",
      code: "the-code",
      redirect_uri: CODE.redirectUri,
      code_verifier: "the-verifier",
    });
  });

  it("a long token for a short one at the consent, refreshed by a GET elsewhere with itself", async () => {
    const answer = ({ path }: Seen): Says =>
      path === "/short"
        ? [200, { access_token: "short", user_id: 7 }]
        : [200, { access_token: `from${path}`, token_type: "bearer", expires_in: 5_184_000 }];
    const first = await granted("refresh-elsewhere", { code: true, answer });
    expect(first).toMatchObject({
      token: "from/long",
      leftS: 5_184_000,
      requests: ["POST /short", "GET /long"],
    });
    expect(seen[1]?.params).toEqual({
      grant_type: "ig_exchange_token",
      client_secret: CLIENT_SECRET,
      access_token: "short",
    });
    const next = await granted("refresh-elsewhere", { answer, credential: first.credential });
    expect(next).toMatchObject({
      token: "from/refresh_access_token",
      requests: ["GET /refresh_access_token"],
    });
    expect(seen[0]?.params).toEqual({ grant_type: "ig_refresh_token", access_token: "from/long" });
    const vendors = createVendors({
      catalogue: () => catalogueOf(new Map([["x", row("refresh-elsewhere")]])),
      ...outside,
    });
    expect(vendors.rules("x")).toMatchObject({ refreshesWithoutToken: true, refreshesWithAccessToken: true });
  });

  it("a correlation id, a nonce, a signature over body and time, a shortened secret, a data envelope", async () => {
    const answer = () =>
      [200, { data: { accessToken: "a5", refreshToken: "r5", expireTime: inS(7_200) } }] as const;
    expect(await granted("signed-requests", { answer })).toMatchObject({
      token: "a5",
      refresh: "r5",
      leftS: 7_200,
    });
    const { headers, body, params } = only();
    const signed = createHmac("sha256", CLIENT_SECRET)
      .update(`${body}${headers["x-timestamp"]}`)
      .digest("hex");
    expect(headers["x-sign"]).toBe(signed);
    expect(headers["x-correlation-id"]).toMatch(/^[0-9a-f-]{36}$/);
    expect(headers["x-nonce"]).toMatch(/^[\w-]{22}$/);
    expect(params["secret"]).toBe(createHash("md5").update(CLIENT_SECRET).digest("hex").slice(0, 16));
  });

  it("an assertion in the name of the redirect's host", async () => {
    const answer = () => [200, { access_token: "a6", expires_in: 2_400 }] as const;
    await granted("redirect-host-issuer", { answer, fields: { issuer: "app.example" }, client: APP_KEY });
    expect(claimsOf(seen[0]?.params["client_assertion"], PEM)).toMatchObject({
      iss: "app.example",
      sub: "client id/1",
      aud: "https://business.acme.example",
    });
  });

  it("the state, echoed to the token call", async () => {
    await granted("echoed-state", { code: true, answer: () => [200, { access_token: "a7" }] });
    expect(seen[0]?.params).toMatchObject({ state: "the-state", code: "the-code" });
    expect(seen.map(basicOf)).toEqual(["client+id%2F1:client-secret%3A%25%26%3D4711"]);
  });

  it("a result code instead of the HTTP status, and a refresh that extends the token there is", async () => {
    const ok = await granted("result-code", { answer: () => [200, { result: "0000", message: "OK" }] });
    expect(ok).toMatchObject({ token: OLD_ACCESS, refresh: OLD_REFRESH, leftS: 2_592_000 });
    expect(ok.requests).toEqual(["POST /refresh-token"]);
    const no = await exchange("result-code", { answer: () => [200, { result: "1007", message: "gone" }] });
    expect(no).toMatchObject({ kind: "refused", class: "reauth", code: "1007" });
    const other = await exchange("result-code", { answer: () => [200, { result: "5001" }] });
    expect(other).toMatchObject({ kind: "refused", class: "transient" });
  });

  it("201 and camelCase", async () => {
    const expiresAt = new Date(Date.now() + 28_800_000).toISOString();
    const ok = { token: "a8", refreshToken: "r8", expiresAt };
    const got = await granted("camel-case", { answer: () => [201, ok] });
    expect(got).toMatchObject({ token: "a8", refresh: "r8", leftS: 28_800 });
    expect((await exchange("camel-case", { answer: () => [200, ok] })).kind).toBe("refused");
  });

  it("a lifetime that only introspection tells, or the file", async () => {
    const asked = (active: object) => (one: Seen) =>
      one.path === "/token" ? ([200, { access_token: "a9" }] as const) : ([200, active] as const);
    const told = await granted("introspected", { answer: asked({ active: true, exp: inS(900) }) });
    expect(told).toMatchObject({ leftS: 900, requests: ["POST /token", "POST /introspect"] });
    expect(seen[1]?.params).toMatchObject({ token: "a9", client_secret: CLIENT_SECRET });
    expect(await granted("introspected", { answer: asked({ active: false }) })).toMatchObject({
      leftS: 7_200,
    });
  });

  it("our app's own credentials where an administrator has consented", async () => {
    const answer = () => [200, { access_token: "a10", expires_in: 3_600 }] as const;
    const asking = { answer, fields: { tenant: "contoso" }, credential: { kind: "unminted" } as const };
    expect(await granted("admin-consent", asking)).toMatchObject({
      token: "a10",
      requests: ["POST /contoso/token"],
    });
    expect(seen[0]?.params).toMatchObject({
      grant_type: "client_credentials",
      scope: "https://graph.acme.example/.default",
    });
  });

  it("our app's signature where nothing of the customer's refreshes", async () => {
    const answer = () => [200, { code: 200, data: { accessToken: "a11", expireTime: inS(36_000) } }] as const;
    const asking = {
      answer,
      fields: { shop: "acme" },
      credential: oauthCredential({ refreshToken: undefined }),
    };
    expect(await granted("app-signature", asking)).toMatchObject({ token: "a11", leftS: 36_000 });
    const { headers, body } = only();
    expect(JSON.parse(body)).toEqual({ shop: "acme" });
    const signed = createHmac("sha256", CLIENT_SECRET).update(`${body}${headers["timestamp"]}`).digest("hex");
    expect(headers["sign"]).toBe(signed);
  });

  it("a second exchange before the token is of use", async () => {
    const answer = ({ path, params }: Seen): Says =>
      path === "/token"
        ? [200, { access_token: "a12", refresh_token: "r12", expires_in: 600 }]
        : [
            200,
            { BhRestToken: `session-of-${params["access_token"]}`, restUrl: "https://rest9.acme.example/" },
          ];
    expect(await granted("rest-login", { answer })).toMatchObject({
      token: "session-of-a12",
      refresh: "r12",
      leftS: 600,
      headers: { BhRestToken: "session-of-a12" },
      fields: { rest_url: "https://rest9.acme.example/" },
      requests: ["POST /token", "GET /rest-services/login"],
    });
  });

  it("a token for each of two audiences by one refresh token, and one of our app's own", async () => {
    const answer = ({ params }: Seen) =>
      [200, { access_token: `for ${params["scope"]}`, refresh_token: "r13", expires_in: 3_600 }] as const;
    const fields = { tenant: "contoso" };
    const other = await granted("two-audiences", { answer, fields, code: true, slot: "sharepoint" });
    expect(other).toMatchObject({ token: "", refresh: "r13", leftS: 0 });
    const { credential } = other;
    const renewed = await granted("two-audiences", { answer, fields, slot: "sharepoint", credential });
    expect(renewed.token).toBe("for https://contoso.sharepoint.example/.default");
    expect(await granted("two-audiences", { answer, fields, slot: "graph" })).toMatchObject({
      token: "for graph",
    });
    const bot = { answer, fields, slot: "bot_framework", credential: { kind: "unminted" } as const };
    expect(await granted("two-audiences", bot)).toMatchObject({
      token: "for https://api.botframework.example/.default",
      requests: ["POST /botframework/token"],
    });
  });

  it("a user's token, and one for the installation that our app's signature buys", async () => {
    const expires_at = new Date(Date.now() + 3_600_000).toISOString();
    const answer = ({ path }: Seen): Says =>
      path.startsWith("/login") ? [200, { access_token: "ghu-1" }] : [201, { token: "ghs-1", expires_at }];
    const fields = { installation_id: "4711" };
    const user = await granted("user-and-installation", { answer, fields, code: true, slot: "user" });
    expect(user).toMatchObject({ token: "ghu-1", leftS: undefined });
    const asking = {
      answer,
      fields,
      slot: "installation",
      client: APP_KEY,
      credential: { kind: "unminted" } as const,
    };
    const got = await granted("user-and-installation", asking);
    expect(got).toMatchObject({
      token: "ghs-1",
      leftS: 3_600,
      requests: ["POST /app/installations/4711/access_tokens"],
    });
    expect(seen[0]?.body).toBe("");
    const claims = claimsOf(seen[0]?.headers.authorization?.replace("Bearer ", ""), PEM);
    expect(claims).toMatchObject({ iss: "client id/1" });
    expect(claims.exp - claims.iat).toBe(600);
  });

  it("a refresh token that stays, whatever the answer brings", async () => {
    const brings = (more: object) => () => [200, { access_token: "a14", ...more }] as const;
    for (const more of [{}, { refresh_token: "not-this-one" }, { refresh_token: "" }])
      expect(await granted("keeps-refresh-token", { answer: brings(more) })).toMatchObject({
        refresh: OLD_REFRESH,
      });
    const first = await granted("keeps-refresh-token", {
      answer: brings({ refresh_token: "r14" }),
      code: true,
      credential: { kind: "unminted" },
    });
    expect(first.refresh).toBe("r14");
  });

  it("a refresh no earlier than the vendor takes it, and early enough for a short token", async () => {
    const vendors = createVendors({
      catalogue: () => catalogueOf(new Map([["x", row("late-refresh")]])),
      ...outside,
    });
    expect(vendors.rules("x")).toMatchObject({ earliestBeforeExpiryMs: 30_000 });
  });
});

describe("tokens that are minted", () => {
  const source = (values: Record<string, string>): Credential => ({
    kind: "unminted",
    source: Object.fromEntries(Object.entries(values).map(([name, value]) => [name, new Secret(value)])),
  });

  it("are bought by what the customer's own key signs (RFC 7523), again and again", async () => {
    const answer = () => [200, { access_token: "a15", expires_in: 3_599 }] as const;
    const credential = source({ client_email: "robot@acme.example", private_key: PEM });
    const got = await granted("service-account", { answer, credential, client: { secret: undefined } });
    expect(got).toMatchObject({ token: "a15", leftS: 3_600 });
    expect(seen[0]?.params["grant_type"]).toBe("urn:ietf:params:oauth:grant-type:jwt-bearer");
    expect(claimsOf(seen[0]?.params["assertion"], PEM)).toMatchObject({
      iss: "robot@acme.example",
      aud: "https://oauth2.acme.example/token",
      scope: "drive",
    });
    const again = await granted("service-account", { answer, credential: got.credential });
    expect(again.token).toBe("a15");
    expect(again.credential.source?.["private_key"]?.reveal()).toBe(PEM);
  });

  it("are themselves what the key signs, and nobody is asked", async () => {
    const credential = source({ key_id: "K1", issuer_id: "I1", private_key: PEM });
    const got = await granted("self-signed", { answer: () => [500, {}], credential });
    expect(got).toMatchObject({ leftS: 1_200, requests: [] });
    expect(claimsOf(got.token, PEM)).toMatchObject({ iss: "I1", aud: "appstoreconnect-v1" });
    expect(got.headers).toEqual({ Authorization: `Bearer ${got.token}` });
  });

  it("are exchanged for another one (RFC 8693), whose kind the answer has to name", async () => {
    const credential = source({ id_token: "the-id-token" });
    const body = { access_token: "a16", expires_in: 300, token_type: "Bearer" };
    const issued_token_type = "urn:ietf:params:oauth:token-type:access_token";
    const answer = () => [200, { ...body, issued_token_type }] as const;
    expect(await granted("exchanged", { answer, credential })).toMatchObject({ token: "a16", leftS: 300 });
    expect(seen[0]?.params).toMatchObject({
      grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
      subject_token: "the-id-token",
      subject_token_type: "urn:ietf:params:oauth:token-type:id_token",
      audience: "api",
      scope: "read",
    });
    const bare = await exchange("exchanged", { answer: () => [200, body], credential });
    expect(bare).toMatchObject({ kind: "unmapped", cause: "no issued_token_type" });
  });

  it("come of a login of the file's own, renewed by what that gave and by the login again", async () => {
    const credential = source({ username: "ada", password: "pa55" });
    const answer = ({ path }: Seen): Says =>
      path === "/login" ? [200, { session: "s1", renewal: "n1" }] : [200, { session: "s2" }];
    const first = await granted("password-login", { answer, credential });
    expect(seen[0]?.params).toEqual({ user: "ada", pass: "pa55" });
    expect(first).toMatchObject({ leftS: 600, headers: { "x-session": "s1", "x-user": "ada" } });
    const next = await granted("password-login", { answer, credential: first.credential });
    expect(seen[0]?.params).toEqual({ renewal: "n1" });
    expect(next).toMatchObject({ token: "s2", requests: ["POST /renew"] });
    const spent = { ...next.credential, refreshToken: undefined };
    expect(await granted("password-login", { answer, credential: spent })).toMatchObject({ token: "s1" });
  });
});
