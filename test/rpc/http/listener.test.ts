import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, request as httpRequest, type OutgoingHttpHeaders } from "node:http";
import { type AddressInfo, connect as connectTcp } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { ErrorInfoSchema } from "../../../src/gen/google/rpc/error_details_pb.js";
import { Health } from "../../../src/gen/grpc/health/v1/health_pb.js";
import { AccountService } from "../../../src/gen/keyturn/v1/account_service_pb.js";
import { CredentialService } from "../../../src/gen/keyturn/v1/credential_service_pb.js";
import { EventService } from "../../../src/gen/keyturn/v1/event_service_pb.js";
import { Caller, putSimulatorClient, type Scene, type SceneOptions, scene } from "../../e2e/harness.ts";
import { tempFolder } from "../../fakes/temp-folder.ts";
import { PROVIDERS } from "../proxy/stage.ts";

const OPEN = { "listeners.http.tcp.port": "0", "listeners.http.tcp.allow_unauthenticated": "true" };
const GET_TOKEN = "/keyturn.v1.CredentialService/GetToken";
const PROXY = "/keyturn.v1.CredentialService/Proxy";
const MEANT = { "content-type": "application/json", "connect-protocol-version": "1" };

/** One for tests that change nothing, with the account `acme`. */
let shared: Scene & { readonly url: string };
beforeAll(async () => {
  const at = await scene({ flags: OPEN });
  await at.connect("acme", { expired: false });
  shared = { ...at, url: `http://${at.targets.http}` };
});
afterAll(() => shared.stop());

async function open(options: SceneOptions = {}): Promise<Scene & { readonly url: string }> {
  const at = await scene({ ...options, flags: { ...OPEN, ...options.flags } });
  onTestFinished(() => at.stop());
  return { ...at, url: `http://${at.targets.http}` };
}

interface Answer {
  readonly status: number;
  readonly body: { readonly [name: string]: unknown };
}

function post(url: string, path: string, body: string, headers: OutgoingHttpHeaders = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(`${url}${path}`, {
      method: "POST",
      headers: { ...MEANT, ...headers },
      agent: false,
    });
    request.on("response", (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("end", () =>
        resolve({
          status: response.statusCode ?? 0,
          body: JSON.parse(Buffer.concat(chunks).toString("utf8")),
        }),
      );
    });
    request.on("error", reject);
    request.end(body);
  });
}

/** The `debug` of each detail, by the detail's type. */
function detailsOf({ body }: Answer): Readonly<Record<string, unknown>> {
  const details = body.details as readonly { readonly type: string; readonly debug: unknown }[];
  return Object.fromEntries(details.map(({ type, debug }) => [type.replace("google.rpc.", ""), debug]));
}

const TRANSPORTS: readonly (readonly [string, (baseUrl: string) => Transport])[] = [
  ["Connect over HTTP/1.1", (baseUrl) => createConnectTransport({ baseUrl, httpVersion: "1.1" })],
  [
    "Connect over HTTP/2",
    (baseUrl) => createConnectTransport({ baseUrl, httpVersion: "2", useBinaryFormat: true }),
  ],
  ["gRPC-Web", (baseUrl) => createGrpcWebTransport({ baseUrl, httpVersion: "1.1" })],
  ["gRPC", (baseUrl) => createGrpcTransport({ baseUrl })],
];

describe("the HTTP listener", () => {
  it("is off unless it is configured, and needs caller tokens or a word", async () => {
    await using at = await scene();
    expect(at.targets.http).toBeUndefined();
    await expect(scene({ flags: { "listeners.http.tcp.port": "0" } })).rejects.toMatchObject({
      violations: [{ field: "listeners.http.tcp.allow_unauthenticated" }],
    });
  });

  it.each(TRANSPORTS)("answers over %s what gRPC answers", async (_name, transport) => {
    const at = shared;
    const client = createClient(CredentialService, transport(at.url));
    const overGrpc = await at.data.call(CredentialService.method.getToken, { accountId: "acme" });
    expect(await client.getToken({ accountId: "acme" })).toEqual(overGrpc);
    const refused = await client.getToken({ accountId: "nobody" }).catch(ConnectError.from);
    expect(refused).toMatchObject({ code: Code.NotFound });
    expect((refused as ConnectError).findDetails(ErrorInfoSchema)[0]?.reason).toBe("ACCOUNT_NOT_FOUND");
    const { status } = await createClient(Health, transport(at.url)).check({});
    expect(status).toBe(1);
  });

  it.each(TRANSPORTS)("streams events over %s, and ends with its reader", async (_name, transport) => {
    const at = await open();
    const client = createClient(EventService, transport(at.url));
    const seen: string[] = [];
    const gone = new AbortController();
    const reading = (async () => {
      for await (const { event } of client.watchEvents({}, { signal: gone.signal })) {
        if (event === undefined) void at.connect("acme");
        else seen.push(event.accountId);
        if (seen.length === 1) gone.abort();
      }
    })();
    await expect(reading).rejects.toMatchObject({ code: Code.Canceled });
    expect(seen).toEqual(["acme"]);
  });

  it("carries a proxied call, whole over JSON and streamed over HTTP/2", async () => {
    const at = shared;
    const path = "/keyturn.v1.CredentialService/Proxy";
    const whole = await post(at.url, path, '{"account_id":"acme","method":"GET","path":"/api/me"}');
    expect(whole).toMatchObject({ status: 200, body: { status: 200 } });
    expect(Buffer.from(String(whole.body.body), "base64").toString()).toContain('"subject":"acme"');
    const client = createClient(
      CredentialService,
      createConnectTransport({ baseUrl: at.url, httpVersion: "2" }),
    );
    const head = { accountId: "acme", method: "GET", path: "/api/me" };
    const asked = (async function* () {
      yield { part: { case: "head" as const, value: head } };
    })();
    const parts: string[] = [];
    for await (const { part } of client.proxyStream(asked)) parts.push(part.case ?? "none");
    expect(parts).toEqual(["head", "chunk"]);
    const big = (async function* () {
      yield { part: { case: "head" as const, value: { ...head, method: "POST" } } };
      yield { part: { case: "chunk" as const, value: new Uint8Array(5_000_000) } };
    })();
    const refused = await (async () => {
      for await (const _ of client.proxyStream(big));
    })().catch(ConnectError.from);
    expect((refused as ConnectError).findDetails(ErrorInfoSchema)[0]?.reason).toBe("BODY_TOO_LARGE");
  });

  it("takes grpc-js too", async () => {
    const at = shared;
    const caller = new Caller(at.targets.http ?? "");
    onTestFinished(() => caller.close());
    const { accessToken } = await caller.call(CredentialService.method.getToken, { accountId: "acme" });
    expect(accessToken).toMatch(/^sim_at_/);
  });

  it("does what the README's curl line says", async () => {
    const at = shared;
    const readme = readFileSync(join(import.meta.dirname, "../../../README.md"), "utf8");
    const line = /^ {4}curl .*\\\n.*GetToken$/m.exec(readme)?.[0] ?? "the README has no curl line";
    const command = line.replace("127.0.0.1:7472", at.targets.http ?? "");
    const { stdout: answer } = await promisify(execFile)("sh", ["-c", command]);
    expect(JSON.parse(answer)).toMatchObject({
      tokenType: "Bearer",
      headers: { Authorization: expect.stringMatching(/^Bearer /) },
    });
  });

  it("knows HTTP/2 by its first words, however they are cut", async () => {
    const at = await open();
    const socket = connectTcp(Number(at.targets.http?.split(":")[1]), "127.0.0.1");
    onTestFinished(() => void socket.destroy());
    for (const part of ["P", "RI * HTTP/2.0\r\n", "\r\nSM\r\n", "\r\n"]) {
      socket.write(part);
      await delay(20);
    }
    const [settings] = (await once(socket, "data")) as [Buffer];
    expect(settings[3]).toBe(4);
  });

  it("takes readers that vanish at any moment for no fault of its own", async () => {
    const at = await open();
    const message = Buffer.concat([Buffer.from([0, 0, 0, 0, 2]), Buffer.from("{}")]);
    const head = [
      `POST /${EventService.typeName}/WatchEvents HTTP/1.1`,
      "host: localhost",
      "connect-protocol-version: 1",
      "content-type: application/connect+json",
      `content-length: ${message.length}`,
    ];
    const port = Number(at.targets.http?.split(":")[1]);
    for (let readers = 0; readers < 40; readers += 1) {
      const socket = connectTcp(port, "127.0.0.1");
      socket.write(Buffer.concat([Buffer.from(`${head.join("\r\n")}\r\n\r\n`), message]));
      await delay(readers % 8);
      socket.destroy();
    }
    await delay(100);
    await at.end();
    expect(at.logs.join()).not.toContain("call failed");
  });

  it("is done when the sidecar stops, with streams open", async () => {
    const at = await open();
    const client = createClient(
      EventService,
      createConnectTransport({ baseUrl: at.url, httpVersion: "1.1" }),
    );
    const [first] = [client.watchEvents({})[Symbol.asyncIterator]()];
    await first.next();
    const idle = connectTcp(Number(at.targets.http?.split(":")[1]), "127.0.0.1");
    idle.on("error", () => undefined);
    await at.end();
    idle.destroy();
  });
});

describe("the HTTP listener keeps out", () => {
  const ask = '{"account_id":"acme"}';

  it.each([
    [{ host: "evil.example" }, "host_not_local"],
    [{ host: "127.0.0.1.evil.example:7472" }, "host_not_local"],
    [{ host: "localhost@evil.example" }, "host_not_local"],
    [{ origin: "https://evil.example" }, "foreign_origin"],
    [{ origin: "null" }, "foreign_origin"],
    [{ origin: "http://127.0.0.1:1" }, "foreign_origin"],
    [{ "x-forwarded-for": "10.0.0.1" }, "forwarded"],
    [{ forwarded: "for=10.0.0.1" }, "forwarded"],
    [{ via: "1.1 proxy" }, "forwarded"],
  ])("%j", async (headers, cause) => {
    const at = shared;
    const answer = await post(at.url, GET_TOKEN, ask, headers);
    expect(answer).toMatchObject({ status: 403, body: { code: "permission_denied" } });
    expect(detailsOf(answer).ErrorInfo).toMatchObject({ reason: "CALLER_NOT_ALLOWED", metadata: { cause } });
  });

  it("a request that a page could send by accident", async () => {
    const at = shared;
    const accident = { "content-type": "text/plain", "connect-protocol-version": [] };
    const answer = await post(at.url, GET_TOKEN, ask, accident);
    expect(answer).toMatchObject({ status: 400, body: { code: "invalid_argument" } });
    expect(detailsOf(answer).BadRequest).toMatchObject({
      fieldViolations: [{ field: "header connect-protocol-version", description: "has to be sent: 1" }],
    });
    const preflight = await fetch(`${at.url}${GET_TOKEN}`, { method: "OPTIONS" });
    expect(preflight.ok).toBe(false);
    expect([...preflight.headers.keys()].filter((name) => name.startsWith("access-control"))).toEqual([]);
  });

  it("pages of its own origin it lets in", async () => {
    const at = shared;
    expect(await post(at.url, GET_TOKEN, ask, { origin: at.url })).toMatchObject({ status: 200 });
    const host = at.targets.http?.replace("127.0.0.1", "localhost");
    expect(await post(at.url, GET_TOKEN, ask, { host, origin: `http://${host}` })).toMatchObject({
      status: 200,
    });
  });
});

describe("a faulty request over HTTP", () => {
  it.each([
    [GET_TOKEN, '{"account_id":1}', "account_id"],
    [GET_TOKEN, '{"accountId":"acme","minValidity":"soon"}', "minValidity"],
    [GET_TOKEN, '{"account_id":"acme","rejected_revision":"r"}', "rejected_revision"],
    [GET_TOKEN, '{"account_id":', "body"],
    [GET_TOKEN, "[]", "body"],
    [GET_TOKEN, "", "body"],
    [GET_TOKEN, "{}", "account_id"],
    [PROXY, '{"account_id":"acme","method":"GET","body":"not base64!"}', "body"],
    [PROXY, '{"account_id":"acme","method":"GET","headers":{"a":"b"}}', "headers"],
    [
      PROXY,
      '{"account_id":"acme","method":"GET","query":[{"name":"a"},{"name":"b","value":7}]}',
      "query[1].value",
    ],
    [
      PROXY,
      '{"account_id":"acme","method":"GET","query":[{"name":"a","value":"\\ud800"}]}',
      "query[0].value",
    ],
    [PROXY, '{"account_id":"acme","method":"GET","path":"/a?b"}', "path"],
    [
      PROXY,
      '{"account_id":"acme","method":"GET","headers":[{"name":"Host","value":"x"}]}',
      "headers[0].name",
    ],
  ])("%s %s names its field", async (path, body, field) => {
    const at = shared;
    const answer = await post(at.url, path, body);
    expect(answer).toMatchObject({ status: 400, body: { code: "invalid_argument" } });
    expect(detailsOf(answer)).toMatchObject({
      ErrorInfo: { reason: "INVALID_REQUEST" },
      BadRequest: { fieldViolations: [{ field }] },
    });
  });

  it("names a field deep inside, without what was sent", async () => {
    const at = await withCallers([{ name: "ops", rpcs: ["*"] }]);
    const body = '{"credential":{"oauth":{"access_token":{"secret":"s3cret"}}}}';
    const answer = await post(at.url, "/keyturn.v1.AccountService/CreateAccount", body, bearer("ops"));
    expect(detailsOf(answer)).toMatchObject({
      BadRequest: {
        fieldViolations: [{ field: "credential.oauth.access_token", description: "expected string" }],
      },
    });
    expect(JSON.stringify(answer)).not.toContain("s3cret");
  });

  it.each(TRANSPORTS)("is BODY_TOO_LARGE over %s when it is", async (_name, transport) => {
    const at = await open({ flags: { "limits.max_request_bytes": "2048" } });
    const client = createClient(CredentialService, transport(at.url));
    const big = await client.getToken({ accountId: "a".repeat(4_096) }).catch(ConnectError.from);
    expect(big).toMatchObject({ code: Code.ResourceExhausted });
    expect((big as ConnectError).findDetails(ErrorInfoSchema)[0]).toMatchObject({
      reason: "BODY_TOO_LARGE",
      metadata: { limit: "2048" },
    });
  });

  it("of another kind is told which there are", async () => {
    const at = shared;
    const form = { "content-type": "application/x-www-form-urlencoded" };
    const answer = await post(at.url, GET_TOKEN, "account_id=acme", form);
    expect(answer.status).toBe(415);
    expect(answer.body.message).toMatch(/^header content-type: application\/json/);
    const got = await fetch(`${at.url}${GET_TOKEN}`, { headers: { "connect-protocol-version": "1" } });
    expect(got.status).toBe(405);
    expect(await got.json()).toMatchObject({ message: "method: POST" });
  });

  it.each([
    [{ "connect-timeout-ms": "soon" }, "header connect-timeout-ms"],
    [{ "content-encoding": "gzip" }, "header content-encoding"],
  ])("that the protocol cannot carry is told so: %j", async (headers, field) => {
    const answer = await post(shared.url, GET_TOKEN, '{"account_id":"acme"}', headers);
    expect(answer.status).toBe(400);
    expect(detailsOf(answer)).toMatchObject({
      ErrorInfo: { reason: "INVALID_REQUEST" },
      BadRequest: { fieldViolations: [{ field }] },
    });
  });

  it("to stream both ways over HTTP/1.1 is told what it takes", async () => {
    const streaming = { "content-type": "application/connect+json" };
    const answer = await post(shared.url, `${PROXY}Stream`, "", streaming);
    expect(answer).toMatchObject({
      status: 505,
      body: { message: "HTTP version: 2, where both sides stream" },
    });
  });

  it("whose time is up has waited too long, and says so", async () => {
    const at = await open({ flags: { "providers.directories": PROVIDERS } });
    const silent = createServer(() => undefined).listen(0, "127.0.0.1");
    await once(silent, "listening");
    onTestFinished(() => {
      silent.closeAllConnections();
      silent.close();
    });
    const fields = { api: String((silent.address() as AddressInfo).port) };
    await putSimulatorClient(at.admin, {}, "api");
    await at.connect("slow", { expired: false, provider: "api", fields });
    for (const ms of ["1", "300"]) {
      const call = '{"account_id":"slow","method":"GET","path":"/me"}';
      const answer = await post(at.url, PROXY, call, { "connect-timeout-ms": ms });
      expect(answer).toMatchObject({ status: 504, body: { code: "deadline_exceeded" } });
      expect(detailsOf(answer).ErrorInfo).toMatchObject({ reason: "WAIT_TIMED_OUT" });
    }
  });

  it("to a method that is not there is answered as such", async () => {
    const at = shared;
    expect(await post(at.url, "/keyturn.v1.CredentialService/Nothing", "{}")).toMatchObject({
      status: 404,
      body: { code: "unimplemented" },
    });
  });
});

const hashOf = (token: string) => createHash("sha256").update(token).digest("hex");
const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

/** Callers whose token is their name; `ops` has to be one. */
async function withCallers(callers: readonly { readonly name: string; readonly rpcs: readonly string[] }[]) {
  const file = join(tempFolder(), "callers.yaml");
  const rules = callers.map((caller) => ({ token_sha256: [hashOf(caller.name)], ...caller }));
  writeFileSync(file, JSON.stringify({ version: 1, callers: rules }));
  return open({ flags: { "callers.file": file }, token: "ops" });
}

describe("a caller token over HTTP", () => {
  it("is asked for, and decides", async () => {
    const at = await withCallers([
      { name: "ops", rpcs: ["*"] },
      { name: "app", rpcs: ["CredentialService/Proxy"] },
    ]);
    await at.connect("acme", { expired: false });
    const ask = '{"account_id":"acme"}';
    expect(await post(at.url, GET_TOKEN, ask)).toMatchObject({ status: 401 });
    expect(await post(at.url, GET_TOKEN, ask, bearer("wrong"))).toMatchObject({ status: 401 });
    expect(await post(at.url, GET_TOKEN, ask, bearer("app"))).toMatchObject({ status: 403 });
    expect(await post(at.url, GET_TOKEN, ask, bearer("ops"))).toMatchObject({ status: 200 });
  });

  it("opens the administrative services, which are closed without one, and their acts are written down", async () => {
    const at = await withCallers([
      { name: "ops", rpcs: ["*"] },
      { name: "app", rpcs: ["CredentialService/*"] },
    ]);
    await at.connect("acme", { expired: false });
    const disable = `/${AccountService.typeName}/DisableAccount`;
    const ask = '{"account_id":"acme"}';
    expect(await post(at.url, disable, ask, bearer("app"))).toMatchObject({ status: 403 });
    expect(await post(at.url, disable, ask, bearer("ops"))).toMatchObject({ status: 200 });
    const files = readdirSync(join(at.stateDir, "audit")).map((name) => join(at.stateDir, "audit", name));
    const acts = files.flatMap((file) => readFileSync(file, "utf8").split("\n"));
    const disabled = acts.filter((line) => line.includes("AccountService/DisableAccount"));
    expect(disabled).toHaveLength(2);
    expect(disabled[1]).toContain('"caller":"ops"');
    const answer = await post(shared.url, `/${AccountService.typeName}/ListAccounts`, "{}");
    expect(answer).toMatchObject({ status: 403, body: { code: "permission_denied" } });
  });
});
