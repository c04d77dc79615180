import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { Authorization } from "../../../src/gen/envoy/service/auth/v3/external_auth_pb.js";
import { Health } from "../../../src/gen/grpc/health/v1/health_pb.js";
import { CredentialService } from "../../../src/gen/keyturn/v1/credential_service_pb.js";
import { Caller } from "../../e2e/harness.ts";
import { tempFolder } from "../../fakes/temp-folder.ts";
import { type Answer, keep, stage } from "./stage.ts";
import { valuesOf } from "./vendor.ts";

const as = (account: string) => ({ "x-keyturn-account": account });
const HOSTILE = {
  authorization: "Bearer hostile",
  "proxy-authorization": "Basic hostile",
  cookie: "session=hostile",
  "x-api-key": ["hostile", "hostile too"],
  "X-App-Key": "hostile",
};

function reasonIn({ body }: Answer): string {
  return JSON.parse(body).reason;
}

describe("a request through Envoy", () => {
  it("carries a bearer token in place of what the client sent", async () => {
    await using at = await stage();
    const { accessToken } = await at.connect("acme", { provider: "oauth", expired: false });
    expect(await at.send("/v1/me?a=1&a=2", { ...HOSTILE, ...as("acme") })).toMatchObject({ status: 200 });
    const [seen] = at.api.seen;
    expect(seen?.url).toBe("/v1/me?a=1&a=2");
    expect(seen && valuesOf(seen, "authorization")).toEqual([`Bearer ${accessToken}`]);
    expect(JSON.stringify(seen)).not.toMatch(/session|Basic hostile|x-keyturn/i);
  });

  it("carries a user name and password", async () => {
    await using at = await stage();
    await keep(at, "acme", "basic", { case: "basic", value: { username: "me", password: "p:w" } });
    expect(await at.send("/", { ...HOSTILE, ...as("acme") })).toMatchObject({ status: 200 });
    const [seen] = at.api.seen;
    expect(seen && valuesOf(seen, "authorization")).toEqual([`Basic ${btoa("me:p:w")}`]);
  });

  it("carries several headers, and no Authorization when the provider wants none", async () => {
    await using at = await stage();
    await keep(at, "acme", "headers", {
      case: "apiKey",
      value: { apiKey: "one", extra: { app_key: "two" } },
    });
    expect(await at.send("/", { ...HOSTILE, ...as("acme") })).toMatchObject({ status: 200 });
    const [seen] = at.api.seen;
    expect(seen && valuesOf(seen, "x-api-key")).toEqual(["one"]);
    expect(seen && valuesOf(seen, "x-app-key")).toEqual(["two"]);
    expect(JSON.stringify(seen)).not.toContain("hostile");
  });

  it.each([
    ["/a", {}],
    ["/a?x=1", { x: ["1"] }],
    ["/a?api_key=hostile&x=1&api_key=hostile", { x: ["1"] }],
    ["/a?api%5Fkey=hostile&x=a+b&%61pi_key=hostile&api_key", { x: ["a b"] }],
    ["/a?x=1?api_key=kept", { x: ["1?api_key=kept"] }],
  ])("carries a key in the query of %s", async (path, others) => {
    await using at = await stage();
    const key = "k+e y&%/=é#";
    await keep(at, "acme", "query", { case: "apiKey", value: { apiKey: key } });
    expect(await at.send(path, { ...HOSTILE, ...as("acme") })).toMatchObject({ status: 200 });
    const url = new URL(at.api.seen[0]?.url ?? "", "https://a");
    const all = Object.fromEntries([...url.searchParams.keys()].map((n) => [n, url.searchParams.getAll(n)]));
    expect(all).toEqual({ ...others, api_key: [key] });
    expect(at.api.seen[0] && valuesOf(at.api.seen[0], "authorization")).toEqual([]);
  });

  it("is sent as the route's own account when it names none", async () => {
    await using at = await stage();
    const { accessToken } = await at.connect("acme", { provider: "oauth", expired: false });
    expect(await at.send("/")).toMatchObject({ status: 200 });
    expect(at.api.seen[0] && valuesOf(at.api.seen[0], "authorization")).toEqual([`Bearer ${accessToken}`]);
  });

  it("waits for the refresh of an expired token, one for a thousand requests", async () => {
    // However slow this machine is: what counts is the one refresh.
    const patient = (text: string) => text.replace("timeout: 5s", "timeout: 20s");
    await using at = await stage({ latencyMs: 300, edit: patient });
    const { accessToken } = await at.connect("acme", { provider: "oauth" });
    const answers = await Promise.all(Array.from({ length: 1_000 }, () => at.send("/", as("acme"))));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
    expect(at.simulator.stats().tokenRequests).toBe(1);
    const tokens = new Set(at.api.seen.flatMap((seen) => valuesOf(seen, "authorization")));
    expect(tokens.size).toBe(1);
    expect(tokens).not.toContain(`Bearer ${accessToken}`);
  }, 40_000);

  it("is answered with the reason when the customer has to authorize again", async () => {
    await using at = await stage();
    await at.connect("acme", { provider: "oauth" });
    at.simulator.revokeFamily({ all: true });
    const answer = await at.send("/", as("acme"));
    expect(answer).toMatchObject({ status: 424, headers: { "content-type": "application/json" } });
    expect(reasonIn(answer)).toBe("REAUTHORIZATION_REQUIRED");
    expect(at.api.seen).toEqual([]);
  });

  it("is answered with the provider's limits while its token endpoint throttles", async () => {
    await using at = await stage();
    await at.connect("acme", { provider: "oauth" });
    at.simulator.faults.add({ kind: "rate_limit", dialect: "x_ratelimit_delta" });
    const answer = await at.send("/", as("acme"));
    expect(answer.status).toBe(429);
    expect(reasonIn(answer)).toBe("PROVIDER_RATE_LIMITED");
    const reset = answer.headers["ratelimit-reset"];
    expect(answer.headers).toMatchObject({
      "ratelimit-limit": "100",
      "ratelimit-remaining": "0",
      "ratelimit-reset": expect.stringMatching(/^[1-9][0-9]$/),
      ratelimit: `"default";r=0;t=${reset}`,
      "ratelimit-policy": '"default";q=100',
      "retry-after": reset,
    });
  });

  it("is answered in time when the refresh takes longer than Envoy waits", async () => {
    await using at = await stage({
      latencyMs: 3_000,
      edit: (text) => text.replace("timeout: 5s", "timeout: 2s"),
    });
    await at.connect("acme", { provider: "oauth" });
    const early = await at.send("/", as("acme"));
    expect(early).toMatchObject({ status: 503, headers: { "retry-after": "1" } });
    expect(reasonIn(early)).toBe("WAIT_TIMED_OUT");
    await expect.poll(async () => (await at.send("/", as("acme"))).status, { timeout: 5_000 }).toBe(200);
    expect(at.simulator.stats().tokenRequests).toBe(1);
  });

  it("is refused for a host that is not the provider's", async () => {
    await using at = await stage();
    await keep(at, "b", "elsewhere", { case: "bearer", value: { token: "secret-b" } }, { region: "eu" });
    const answer = await at.send("/", as("b"));
    expect(answer.status).toBe(403);
    expect(reasonIn(answer)).toBe("DESTINATION_NOT_ALLOWED");
    expect(await at.send("/", { ...as("b"), host: "eu.elsewhere.test" })).toMatchObject({ status: 404 });
    expect(at.api.seen).toEqual([]);
  });

  it("is refused for an account outside of the route's globs, and for two accounts at once", async () => {
    await using at = await stage();
    await at.connect("acme", { provider: "oauth", expired: false });
    await at.connect("other", { provider: "oauth", expired: false, tenant: "other" });
    for (const account of ["other", "nobody"]) {
      const answer = await at.send("/", as(account));
      expect(answer.status).toBe(403);
      expect(reasonIn(answer)).toBe("CALLER_NOT_ALLOWED");
    }
    const doubled = await at.send("/", { "x-keyturn-account": ["acme", "acme"] });
    expect(doubled.status).toBe(403);
    expect(reasonIn(doubled)).toBe("INVALID_REQUEST");
    expect(at.api.seen).toEqual([]);
  });

  it.each(["x_api_key", "x_keyturn_account"])("is refused with a header in disguise, %s", async (name) => {
    await using at = await stage();
    await at.connect("acme", { provider: "oauth", expired: false });
    expect(await at.send("/", { ...as("acme"), [name]: "hostile" })).toMatchObject({ status: 400 });
    expect(at.api.seen).toEqual([]);
  });

  it("goes nowhere while the sidecar is down", async () => {
    await using at = await stage();
    await at.connect("acme", { provider: "oauth", expired: false });
    expect(await at.send("/", as("acme"))).toMatchObject({ status: 200 });
    await at.end();
    expect(await at.send("/", as("acme"))).toMatchObject({ status: 503 });
    expect(at.api.seen).toHaveLength(1);
  });
});

describe("Envoy's caller token", () => {
  // `HOME` is all that Envoy has in its environment here.
  const withToken = (text: string) =>
    text
      .replaceAll(/^( +)# (initial_metadata:| {2}- key: authorization| {4}value: Bearer )/gm, "$1$2")
      .replace("KEYTURN_CALLER_TOKEN", "HOME");

  async function withCallers(rule: object, edit?: (text: string) => string) {
    const token_sha256 = [createHash("sha256").update("/nonexistent").digest("hex")];
    const admin = {
      name: "ops",
      token_sha256: [createHash("sha256").update("ops").digest("hex")],
      rpcs: ["*"],
    };
    const file = join(tempFolder(), "callers.yaml");
    writeFileSync(
      file,
      JSON.stringify({ version: 1, callers: [admin, { name: "envoy", token_sha256, ...rule }] }),
    );
    return stage({ flags: { "callers.file": file }, token: "ops", ...(edit === undefined ? {} : { edit }) });
  }

  it("is asked for, and limits what Envoy may send", async () => {
    const rpcs = ["Authorization/Check"];
    await using at = await withCallers({ rpcs, methods: ["GET"], paths: ["/v1/*"] }, withToken);
    await at.connect("acme", { provider: "oauth", expired: false });
    const override = { "x-http-method-override": "DELETE", "x-original-url": "/v2/me" };
    expect(await at.send("/v1/me", { ...as("acme"), ...override })).toMatchObject({ status: 200 });
    expect(JSON.stringify(at.api.seen)).not.toMatch(/override|original/);
    for (const [path, method] of [
      ["/v2/me", "GET"],
      ["/v1/me", "DELETE"],
    ] as const) {
      const answer = await at.send(path, as("acme"), method);
      expect(answer.status).toBe(403);
      expect(reasonIn(answer)).toBe("CALLER_NOT_ALLOWED");
    }
    expect(at.api.seen).toHaveLength(1);
    await at.end();
    const folder = join(at.stateDir, "audit");
    const trail = readdirSync(folder).map((name) => readFileSync(join(folder, name), "utf8"));
    const opened = trail.flatMap((text) => text.split("\n")).filter((line) => line.includes("token.open"));
    expect(opened.map((line) => JSON.parse(line))).toMatchObject([
      { account: "acme", caller: "envoy", purpose: "authz", count: 1 },
    ]);
  });

  it("may send only so many requests a second", async () => {
    await using at = await withCallers({ rpcs: ["Authorization/Check"], requests_per_second: 1 }, withToken);
    await at.connect("acme", { provider: "oauth", expired: false });
    const answers = [await at.send("/", as("acme")), await at.send("/", as("acme"))];
    expect(answers).toMatchObject([
      { status: 200 },
      { status: 429, headers: { "retry-after": "1", "ratelimit-limit": "1", "ratelimit-remaining": "0" } },
    ]);
    expect(answers[1] && reasonIn(answers[1])).toBe("CALLER_RATE_LIMITED");
  });

  it("must not be missing, and must be allowed to ask", async () => {
    await using without = await withCallers({ rpcs: ["Authorization/Check"] });
    const unknown = await without.send("/", as("acme"));
    expect(unknown.status).toBe(401);
    expect(unknown.headers["www-authenticate"]).toBe('Bearer realm="keyturn"');
    expect(reasonIn(unknown)).toBe("CALLER_UNKNOWN");
    await using denied = await withCallers({ rpcs: ["CredentialService/*"] }, withToken);
    expect(await denied.send("/", as("acme"))).toMatchObject({ status: 403 });
  });
});

describe("Keyturn's own gRPC through Envoy", () => {
  it("answers those who send a caller token, and health to all", async () => {
    await using at = await stage();
    await at.connect("acme", { provider: "oauth", expired: false });
    const caller = new Caller(at.grpcTarget);
    const { getToken } = CredentialService.method;
    const { accessToken } = await caller.call(getToken, { accountId: "acme" }, { token: "any" });
    expect(accessToken).toMatch(/^sim_at_/);
    await expect(caller.call(getToken, { accountId: "acme" })).rejects.toMatchObject({ code: 12 });
    const health = await caller.call(Health.method.check, { service: Authorization.typeName });
    expect(health.status).toBe(1);
    caller.close();
  });
});
