import { connect } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import type { Fault, RateLimitDialect } from "../../src/simulator/faults.ts";
import { textOf, vendor } from "./setup.ts";

/** A vendor with one grant and one fault that is gone after its first hit. */
async function faulty(fault: Fault, options: Parameters<typeof vendor>[0] = {}) {
  const v = await vendor(options);
  const grant = v.simulator.issueGrant();
  v.simulator.faults.add({ times: 1, ...fault });
  return { ...v, grant, again: () => v.refresh(grant.refreshToken) };
}

/** Everything a refresh request gets back on its socket, and how that socket ended. */
function raw(port: number, refreshToken: string): Promise<{ text: string; end: string }> {
  const body = new URLSearchParams({
    grant_type: "refresh_token",
    refresh_token: refreshToken,
    client_id: "demo-client",
    client_secret: "demo-secret",
  }).toString();
  return new Promise((resolve) => {
    let text = "";
    const socket = connect(port, "127.0.0.1");
    socket.setEncoding("utf8");
    socket.on("data", (chunk) => {
      text += chunk;
    });
    socket.on("end", () => resolve({ text, end: "end" }));
    socket.on("error", (error) => resolve({ text, end: "code" in error ? String(error.code) : "error" }));
    const type = "content-type: application/x-www-form-urlencoded";
    socket.write(
      `POST /oauth/token HTTP/1.1\r\nhost: x\r\n${type}\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
  });
}

describe("faults before the vendor's logic", () => {
  it("hangs for a while, then redeems", async () => {
    const { simulator, again } = await faulty({ kind: "hang", ms: 60 });
    const startedAtMs = performance.now();
    expect((await again()).status).toBe(200);
    expect(performance.now() - startedAtMs).toBeGreaterThanOrEqual(58);
    expect(simulator.history()[0]).toMatchObject({
      faults: ["hang"],
      outcome: "rotated",
      delivery: "answered",
    });
  });

  it("redeems after its hang although the client has given up", async () => {
    const { simulator, grant, refresh } = await faulty({ kind: "hang", ms: 80 });
    const body = new URLSearchParams({
      grant_type: "refresh_token",
      refresh_token: grant.refreshToken,
      client_id: "demo-client",
      client_secret: "demo-secret",
    });
    const signal = AbortSignal.timeout(20);
    await expect(fetch(`${simulator.url}/oauth/token`, { method: "POST", body, signal })).rejects.toThrow();
    await delay(120);
    expect(simulator.stats()).toMatchObject({ redeemed: 1, redeemedButDropped: 1, unanswered: 1 });
    expect(simulator.history()[0]).toMatchObject({ delivery: "dropped", status: undefined, redeemed: true });
    expect((await refresh(grant.refreshToken)).json.error).toBe("invalid_grant");
  });

  it("hangs for ever without redeeming, and lets go when the client does", async () => {
    const { simulator, grant, again } = await faulty({ kind: "hang" });
    const socket = connect(simulator.port, "127.0.0.1");
    const body = `grant_type=refresh_token&refresh_token=${grant.refreshToken}`;
    const type = "content-type: application/x-www-form-urlencoded";
    socket.write(
      `POST /oauth/token HTTP/1.1\r\nhost: x\r\n${type}\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    await delay(50);
    expect(simulator.history()[0]).toMatchObject({ delivery: "pending", endedAtMs: undefined });
    expect((await again()).status).toBe(200);
    expect(simulator.stats()).toMatchObject({ maxConcurrentUses: 2, redeemed: 1 });
    socket.destroy();
    await delay(30);
    expect(simulator.history()[0]).toMatchObject({
      delivery: "dropped",
      outcome: "unprocessed",
      redeemed: false,
    });
    expect(simulator.stats()).toMatchObject({ unanswered: 1, redeemedButDropped: 0 });
  });

  it("closes at once although requests hang", async () => {
    const { simulator, again } = await faulty({ kind: "hang" });
    const hanging = again().catch(() => "cut");
    await delay(30);
    await simulator.close();
    expect(await hanging).toBe("cut");
  });

  it("resets the connection before redeeming", async () => {
    const { simulator, grant, again } = await faulty({ kind: "reset_before" });
    expect(await raw(simulator.port, grant.refreshToken)).toEqual({ text: "", end: "ECONNRESET" });
    expect(simulator.history()[0]).toMatchObject({ redeemed: false, delivery: "dropped", status: undefined });
    expect((await again()).status).toBe(200);
    expect(simulator.history()[1]).toMatchObject({ seenBefore: true, reuse: false, outcome: "rotated" });
  });
});

describe("pipelined requests", () => {
  it("reset the connection also when an earlier answer is still owed", async () => {
    const { simulator } = await vendor();
    simulator.faults.add({ kind: "hang", times: 1 }, { kind: "reset_before", times: 1 });
    const socket = connect(simulator.port, "127.0.0.1");
    const closed = new Promise((resolve) => socket.on("error", (error) => resolve(error.message)));
    socket.write("GET /api/me HTTP/1.1\r\nhost: x\r\n\r\n".repeat(2));
    expect(await closed).toContain("ECONNRESET");
  });
});

describe("faults in place of the answer", () => {
  it.each<[Fault, number, string]>([
    [{ kind: "status", status: 500 }, 500, ""],
    [{ kind: "status", status: 503, body: '{"error":"x"}' }, 503, '{"error":"x"}'],
    [{ kind: "status", status: 204, body: "ignored" }, 204, ""],
    [{ kind: "ok_false_200" }, 200, '{"ok":false,"error":"internal_error"}'],
    [{ kind: "ok_false_200", error: "token_revoked" }, 200, '{"ok":false,"error":"token_revoked"}'],
    [{ kind: "wrong_shape" }, 200, '{"status":"success","data":{"id":1}}'],
  ])("answers %o and leaves the refresh token good", async (fault, status, text) => {
    const { simulator, again } = await faulty(fault);
    const reply = await again();
    expect([reply.status, reply.text]).toEqual([status, text]);
    expect(simulator.stats()).toMatchObject({ redeemed: 0, byStatus: { [status]: 1 }, reuseSeen: 0 });
    expect((await again()).status).toBe(200);
  });

  it.each<[Fault, number, string]>([
    [{ kind: "invalid_grant" }, 400, "invalid_grant"],
    [{ kind: "invalid_grant", status: 401 }, 401, "invalid_grant"],
    [{ kind: "invalid_client" }, 401, "invalid_client"],
  ])("lies with %o about a grant that lives on", async (fault, status, error) => {
    const { simulator, again } = await faulty(fault);
    const reply = await again();
    expect([reply.status, reply.json.error]).toEqual([status, error]);
    expect(simulator.history()[0]).toMatchObject({ outcome: "unprocessed", faults: [fault.kind] });
    expect((await again()).status).toBe(200);
  });

  it.each<[Fault, number]>([
    [{ kind: "html" }, 200],
    [{ kind: "html_502" }, 502],
  ])("answers a web page for %o", async (fault, status) => {
    const { again } = await faulty(fault);
    const reply = await again();
    expect(reply.status).toBe(status);
    expect(reply.headers.get("content-type")).toMatch(/^text\/html/);
    expect(reply.text).toMatch(/^<!doctype html>/);
  });

  it("answers a body of exactly the asked size", async () => {
    const { again } = await faulty({ kind: "huge_body", bytes: 3_000_001 });
    const reply = await again();
    expect(reply.text.length).toBe(3_000_001);
    expect(typeof reply.json.pad).toBe("string");
  });

  it("rotates unseen behind a 502 when told to redeem", async () => {
    const { simulator, again } = await faulty({ kind: "html_502", redeems: true });
    expect((await again()).status).toBe(502);
    expect(simulator.history()[0]).toMatchObject({ redeemed: true, outcome: "rotated", status: 502 });
    expect((await again()).json.error).toBe("invalid_grant");
    expect(simulator.stats()).toMatchObject({ redeemed: 1, reuseSeen: 1, familiesRevokedByReuse: 1 });
  });

  it.each<[RateLimitDialect, Record<string, string>]>([
    ["retry_after_seconds", { "retry-after": "30" }],
    ["retry_after_date", { "retry-after": "Fri, 02 Jan 2026 03:04:35 GMT" }],
    [
      "x_ratelimit_epoch",
      { "x-ratelimit-limit": "100", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1767323075" },
    ],
    [
      "x_ratelimit_delta",
      { "x-ratelimit-limit": "100", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "30" },
    ],
    ["ratelimit_trio", { "ratelimit-limit": "100", "ratelimit-remaining": "0", "ratelimit-reset": "30" }],
    ["ratelimit_ietf", { ratelimit: '"default";r=0;t=30', "ratelimit-policy": '"default";q=100;w=60' }],
    ["ratelimit_dictionary", { ratelimit: "limit=100, remaining=0, reset=30" }],
    ["body", {}],
    ["none", {}],
  ])("throttles in the dialect %s", async (dialect, headers) => {
    const { again } = await faulty({ kind: "rate_limit", dialect });
    const reply = await again();
    expect(reply.status).toBe(429);
    const said = [...reply.headers].filter(([name]) => /ratelimit|retry/.test(name));
    expect(Object.fromEntries(said)).toEqual(headers);
    expect(reply.json.retry_after).toBe(dialect === "body" ? 30 : undefined);
    expect((await again()).status).toBe(200);
  });

  it("throttles by 503 with its own numbers, rounded up to whole seconds", async () => {
    const { again } = await faulty({
      kind: "rate_limit",
      dialect: "retry_after_seconds",
      status: 503,
      retryAfterMs: 1_001,
    });
    const reply = await again();
    expect([reply.status, reply.headers.get("retry-after")]).toEqual([503, "2"]);
  });
});

describe("faults that bend a right answer", () => {
  it.each<[Fault, Record<string, unknown>]>([
    [{ kind: "expires_in", as: "absent" }, {}],
    [{ kind: "expires_in", as: "string" }, { expires_in: "3600" }],
    [{ kind: "expires_in", as: "ms" }, { expires_in: 3_600_000 }],
    [{ kind: "expires_in", as: "absolute" }, { expires_at: 1_767_326_645 }],
    [{ kind: "expires_in", as: "zero" }, { expires_in: 0 }],
    [{ kind: "expires_in", as: "negative" }, { expires_in: -3601 }],
    [{ kind: "expires_in", as: "too_long" }, { expires_in: 3_155_760_000 }],
    [{ kind: "expires_in", as: "nonsense" }, { expires_in: "soon" }],
  ])("says %o while the token lives its usual time", async (fault, said) => {
    const { again, me, clock } = await faulty(fault);
    const { access_token, refresh_token, token_type, scope, ...lifetime } = (await again()).json;
    expect(lifetime).toEqual(said);
    expect([typeof refresh_token, token_type, scope]).toEqual(["string", "Bearer", "read write"]);
    clock.advance(3_599_999);
    expect((await me(String(access_token))).status).toBe(200);
    clock.advance(1);
    expect((await me(String(access_token))).status).toBe(401);
  });

  it("omits the refresh token and keeps the old one good", async () => {
    const { simulator, again } = await faulty({ kind: "omit_refresh_token" });
    expect("refresh_token" in (await again()).json).toBe(false);
    expect(simulator.history()[0]).toMatchObject({ outcome: "kept", redeemed: true });
    expect("refresh_token" in (await again()).json).toBe(true);
    expect(simulator.stats().reuseSeen).toBe(0);
  });

  it("reduces the scope of the token itself", async () => {
    const { again, me } = await faulty({ kind: "scope", scope: "read" });
    const reply = await again();
    expect(reply.json.scope).toBe("read");
    expect((await me(textOf(reply, "access_token"))).json.scope).toBe("read");
    expect((await again()).json.error).toBe("invalid_grant");
  });

  it("is not used up by a request that is refused anyway", async () => {
    const { simulator, refresh, again } = await faulty({ kind: "expires_in", as: "zero" });
    expect((await refresh("sim_rt_unknown")).status).toBe(400);
    expect(simulator.faults.list()).toHaveLength(1);
    expect((await again()).json.expires_in).toBe(0);
    expect(simulator.faults.list()).toHaveLength(0);
  });

  it("bends one answer in several ways at once", async () => {
    const { simulator, again } = await faulty({ kind: "expires_in", as: "string" });
    simulator.faults.add(
      { kind: "omit_refresh_token", times: 1 },
      { kind: "clock_skew", ms: 120_000, times: 1 },
    );
    const reply = await again();
    expect(reply.json).toMatchObject({ expires_in: "3600" });
    expect("refresh_token" in reply.json).toBe(false);
    expect(reply.headers.get("date")).toBe("Fri, 02 Jan 2026 03:06:05 GMT");
    expect(simulator.history()[0]?.faults).toEqual(["omit_refresh_token", "expires_in", "clock_skew"]);
    expect((await again()).headers.get("date")).toBe("Fri, 02 Jan 2026 03:04:05 GMT");
  });
});

describe("faults after the vendor's logic", () => {
  it("redeems, then resets without a byte of answer", async () => {
    const { simulator, grant, again } = await faulty({ kind: "reset_after" });
    expect(await raw(simulator.port, grant.refreshToken)).toEqual({ text: "", end: "ECONNRESET" });
    expect(simulator.history()[0]).toMatchObject({ redeemed: true, delivery: "dropped", status: undefined });
    expect(simulator.stats()).toMatchObject({
      redeemed: 1,
      redeemedButDropped: 1,
      unanswered: 1,
      byStatus: {},
    });
    expect((await again()).json.error).toBe("invalid_grant");
  });

  it.each([
    [undefined, 0.5],
    [0, 0],
    [7, undefined],
    [1_000_000, undefined],
  ])("redeems and cuts the body off after %s bytes", async (bytes, share) => {
    const { simulator, grant } = await faulty({ kind: "truncate", bytes });
    const { text, end } = await raw(simulator.port, grant.refreshToken);
    const [head = "", body = ""] = text.split("\r\n\r\n");
    const length = Number(/content-length: (\d+)/.exec(head)?.[1]);
    expect(end).toBe("end");
    expect(head).toMatch(/^HTTP\/1.1 200/);
    expect(body.length).toBe(
      share === undefined ? Math.min(bytes ?? 0, length - 1) : Math.floor(length * share),
    );
    expect(simulator.history()[0]).toMatchObject({ redeemed: true, delivery: "truncated", status: 200 });
    expect(simulator.stats()).toMatchObject({ redeemedButDropped: 1, byStatus: { 200: 1 }, unanswered: 0 });
  });

  it("dribbles the whole body slowly", async () => {
    const { simulator, again } = await faulty({ kind: "slow", ms: 100 });
    const startedAtMs = performance.now();
    const reply = await again();
    expect(performance.now() - startedAtMs).toBeGreaterThanOrEqual(95);
    expect(textOf(reply, "refresh_token")).toMatch(/^sim_rt_/);
    expect(simulator.stats()).toMatchObject({ redeemed: 1, redeemedButDropped: 0 });
  });

  it("counts an answer as dropped when the client leaves during the dribble", async () => {
    const { simulator, again } = await faulty({ kind: "slow", ms: 300 });
    const socket = connect(simulator.port, "127.0.0.1");
    const { refreshToken } = simulator.issueGrant();
    const body = `grant_type=refresh_token&refresh_token=${refreshToken}&client_id=demo-client&client_secret=demo-secret`;
    const type = "content-type: application/x-www-form-urlencoded";
    socket.write(
      `POST /oauth/token HTTP/1.1\r\nhost: x\r\n${type}\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    await delay(60);
    socket.destroy();
    await delay(60);
    expect(simulator.history()[0]).toMatchObject({ redeemed: true, delivery: "dropped", status: 200 });
    expect(simulator.stats().redeemedButDropped).toBe(1);
    expect((await again()).status).toBe(200);
  });

  it("redeems at once and answers late", async () => {
    const { simulator, again } = await faulty({ kind: "late", ms: 80 });
    const late = again();
    await delay(40);
    expect(simulator.history()[0]).toMatchObject({ redeemed: true, delivery: "pending" });
    expect((await late).status).toBe(200);
    expect(simulator.history()[0]).toMatchObject({ delivery: "answered", faults: ["late"] });
  });
});

describe("aiming faults", () => {
  it("hits only the client, subject, grant type and endpoint it names", async () => {
    const clients = [
      { clientId: "demo-client", clientSecret: "demo-secret" },
      { clientId: "other", clientSecret: "s" },
    ];
    const { simulator, refresh, token, me, form } = await vendor({ clients });
    const ann = simulator.issueGrant({ subject: "ann" });
    const bob = simulator.issueGrant({ subject: "bob" });
    simulator.faults.add({ kind: "status", status: 500, subject: "ann", endpoint: "token" });
    expect((await refresh(bob.refreshToken)).status).toBe(200);
    expect((await me(ann.accessToken)).status).toBe(200);
    expect((await refresh(ann.refreshToken)).status).toBe(500);
    simulator.faults.clear();
    simulator.faults.add({ kind: "status", status: 501, grantType: "client_credentials" });
    expect((await refresh(ann.refreshToken)).status).toBe(200);
    expect((await token({ grant_type: "client_credentials" })).status).toBe(501);
    simulator.faults.clear();
    simulator.faults.add({ kind: "status", status: 502, clientId: "other" });
    expect((await token({ grant_type: "client_credentials" })).status).toBe(200);
    const other = { grant_type: "client_credentials", client_id: "other", client_secret: "s" };
    expect((await form("/oauth/token", other)).status).toBe(502);
  });

  it.each([
    ["introspect", "/oauth/introspect"],
    ["revoke", "/oauth/revoke"],
    ["api", "/api/me"],
  ] as const)("spoils %s too", async (endpoint, path) => {
    const { simulator, form } = await vendor();
    const { refreshToken } = simulator.issueGrant();
    simulator.faults.add({ kind: "status", status: 503, endpoint, times: 1 });
    const fields = { token: refreshToken, client_id: "demo-client", client_secret: "demo-secret" };
    expect((await form(path, fields, { "x-api-key": "demo-api-key" })).status).toBe(503);
    expect((await form(path, fields, { "x-api-key": "demo-api-key" })).status).toBe(200);
  });

  it("revokes although the answer is lost", async () => {
    const { simulator, form } = await vendor();
    const { refreshToken } = simulator.issueGrant();
    simulator.faults.add({ kind: "reset_after", endpoint: "revoke" });
    const fields = { token: refreshToken, client_id: "demo-client", client_secret: "demo-secret" };
    await expect(form("/oauth/revoke", fields)).rejects.toThrow();
    expect(simulator.stats()).toMatchObject({ familiesRevoked: 1, activeGrants: 0 });
  });

  it("goes after exactly the given number of hits, the oldest first", async () => {
    const { simulator, token } = await vendor();
    simulator.faults.add(
      { kind: "status", status: 500, times: 2 },
      { kind: "status", status: 503, times: 1 },
    );
    const statuses: number[] = [];
    for (let n = 0; n < 4; n += 1) statuses.push((await token({ grant_type: "client_credentials" })).status);
    expect(statuses).toEqual([500, 500, 503, 200]);
  });

  it("hits by chance, the same way for the same seed", async () => {
    const run = async () => {
      const { simulator, token } = await vendor({ seed: 42 });
      simulator.faults.add({ kind: "status", status: 500, probability: 0.3 });
      const statuses: number[] = [];
      for (let n = 0; n < 100; n += 1)
        statuses.push((await token({ grant_type: "client_credentials" })).status);
      return statuses;
    };
    const [first, second] = [await run(), await run()];
    expect(first).toEqual(second);
    const hits = first.filter((status) => status === 500).length;
    expect(hits).toBeGreaterThan(15);
    expect(hits).toBeLessThan(45);
  });
});
