import { get } from "node:http";
import { networkInterfaces } from "node:os";
import { describe, expect, it } from "vitest";
import { FAULT_KINDS } from "../../src/simulator/fault-fields.ts";
import { fingerprintOf } from "../../src/simulator/history.ts";
import { textOf, vendor } from "./setup.ts";

describe("control plane", () => {
  it("issues grants as asked", async () => {
    const { clock, post, me, refresh } = await vendor();
    const reply = await post("/__grants", { subject: "ann", scope: "a", access_token_lifetime_ms: 90_000 });
    expect(reply.status).toBe(201);
    expect(reply.json).toMatchObject({
      client_id: "demo-client",
      subject: "ann",
      expires_at_ms: clock.now() + 90_000,
    });
    expect((await me(textOf(reply, "access_token"))).json).toMatchObject({ subject: "ann", scope: "a" });
    expect((await refresh(textOf(reply, "refresh_token"))).json.expires_in).toBe(90);
    const expired = await post("/__grants", { expired: true });
    expect(expired.json.expires_at_ms).toBe(clock.now() - 1000);
    expect((await me(textOf(expired, "access_token"))).status).toBe(401);
    expect((await refresh(textOf(expired, "refresh_token"))).json.expires_in).toBe(3600);
    expect((await post("/__grants", { client_id: "nobody" })).json.field).toBe("client_id");
  });

  it("shows the counters in snake_case", async () => {
    const { simulator, refresh, call } = await vendor();
    await refresh(simulator.issueGrant().refreshToken);
    expect((await call("/__stats")).json).toEqual({
      token_requests: 1,
      by_grant_type: { refresh_token: 1 },
      by_status: { 200: 1 },
      unanswered: 0,
      redeemed: 1,
      redeemed_but_dropped: 0,
      reuse_seen: 0,
      max_concurrent_uses: 1,
      active_grants: 1,
      families_revoked: 0,
      families_revoked_by_reuse: 0,
      api_accepted: 0,
      api_refused: 0,
    });
  });

  it("switches faults on, lists and clears them", async () => {
    const { post, call, token } = await vendor();
    const one = await post("/__faults", { kind: "status", status: 500, times: 2, client_id: "demo-client" });
    expect(one.json).toEqual({
      faults: [{ kind: "status", status: 500, times: 2, client_id: "demo-client" }],
    });
    await post("/__faults", [{ kind: "late", ms: 1 }]);
    await post("/__faults", { faults: [{ kind: "rate_limit", dialect: "none", retry_after_ms: 5 }] });
    expect((await token({ grant_type: "client_credentials" })).status).toBe(500);
    const list = (await call("/__faults")).json.faults;
    expect(list).toMatchObject([{ times: 1 }, { kind: "late" }, { kind: "rate_limit", retry_after_ms: 5 }]);
    expect((await call("/__faults", { method: "DELETE" })).json).toEqual({ faults: [] });
    expect((await token({ grant_type: "client_credentials" })).status).toBe(200);
  });

  it.each([
    [{}, "kind"],
    [{ kind: "explode" }, "kind"],
    [{ kind: "status" }, "status"],
    [{ kind: "status", status: 199 }, "status"],
    [{ kind: "status", status: 600 }, "status"],
    [{ kind: "status", status: 500, content_type: "a\r\nb: c" }, "content_type"],
    [{ kind: "hang", ms: -1 }, "ms"],
    [{ kind: "hang", ms: 1.5 }, "ms"],
    [{ kind: "slow" }, "ms"],
    [{ kind: "rate_limit", dialect: "morse" }, "dialect"],
    [{ kind: "expires_in", as: "later" }, "as"],
    [{ kind: "expires_in", as: "ms", endpoint: "api" }, "endpoint"],
    [{ kind: "late", ms: 1, grant_type: "refresh_token", endpoint: "api" }, "grant_type"],
    [{ kind: "html", redeems: "yes" }, "redeems"],
    [{ kind: "html", times: 0 }, "times"],
    [{ kind: "html", probability: 1.1 }, "probability"],
    [{ kind: "html", endpoint: "moon" }, "endpoint"],
    [{ kind: "html", clientId: "x" }, "clientId"],
    [{ kind: "reset_after", ms: 5 }, "ms"],
    ["html", "body"],
    [[{ kind: "html" }, { kind: "huge_body" }], "faults[1].bytes"],
    [[{ kind: "html" }, 5], "faults[1]"],
  ])("refuses the fault %j by naming %s, and switches nothing on", async (fault, field) => {
    const { simulator, post } = await vendor();
    const reply = await post("/__faults", fault);
    expect([reply.status, reply.json.error, reply.json.field]).toEqual([400, "invalid_request", field]);
    expect(String(reply.json.error_description).startsWith(`${field}: `)).toBe(true);
    expect(simulator.faults.list()).toEqual([]);
  });

  it("takes every kind of fault with nothing but its required members", async () => {
    const { post, simulator } = await vendor();
    const needed: Record<string, object> = {
      status: { status: 500 },
      rate_limit: { dialect: "body" },
      huge_body: { bytes: 10 },
      expires_in: { as: "ms" },
      scope: { scope: "a" },
      slow: { ms: 1 },
      late: { ms: 1 },
      clock_skew: { ms: -120_000 },
    };
    for (const kind of FAULT_KINDS)
      expect((await post("/__faults", { kind, ...needed[kind] })).status).toBe(200);
    expect(simulator.faults.list()).toHaveLength(19);
  });

  it("revokes by subject, client, refresh token or all", async () => {
    const { simulator, post, me, refresh } = await vendor();
    const [ann, bob, cyd] = ["ann", "bob", "cyd"].map((subject) => simulator.issueGrant({ subject }));
    if (!ann || !bob || !cyd) throw new Error("three grants");
    expect((await post("/__revoke", {})).status).toBe(400);
    expect((await post("/__revoke", { subject: "ann" })).json).toEqual({ revoked: 1 });
    expect((await me(ann.accessToken)).status).toBe(401);
    const next = await refresh(bob.refreshToken);
    expect((await post("/__revoke", { refresh_token: bob.refreshToken })).json).toEqual({ revoked: 1 });
    expect((await me(textOf(next, "access_token"))).status).toBe(401);
    expect((await post("/__revoke", { client_id: "demo-client", access_tokens_only: true })).json).toEqual({
      revoked: 1,
    });
    expect((await me(cyd.accessToken)).status).toBe(401);
    expect((await refresh(cyd.refreshToken)).status).toBe(200);
    expect((await post("/__revoke", { refresh_token: "unknown", subject: "cyd" })).json).toEqual({
      revoked: 0,
    });
    expect((await post("/__revoke", { all: true })).json).toEqual({ revoked: 1 });
    expect(simulator.stats()).toMatchObject({
      activeGrants: 0,
      familiesRevoked: 3,
      familiesRevokedByReuse: 0,
    });
  });

  it("refuses bodies that are not JSON objects, unknown controls and wrong methods", async () => {
    const { call, post } = await vendor();
    expect((await call("/__grants", { method: "POST", body: "{" })).json.field).toBe("body");
    expect((await post("/__grants", [])).json.field).toBe("body");
    expect((await post("/__grants", { expires: 5 })).json.field).toBe("expires");
    expect((await call("/__nothing")).status).toBe(404);
    expect((await call("/__stats", { method: "POST" })).status).toBe(405);
    expect((await call("/__history", { method: "POST" })).status).toBe(405);
    expect((await call("/__grants")).status).toBe(405);
  });

  it("answers this machine by a local name only, and no web page", async () => {
    const { simulator, call } = await vendor({ host: "0.0.0.0" });
    const port = simulator.port;
    const statusOf = (host: string, headers: Record<string, string> = {}) =>
      new Promise<number | undefined>((resolve, reject) => {
        get({ host, port, path: "/__stats", headers }, (response) => {
          response.resume();
          resolve(response.statusCode);
        }).on("error", reject);
      });
    expect(await statusOf("127.0.0.1")).toBe(200);
    expect(await statusOf("127.0.0.1", { host: "rebound.example" })).toBe(403);
    expect((await call("/__stats", { headers: { origin: "http://127.0.0.1" } })).status).toBe(403);
    const outside = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
    for (const { address } of outside.filter(({ internal, family }) => !internal && family === "IPv4")) {
      expect(await statusOf(address, { host: "127.0.0.1" })).toBe(403);
    }
  });
});

describe("history", () => {
  it("tells every token request in JSON lines, without a token in it", async () => {
    const { simulator, clock, refresh, call } = await vendor();
    const { refreshToken, subject } = simulator.issueGrant();
    await refresh(refreshToken);
    await refresh(refreshToken);
    const { text } = await call("/__history");
    expect(text).not.toContain("sim_");
    const lines = text.trim().split("\n");
    const common = {
      arrived_at_ms: clock.now(),
      ended_at_ms: clock.now(),
      grant_type: "refresh_token",
      client_id: "demo-client",
      subject,
      fingerprint: fingerprintOf(refreshToken),
      concurrent: false,
      delivery: "answered",
      faults: [],
    };
    expect(lines.map((line) => JSON.parse(line))).toEqual([
      {
        ...common,
        sequence: 1,
        reuse: false,
        seen_before: false,
        redeemed: true,
        outcome: "rotated",
        status: 200,
      },
      {
        ...common,
        sequence: 2,
        reuse: true,
        seen_before: true,
        redeemed: false,
        outcome: "invalid_grant",
        status: 400,
      },
    ]);
    expect((await call("/__history?after=1")).text.trim().split("\n")).toEqual([lines[1]]);
    expect((await call("/__history?after=x")).status).toBe(400);
  });

  it("sees a reuse also when a fault keeps it from the vendor's logic", async () => {
    const { simulator, refresh } = await vendor();
    const { refreshToken } = simulator.issueGrant();
    await refresh(refreshToken);
    simulator.faults.add({ kind: "status", status: 503 });
    expect((await refresh(refreshToken)).status).toBe(503);
    expect(simulator.stats()).toMatchObject({ reuseSeen: 1, familiesRevoked: 0, activeGrants: 1 });
  });

  it.each([0, 1, 3])("keeps the last %i requests and counts all of them", async (historyLimit) => {
    const { simulator, token } = await vendor({ historyLimit });
    for (let n = 0; n < 7; n += 1) await token({ grant_type: "client_credentials" });
    const sequences = simulator.history().map(({ sequence }) => sequence);
    expect(sequences).toEqual([5, 6, 7].slice(3 - historyLimit));
    expect(simulator.stats()).toMatchObject({
      tokenRequests: 7,
      byGrantType: { client_credentials: 7 },
      redeemed: 7,
    });
  });

  it("hands out copies that do not change", async () => {
    const { simulator, refresh } = await vendor({ latencyMs: 40 });
    const { refreshToken } = simulator.issueGrant();
    const running = refresh(refreshToken);
    while (simulator.history().length === 0) await new Promise((resolve) => setImmediate(resolve));
    const [before] = simulator.history();
    await running;
    expect(before).toMatchObject({ delivery: "pending", outcome: "unprocessed" });
  });
});
