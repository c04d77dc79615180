import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { KeyturnError } from "../../../src/errors.ts";
import { AccountService } from "../../../src/gen/keyturn/v1/account_service_pb.js";
import { ProxyRequestSchema } from "../../../src/gen/keyturn/v1/credential_service_pb.js";
import { answerRenderer } from "../../../src/rpc/credential/answer.ts";
import { proxy } from "../../../src/rpc/credential/proxy.ts";
import { anyone } from "../../../src/rpc/policy.ts";
import { Sight } from "../../../src/rpc/sight.ts";
import type { Credential } from "../../../src/tokens/credential.ts";
import type { Forward } from "../../../src/tokens/forwarding.ts";
import { Secret } from "../../../src/tokens/secret.ts";
import type { Authorization } from "../../../src/tokens/vendor.ts";
import { Caller, reasonOf } from "../../e2e/harness.ts";
import { HOUR_MS, kekAway, MINUTE_MS, SECOND_MS, Stage } from "../../tokens/stage.ts";
import { headerOf, proxyOf, stage } from "./stage.ts";

/** The promises of a refresh, each met by a call through the proxy instead of a GetToken. */
describe("a call with an expired token", () => {
  it("refreshes it first, and the next refresh is planned", async () => {
    await using at = await stage();
    await at.have("acme", { expired: true });
    expect((await at.proxy()).status).toBe(200);
    expect(at.simulator.stats().tokenRequests).toBe(1);
    const { account } = await at.admin.call(AccountService.method.getAccount, { accountId: "acme" });
    const token = account?.slots[0];
    const leftMs =
      Number((token?.expireTime?.seconds ?? 0n) - (token?.nextRefreshTime?.seconds ?? 0n)) * 1_000;
    expect(leftMs).toBeGreaterThanOrEqual(59_000);
    expect(leftMs).toBeLessThanOrEqual(181_000);
  });

  it("causes one refresh for 500 of them on 10 connections", async () => {
    await using at = await stage();
    await at.have("acme", { expired: true });
    const callers = Array.from({ length: 10 }, () => new Caller(at.targets.data));
    const answers = await Promise.all(
      Array.from({ length: 500 }, (_, i) => proxyOf(callers[i % 10] ?? at.data)),
    );
    for (const caller of callers) caller.close();
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
    expect(at.simulator.stats().tokenRequests).toBe(1);
  });

  it("does not wait for another account's", async () => {
    await using at = await stage();
    at.simulator.faults.add({ kind: "hang", ms: 1_500, endpoint: "token", subject: "a" });
    await Promise.all(["a", "b"].map((id) => at.have(id, { expired: true })));
    const order: string[] = [];
    const calls = ["a", "b"].map((accountId) => at.proxy({ accountId }).then(() => order.push(accountId)));
    await Promise.all(calls);
    expect(order).toEqual(["b", "a"]);
  });

  it("is refused with REAUTHORIZATION_REQUIRED when the grant is revoked, once asked, and nothing reaches the API", async () => {
    await using at = await stage();
    at.simulator.faults.add({ kind: "invalid_grant", endpoint: "token" });
    await at.have("acme", { expired: true });
    for (let i = 0; i < 3; i += 1) expect(await at.proxy().catch(reasonOf)).toBe("REAUTHORIZATION_REQUIRED");
    expect(at.simulator.stats().tokenRequests).toBe(1);
    expect(at.api.seen).toEqual([]);
  });

  it("is throttled by the token endpoint's cool-down, which is no throttling of the API", async () => {
    await using at = await stage();
    at.simulator.faults.add({ kind: "rate_limit", dialect: "retry_after_seconds", endpoint: "token" });
    await at.have("acme", { expired: true });
    await at.have("warm");
    expect(await at.proxy().catch(reasonOf)).toBe("PROVIDER_RATE_LIMITED");
    expect((await at.proxy({ accountId: "warm" })).status).toBe(200);
  });

  it("is throttled by the API without cooling the token endpoint down", async () => {
    await using at = await stage();
    await at.have("warm");
    await at.have("acme", { expired: true });
    at.api.answer = (response) => {
      response.writeHead(429, {
        "X-RateLimit-Limit": "100",
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": "30",
      });
      response.end("slow down");
    };
    const answer = await at.proxy({ accountId: "warm" });
    expect(answer.status).toBe(429);
    expect(Buffer.from(answer.body).toString()).toBe("slow down");
    expect(answer.rateLimit).toMatchObject({ limit: 100n, remaining: 0n, resetAfter: { seconds: 30n } });
    const told = ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "ratelimit", "retry-after"];
    expect(told.map((name) => headerOf(answer, name))).toEqual([
      "100",
      "0",
      "30",
      '"default";r=0;t=30',
      "30",
    ]);
    expect(headerOf(answer, "x-ratelimit-limit")).toBe("100");
    expect((await at.proxy()).status).toBe(429);
    expect(at.simulator.stats().tokenRequests).toBe(1);
    expect(at.api.seen.length).toBe(2);
  });

  it("gives up at its deadline while the refresh goes on", async () => {
    await using at = await stage();
    at.simulator.faults.add({ kind: "hang", ms: 1_500, endpoint: "token", times: 1 });
    await at.have("acme", { expired: true });
    await expect(at.proxy({}, { deadlineMs: 200 })).rejects.toMatchObject({ code: 4 });
    expect((await at.proxy()).status).toBe(200);
    expect(at.simulator.stats().tokenRequests).toBe(1);
    expect(at.api.seen.length).toBe(1);
  });
});

function bearer({ credential }: { readonly credential: Credential }): Authorization {
  if (credential.kind !== "oauth") throw new Error(credential.kind);
  const { accessToken, tokenType } = credential;
  const headers = new Secret({ Authorization: `Bearer ${accessToken.reveal()}` });
  return { accessToken, tokenType, headers, queryParameters: new Secret({}), baseUrl: "https://api.test" };
}

/** Calls through the proxy on virtual time; what they are sent with is noted, and answered 200. */
async function inVirtualTime() {
  const render = answerRenderer({ authorize: bearer });
  const stage = await Stage.open({ around: (world) => ({ ...world, render }) });
  const { clock } = stage.world;
  const { broker } = stage.heart;
  const sent: { readonly token: string; readonly atMs: number }[] = [];
  const forward: Forward = async ({ credential }) => {
    sent.push({ token: credential.reveal().headers["Authorization"] ?? "", atMs: stage.time.nowMs });
    return {
      status: 200,
      headers: [],
      body: new Uint8Array(),
      trailers: () => [],
      rateLimit: undefined,
      tokenEnded: false,
      cancel: () => undefined,
    };
  };
  const { abortable: handler } = proxy({
    broker,
    sight: new Sight((id) => broker.account(id)),
    clock,
    forward,
    maxWaitMs: MINUTE_MS,
    certificates: stage.heart.certificates,
    maxResponseBytes: 1,
    opened: () => undefined,
  });
  const call = (accountId: string, deadlineMs = MINUTE_MS): Promise<string> => {
    const request = create(ProxyRequestSchema, { accountId, method: "GET", path: "/me" });
    const seen = {
      caller: anyone("uds"),
      untilBootMs: clock.boot() + deadlineMs,
      rpc: "CredentialService/Proxy",
      signal: new AbortController().signal,
      notes: {},
    };
    return handler(request as never, seen).then(
      () => "200",
      (error: unknown) => (error instanceof KeyturnError ? error.reason : String(error)),
    );
  };
  return { stage, sent, call };
}

describe("a call while the token endpoint hangs for 45 s", () => {
  it("is freed at 30 s, sends nothing, and the next one goes out with the answer that came late", async () => {
    const { stage, sent, call } = await inVirtualTime();
    await stage.connect("a");
    stage.vendors.next.push({ kind: "grant", afterMs: 45 * SECOND_MS });
    const first = call("a");
    await stage.pass(29_999);
    expect(sent).toEqual([]);
    await stage.pass(1);
    expect(await first).toBe("REFRESH_UNCERTAIN");
    await stage.pass(15_100);
    expect(await stage.within(SECOND_MS, call("a"))).toBe("200");
    expect(sent.map(({ token }) => token)).toEqual(["Bearer at-1"]);
    expect(stage.vendors.sent).toHaveLength(1);
  });

  it("goes out at once with the token that is still valid", async () => {
    const { stage, sent, call } = await inVirtualTime();
    await stage.connect("a", 25 * SECOND_MS);
    await stage.connect("b", HOUR_MS);
    stage.vendors.next.push({ kind: "grant", afterMs: 45 * SECOND_MS });
    const closing = call("a");
    expect(await stage.within(SECOND_MS, call("b"))).toBe("200");
    await stage.pass(31_000);
    expect(await closing).toBe("REFRESH_UNCERTAIN");
    expect(sent.map(({ token }) => token)).toEqual(["Bearer at-b"]);
  });
});

describe("a call while the KEK is away", () => {
  it("goes out with a token that is known, and is KEK_UNAVAILABLE with any other", async () => {
    const { stage, sent, call } = await inVirtualTime();
    for (const id of ["known", "cold"]) await stage.connect(id, HOUR_MS);
    await stage.connect("expired");
    expect(await stage.within(SECOND_MS, call("known"))).toBe("200");
    stage.sealer.trouble.fail(kekAway);
    const answers = [];
    for (const id of ["known", "cold", "expired"]) answers.push(await stage.within(5 * SECOND_MS, call(id)));
    expect(answers).toEqual(["200", "KEK_UNAVAILABLE", "KEK_UNAVAILABLE"]);
    expect(sent).toHaveLength(2);
    expect(stage.vendors.sent).toHaveLength(0);
  });

  it("is freed at 30 s when the KEK does not even answer, and nothing was sent", async () => {
    const { stage, sent, call } = await inVirtualTime();
    await stage.connect("a");
    stage.sealer.trouble.hang();
    const first = call("a");
    await stage.pass(30_000);
    expect(await first).toBe("REFRESH_UNCERTAIN");
    expect([sent, stage.vendors.sent]).toEqual([[], []]);
  });
});
