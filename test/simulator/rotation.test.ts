import { describe, expect, it } from "vitest";
import { textOf, vendor } from "./setup.ts";

describe("strict rotation", () => {
  it("replaces the refresh token at every use", async () => {
    const { simulator, refresh, me } = await vendor();
    const seeded = simulator.issueGrant();
    const first = await refresh(seeded.refreshToken);
    expect(first.json).toMatchObject({ token_type: "Bearer", expires_in: 3600, scope: "read write" });
    const second = await refresh(textOf(first, "refresh_token"));
    const tokens = [seeded.refreshToken, textOf(first, "refresh_token"), textOf(second, "refresh_token")];
    expect(new Set(tokens).size).toBe(3);
    expect((await me(textOf(second, "access_token"))).json).toMatchObject({ subject: seeded.subject });
    expect(first.headers.get("cache-control")).toBe("no-store");
  });

  it("revokes the whole family when a spent refresh token comes again", async () => {
    const { simulator, refresh, me } = await vendor();
    const seeded = simulator.issueGrant();
    const bystander = simulator.issueGrant();
    const first = await refresh(seeded.refreshToken);
    expect((await me(seeded.accessToken)).status).toBe(200);

    const again = await refresh(seeded.refreshToken);
    expect([again.status, again.json.error]).toEqual([400, "invalid_grant"]);
    expect((await me(seeded.accessToken)).status).toBe(401);
    expect((await me(textOf(first, "access_token"))).status).toBe(401);
    expect((await refresh(textOf(first, "refresh_token"))).json.error).toBe("invalid_grant");
    expect((await refresh(bystander.refreshToken)).status).toBe(200);
    expect(simulator.stats()).toMatchObject({
      tokenRequests: 4,
      byStatus: { 200: 2, 400: 2 },
      redeemed: 2,
      reuseSeen: 1,
      familiesRevoked: 1,
      familiesRevokedByReuse: 1,
      activeGrants: 1,
    });
  });

  it("recognises a spent refresh token after thousands of rotations", async () => {
    const { simulator, refresh } = await vendor();
    const seeded = simulator.issueGrant();
    let current = seeded.refreshToken;
    for (let n = 0; n < 2000; n += 1) current = textOf(await refresh(current), "refresh_token");
    expect((await refresh(seeded.refreshToken)).status).toBe(400);
    expect(simulator.stats()).toMatchObject({ reuseSeen: 1, familiesRevokedByReuse: 1, redeemed: 2000 });
  });

  it("lets exactly one of many simultaneous uses through and counts them all", async () => {
    const { simulator, refresh } = await vendor({ latencyMs: 50 });
    const { refreshToken } = simulator.issueGrant();
    const replies = await Promise.all(Array.from({ length: 8 }, () => refresh(refreshToken)));
    expect(replies.filter(({ status }) => status === 200)).toHaveLength(1);
    expect(simulator.stats()).toMatchObject({ maxConcurrentUses: 8, redeemed: 1, familiesRevokedByReuse: 1 });
    expect(simulator.history().every(({ concurrent }) => concurrent)).toBe(true);
    expect(simulator.history().filter(({ seenBefore }) => !seenBefore)).toHaveLength(1);
  });

  it("calls uses one after the other not concurrent", async () => {
    const { simulator, refresh } = await vendor({ latencyMs: 5 });
    await refresh(textOf(await refresh(simulator.issueGrant().refreshToken), "refresh_token"));
    expect(simulator.stats().maxConcurrentUses).toBe(1);
    expect(simulator.history().map(({ concurrent }) => concurrent)).toEqual([false, false]);
  });

  it("neither redeems nor revokes for another client", async () => {
    const clients = [
      { clientId: "demo-client", clientSecret: "demo-secret" },
      { clientId: "other", clientSecret: "s" },
    ];
    const { simulator, form, refresh } = await vendor({ clients });
    const { refreshToken } = simulator.issueGrant();
    const stolen = {
      grant_type: "refresh_token",
      refresh_token: refreshToken,
      client_id: "other",
      client_secret: "s",
    };
    expect((await form("/oauth/token", stolen)).json.error).toBe("invalid_grant");
    expect((await refresh(refreshToken)).status).toBe(200);
    expect((await form("/oauth/token", stolen)).json.error).toBe("invalid_grant");
    expect(simulator.stats()).toMatchObject({ familiesRevoked: 0, activeGrants: 1 });
  });

  it("refuses forged and altered refresh tokens without calling them reuse", async () => {
    const { simulator, refresh } = await vendor();
    const { refreshToken } = simulator.issueGrant();
    const last = refreshToken.endsWith("A") ? "B" : "A";
    for (const forged of [`${refreshToken.slice(0, -1)}${last}`, `${refreshToken}A`, "sim_rt_", "x"]) {
      expect((await refresh(forged)).json.error).toBe("invalid_grant");
    }
    expect(simulator.stats()).toMatchObject({ reuseSeen: 0, activeGrants: 1 });
  });

  it("grants a narrower scope and refuses a wider one", async () => {
    const { simulator, token } = await vendor();
    const { refreshToken } = simulator.issueGrant();
    const ask = { grant_type: "refresh_token", refresh_token: refreshToken };
    expect((await token({ ...ask, scope: "read admin" })).json.error).toBe("invalid_scope");
    expect((await token({ ...ask, scope: "read" })).json.scope).toBe("read");
  });
});

describe("rotation with a grace period", () => {
  it("answers the same successor until the grace ends, then revokes the family", async () => {
    const { simulator, clock, refresh } = await vendor({ style: "grace", graceMs: 10_000 });
    const { refreshToken } = simulator.issueGrant();
    const first = await refresh(refreshToken);
    clock.advance(9_999);
    const again = await refresh(refreshToken);
    expect(again.json).toEqual({ ...first.json, expires_in: 3590 });
    expect(simulator.history().at(-1)).toMatchObject({ outcome: "replayed", redeemed: false, reuse: false });
    clock.advance(1);
    expect((await refresh(refreshToken)).json.error).toBe("invalid_grant");
    expect((await refresh(textOf(first, "refresh_token"))).json.error).toBe("invalid_grant");
    expect(simulator.stats()).toMatchObject({ redeemed: 1, reuseSeen: 1, familiesRevokedByReuse: 1 });
  });

  it("keeps the successor good while it is answered again", async () => {
    const { simulator, refresh } = await vendor({ style: "grace", graceMs: 10_000 });
    const { refreshToken } = simulator.issueGrant();
    const successor = textOf(await refresh(refreshToken), "refresh_token");
    const next = await refresh(successor);
    expect(next.status).toBe(200);
    expect(textOf(await refresh(refreshToken), "refresh_token")).toBe(successor);
    expect(textOf(await refresh(successor), "refresh_token")).toBe(textOf(next, "refresh_token"));
  });

  it("replaces an access token that ended within the grace", async () => {
    const { simulator, clock, refresh, me } = await vendor({ style: "grace", graceMs: 10_000 });
    const { refreshToken } = simulator.issueGrant({ accessTokenLifetimeMs: 5_000 });
    const first = await refresh(refreshToken);
    clock.advance(5_000);
    const again = await refresh(refreshToken);
    expect(textOf(again, "access_token")).not.toBe(textOf(first, "access_token"));
    expect((await me(textOf(again, "access_token"))).status).toBe(200);
  });
});

describe("no rotation", () => {
  it("keeps the refresh token and leaves it out of the answer", async () => {
    const { simulator, refresh } = await vendor({ style: "none" });
    const { refreshToken } = simulator.issueGrant();
    const first = await refresh(refreshToken);
    const second = await refresh(refreshToken);
    expect([first.status, second.status]).toEqual([200, 200]);
    expect(["refresh_token" in first.json, "refresh_token" in second.json]).toEqual([false, false]);
    expect(textOf(first, "access_token")).not.toBe(textOf(second, "access_token"));
    expect(simulator.history().map(({ outcome, seenBefore }) => [outcome, seenBefore])).toEqual([
      ["kept", false],
      ["kept", true],
    ]);
  });
});

describe("tokens", () => {
  it("end at their exact millisecond", async () => {
    const { simulator, clock, me } = await vendor();
    const { accessToken, expiresAtMs } = simulator.issueGrant({ accessTokenLifetimeMs: 60_000 });
    expect(expiresAtMs).toBe(clock.now() + 60_000);
    clock.advance(59_999);
    expect((await me(accessToken)).status).toBe(200);
    clock.advance(1);
    expect((await me(accessToken)).status).toBe(401);
  });

  it("come out the same with the same seed, and different without one", async () => {
    const seeded = await Promise.all([
      vendor({ seed: 7 }),
      vendor({ seed: 7 }),
      vendor({ seed: 8 }),
      vendor(),
    ]);
    const tokens = seeded.map(({ simulator }) => simulator.issueGrant().refreshToken);
    expect(tokens[0]).toBe(tokens[1]);
    expect(new Set(tokens).size).toBe(3);
    expect(tokens[0]).toMatch(/^sim_rt_[A-Za-z0-9_-]{59}$/);
  });
});
