import { create, fromBinary } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import {
  CheckRequestSchema,
  type CheckResponse,
  CheckResponseSchema,
} from "../../../src/gen/envoy/service/auth/v3/external_auth_pb.js";
import { check } from "../../../src/rpc/authz/check.ts";
import { answerRenderer } from "../../../src/rpc/credential/answer.ts";
import { anyone } from "../../../src/rpc/policy.ts";
import { toKeyturnError } from "../../../src/rpc/status.ts";
import { Secret } from "../../../src/tokens/secret.ts";
import { REAUTH } from "../../fakes/vendors.ts";
import { HOUR_MS, kekAway, MINUTE_MS, SECOND_MS, Stage } from "../../tokens/stage.ts";

/** What Envoy makes of an answer. */
interface Passed {
  /** `200` lets the request through. */
  readonly status: number;
  readonly reason: string | undefined;
  readonly headers: Readonly<Record<string, string>>;
  readonly atMs: number;
}

const ENVOY_WAITS_MS = 5 * SECOND_MS;

const render = answerRenderer({
  authorize: ({ credential }) => {
    const accessToken = credential.kind === "oauth" ? credential.accessToken : new Secret("");
    const headers = new Secret({ Authorization: `Bearer ${accessToken.reveal()}` });
    return { accessToken, tokenType: "Bearer", headers, queryParameters: new Secret({}), baseUrl: "" };
  },
});

async function open(): Promise<{
  readonly stage: Stage;
  pass(id: string, waitsMs?: number): Promise<Passed>;
}> {
  const stage = await Stage.open({ around: (world) => ({ ...world, render }) });
  const { clock } = stage.world;
  const deps = {
    broker: stage.heart.broker,
    allowsHost: () => true,
    requirePortable: () => undefined,
    clock,
    maxWaitMs: MINUTE_MS,
  };
  const { unary, failed } = check({ ...deps, opened: () => undefined });
  const pass = async (id: string, waitsMs = ENVOY_WAITS_MS) => {
    const attributes = { contextExtensions: { account_id: id }, request: { http: { host: "a", path: "/" } } };
    const request = create(CheckRequestSchema, { attributes }) as never;
    const call = { caller: anyone("uds"), rpc: "Authorization/Check", untilBootMs: clock.boot() + waitsMs };
    const asked = (async () => fromBinary(CheckResponseSchema, (await unary(request, call)) as Uint8Array))();
    return passed(await asked.catch((error: unknown) => failed(toKeyturnError(error))), stage.time.nowMs);
  };
  return { stage, pass };
}

function passed({ status, httpResponse }: CheckResponse, atMs: number): Passed {
  expect(status).toBeDefined();
  expect(status?.code === 0).toBe(httpResponse.case === "okResponse");
  if (httpResponse.case === undefined) throw new Error("neither allowed nor denied");
  const { headers: options } = httpResponse.value;
  const headers = Object.fromEntries(options.map(({ header }) => [header?.key ?? "", header?.value ?? ""]));
  if (httpResponse.case === "okResponse") return { status: 200, reason: undefined, headers, atMs };
  const { status: http, body } = httpResponse.value;
  return { status: http?.code ?? 0, reason: JSON.parse(body).reason, headers, atMs };
}

describe("Check", () => {
  it("refreshes an expired token on demand and schedules the next refresh", async () => {
    const { stage, pass } = await open();
    await stage.start();
    await stage.connect("a", -MINUTE_MS);
    const first = await stage.within(ENVOY_WAITS_MS, pass("a"));
    expect(first).toMatchObject({ status: 200, headers: { authorization: "Bearer at-1" } });
    await stage.pass(HOUR_MS - 181 * SECOND_MS);
    expect(stage.vendors.sent).toHaveLength(1);
    await stage.pass(3 * MINUTE_MS);
    expect(stage.vendors.sent).toHaveLength(2);
    expect((await pass("a")).headers).toMatchObject({ authorization: "Bearer at-2" });
  });

  it("refreshes once for ten requests at once, and two accounts side by side", async () => {
    const { stage, pass } = await open();
    await stage.connect("a");
    await stage.connect("b");
    stage.vendors.always = { kind: "grant", afterMs: SECOND_MS };
    const ids = Array.from({ length: 20 }, (_, i) => (i % 2 === 0 ? "a" : "b"));
    const all = await stage.within(ENVOY_WAITS_MS, Promise.all(ids.map((id) => pass(id))));
    expect(new Set(all.map(({ status }) => status))).toEqual(new Set([200]));
    expect(new Set(all.map(({ headers }) => headers["authorization"])).size).toBe(2);
    expect(stage.vendors.sent.map(({ accountId }) => accountId).sort()).toEqual(["a", "b"]);
    expect(stage.vendors.mostInFlight).toBe(2);
    expect(Math.max(...all.map(({ atMs }) => atMs))).toBeLessThan(2 * SECOND_MS);
  });

  it("answers before Envoy's time is up while the token endpoint hangs for 45 s, and lets others through", async () => {
    const { stage, pass } = await open();
    await stage.connect("a");
    await stage.connect("b");
    stage.vendors.next.push({ kind: "grant", afterMs: 45 * SECOND_MS });
    const stuck = await stage.within(ENVOY_WAITS_MS, pass("a"));
    expect(stuck).toMatchObject({ status: 503, reason: "WAIT_TIMED_OUT", headers: { "retry-after": "1" } });
    expect(stuck.atMs).toBeLessThan(ENVOY_WAITS_MS);
    expect(await stage.within(ENVOY_WAITS_MS, pass("b"))).toMatchObject({ status: 200 });
    // The lock ends at 30 s; a rotating grant is not asked for twice while its answer may still come.
    await stage.pass(30 * SECOND_MS);
    expect(await stage.within(ENVOY_WAITS_MS, pass("a"))).toMatchObject({ reason: "REFRESH_UNCERTAIN" });
    await stage.pass(15 * SECOND_MS);
    expect(await stage.within(ENVOY_WAITS_MS, pass("a"))).toMatchObject({ status: 200 });
    expect(stage.vendors.sent.filter(({ accountId }) => accountId === "a")).toHaveLength(1);
    expect(stage.leftovers("a")).toEqual([]);
  });

  it("asks again at 30 s of a hang where that is safe", async () => {
    const { stage, pass } = await open();
    if (stage.vendors.rulesNow !== undefined)
      stage.vendors.rulesNow = { ...stage.vendors.rulesNow, resendSafe: true };
    await stage.connect("a");
    stage.vendors.next.push({ kind: "grant", afterMs: 45 * SECOND_MS });
    expect(await stage.within(ENVOY_WAITS_MS, pass("a"))).toMatchObject({ reason: "WAIT_TIMED_OUT" });
    await stage.pass(30 * SECOND_MS);
    expect(await stage.within(ENVOY_WAITS_MS, pass("a"))).toMatchObject({ status: 200 });
    expect(stage.vendors.sent).toHaveLength(2);
  });

  it("says once that a revoked account needs its customer, from then on without asking anybody", async () => {
    const { stage, pass } = await open();
    await stage.start();
    await stage.connect("a");
    stage.vendors.next.push(REAUTH);
    const denied = { status: 424, reason: "REAUTHORIZATION_REQUIRED" };
    expect(await stage.within(ENVOY_WAITS_MS, pass("a"))).toMatchObject(denied);
    expect(stage.count("integrated_account:authentication_error", "a")).toBe(1);
    await stage.pass(4 * HOUR_MS);
    expect(await pass("a")).toMatchObject(denied);
    expect(stage.count("integrated_account:authentication_error", "a")).toBe(1);
    expect(stage.vendors.sent).toHaveLength(1);
    expect(stage.slot("a").nextRefreshAtMs).toBeUndefined();
  });

  it("hands a throttled refresh on with its limits, and does not try again meanwhile", async () => {
    const { stage, pass } = await open();
    await stage.connect("a");
    const rateLimit = { limit: 100, remaining: 0, resetAfterMs: 40_000, retryAfterMs: 40_000 };
    stage.vendors.next.push({ kind: "refuse", class: "rate_limited", retryAfterMs: 40_000, rateLimit });
    const limits = { "ratelimit-limit": "100", "ratelimit-remaining": "0" };
    const first = await stage.within(ENVOY_WAITS_MS, pass("a"));
    expect(first).toMatchObject({ status: 429, reason: "PROVIDER_RATE_LIMITED", headers: limits });
    expect(first.headers).toMatchObject({ "retry-after": "40", "ratelimit-reset": "40" });
    await stage.pass(10 * SECOND_MS);
    const later = await stage.within(ENVOY_WAITS_MS, pass("a"));
    expect(later).toMatchObject({ status: 429, headers: { "retry-after": "30" } });
    expect(stage.vendors.sent).toHaveLength(1);
    await stage.pass(31 * SECOND_MS);
    expect(await stage.within(ENVOY_WAITS_MS, pass("a"))).toMatchObject({ status: 200 });
  });

  it("fails with the reason when the KEK is away or does not answer, and nobody is asked for a token", async () => {
    const { stage, pass } = await open();
    await stage.connect("a");
    await stage.connect("valid", HOUR_MS);
    stage.sealer.trouble.fail(kekAway);
    const away = { status: 503, reason: "KEK_UNAVAILABLE", headers: { "retry-after": "1" } };
    for (const id of ["a", "valid"]) expect(await stage.within(ENVOY_WAITS_MS, pass(id))).toMatchObject(away);
    stage.sealer.trouble.hang();
    const silent = await stage.within(ENVOY_WAITS_MS, pass("valid"));
    expect(silent).toMatchObject({ status: 503, reason: "WAIT_TIMED_OUT" });
    expect(stage.vendors.sent).toEqual([]);
    stage.sealer.trouble.end();
    expect(await stage.within(ENVOY_WAITS_MS, pass("valid"))).toMatchObject({ status: 200 });
  });
});
