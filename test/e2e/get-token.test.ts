import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { inspect } from "node:util";
import { describe, expect, it } from "vitest";
import { AccountService, AccountStatus } from "../../src/gen/keyturn/v1/account_service_pb.js";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { Caller, reasonOf, scene } from "./harness.ts";

const { getToken } = CredentialService.method;

describe("GetToken over the socket", () => {
  it("refreshes once for 500 callers on 20 connections who find one token expired", async () => {
    await using at = await scene();
    await at.connect("acme-1");
    const callers = Array.from({ length: 20 }, () => new Caller(at.targets.data));
    const answers = await Promise.all(
      Array.from({ length: 500 }, (_, i) => callers[i % 20]?.call(getToken, { accountId: "acme-1" })),
    );
    for (const caller of callers) caller.close();
    expect(new Set(answers.map((answer) => answer?.accessToken)).size).toBe(1);
    expect(answers[0]?.headers.Authorization).toBe(`Bearer ${answers[0]?.accessToken}`);
    expect(at.simulator.stats().tokenRequests).toBe(1);
  });

  it("refreshes two accounts in parallel", async () => {
    await using at = await scene({ latencyMs: 100 });
    await Promise.all([at.connect("a"), at.connect("b")]);
    await Promise.all(["a", "b"].map((accountId) => at.data.call(getToken, { accountId })));
    const [first, second] = at.simulator.history().map((entry) => entry.arrivedAtMs);
    expect(Math.abs((second ?? Number.NaN) - (first ?? Number.NaN))).toBeLessThan(100);
  });

  it("refreshes once for 500 callers who report the same revision as rejected", async () => {
    await using at = await scene();
    await at.connect("acme-1", { expired: false });
    const { revision } = await at.data.call(getToken, { accountId: "acme-1" });
    const asks = Array.from({ length: 500 }, () =>
      at.data.call(getToken, { accountId: "acme-1", rejectedRevision: revision }),
    );
    const answers = await Promise.all(asks);
    expect(new Set(answers.map((answer) => answer.revision)).size).toBe(1);
    expect(answers[0]?.revision).not.toBe(revision);
    expect(at.simulator.stats().tokenRequests).toBe(1);
  });

  it("refreshes once for 1,000 calls with a min_validity that the vendor never gives", async () => {
    await using at = await scene({ accessTokenLifetimeMs: 60_000 });
    await at.connect("acme-1", { expired: false, lifetimeMs: 60_000 });
    for (let round = 0; round < 10; round += 1) {
      await Promise.all(
        Array.from({ length: 100 }, () =>
          at.data.call(getToken, { accountId: "acme-1", minValidity: { seconds: 7_200n, nanos: 0 } }),
        ),
      );
    }
    expect(at.simulator.stats().tokenRequests).toBe(1);
  });

  it("lets a caller give up without ending the refresh", async () => {
    await using at = await scene({ latencyMs: 500 });
    await at.connect("acme-1");
    const early = at.data.call(getToken, { accountId: "acme-1" }, { deadlineMs: 150 });
    await expect(early).rejects.toMatchObject({ code: 4 });
    const answer = await at.data.call(getToken, { accountId: "acme-1" });
    expect(answer.accessToken).toMatch(/^sim_at_/);
    expect(at.simulator.stats().tokenRequests).toBe(1);
  });

  it("flags a revoked grant once, answers from memory after that, and takes a new credential", async () => {
    await using at = await scene();
    await at.connect("acme-1");
    at.simulator.revokeFamily({ all: true });
    for (let i = 0; i < 3; i += 1) {
      const refused = await at.data.call(getToken, { accountId: "acme-1" }).catch(reasonOf);
      expect(refused).toBe("REAUTHORIZATION_REQUIRED");
    }
    expect(at.simulator.stats().tokenRequests).toBe(1);
    const grant = at.simulator.issueGrant({ clientId: "demo-client", subject: "again" });
    const { account } = await at.admin.call(AccountService.method.putCredential, {
      accountId: "acme-1",
      credential: {
        kind: { case: "oauth", value: { accessToken: grant.accessToken, refreshToken: grant.refreshToken } },
      },
    });
    expect(account?.status).toBe(AccountStatus.ACTIVE);
    expect((await at.data.call(getToken, { accountId: "acme-1" })).accessToken).toMatch(/^sim_at_/);
  });

  it("passes a throttled token endpoint on with its limits and does not ask again meanwhile", async () => {
    await using at = await scene();
    await at.connect("acme-1");
    at.simulator.faults.add({ kind: "rate_limit", dialect: "retry_after_seconds", retryAfterMs: 30_000 });
    for (let i = 0; i < 3; i += 1) {
      expect(await at.data.call(getToken, { accountId: "acme-1" }).catch(reasonOf)).toBe(
        "PROVIDER_RATE_LIMITED",
      );
    }
    expect(at.simulator.stats().tokenRequests).toBe(1);
  });

  it("takes no account whose fields make no request, and says which field", async () => {
    await using at = await scene();
    const refusal = at.connect("acme-1", { fields: { port: "none" } });
    await expect(refusal).rejects.toMatchObject({ details: "fields.port: must be ^[0-9]{2,5}$" });
    await at.connect("acme-1");
    const changed = at.admin.call(AccountService.method.updateAccount, {
      accountId: "acme-1",
      fields: { prt: "8080" },
      updateMask: { paths: ["fields"] },
    });
    await expect(changed).rejects.toMatchObject({ code: 3 });
  });

  it("says of a token endpoint that cannot be reached why, and that it is tried again", async () => {
    await using at = await scene();
    // Nobody listens on the daytime service's port.
    await at.connect("acme-1", { fields: { port: "13" } });
    expect(await at.data.call(getToken, { accountId: "acme-1" }).catch(reasonOf)).toBe(
      "PROVIDER_UNAVAILABLE",
    );
    const explained = await at.admin.call(AccountService.method.explainAccount, { accountId: "acme-1" });
    expect(explained.why).toBe("The last refresh failed (not_sent: connection_refused).");
    expect(explained.nextStep).toBe("It is tried again on demand and by schedule.");
  });

  it("keeps no secret in the clear, in files or in its log", async () => {
    await using at = await scene();
    const grant = await at.connect("acme-1");
    const token = await at.data.call(getToken, { accountId: "acme-1" });
    const secrets = [grant.accessToken, grant.refreshToken, token.accessToken, "demo-secret"];
    const files = readdirSync(at.stateDir, { recursive: true, encoding: "utf8" }).map((name) =>
      join(at.stateDir, name),
    );
    const texts = files.filter((path) => statSync(path).isFile()).map((path) => readFileSync(path, "latin1"));
    const explained = await at.admin.call(AccountService.method.explainAccount, { accountId: "acme-1" });
    for (const secret of secrets) {
      for (const text of [...texts, ...at.logs, inspect(explained, { depth: Number.POSITIVE_INFINITY })]) {
        expect(text.includes(secret)).toBe(false);
      }
    }
  });
});
