import { describe, expect, it, onTestFinished } from "vitest";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { startOpenBao } from "../backends/openbao.ts";
import { causeOf, reasonOf } from "../e2e/harness.ts";
import { freshKey } from "../seal/vault/stage.ts";
import { checkOf } from "./authz/checking.ts";
import { doors } from "./doors.ts";
import { proxyOf } from "./proxy/stage.ts";

/** What a caller waits at most for a KEK that hangs, and the way there and back. */
const KEK_WITHIN_MS = 5_000 + 500;
/** Of Envoy's own limit, on a busy machine. */
const LATE_MS = 3_000;

/** The result, and how long it took. */
async function timed<T>(work: Promise<T>): Promise<readonly [T, number]> {
  const startMs = performance.now();
  return [await work, performance.now() - startMs];
}

describe("a KEK that is frozen", () => {
  it("leaves known tokens in use through GetToken, Proxy and Envoy; anything else fails within 5 s, with nobody asked", async () => {
    const bao = await startOpenBao();
    onTestFinished(() => bao.stop());
    const { key, token: vaultToken } = await freshKey(bao);
    const vault = `{ address: ${bao.url}, key: ${key}, token: ${vaultToken.reveal()} }`;
    const at = await doors({ config: `kek: { backend: vault-transit, vault: ${vault} }` });
    for (const id of ["known", "cold"]) {
      await at.have(`t-${id}`, "oauth", { expired: false });
      await at.have(`p-${id}`, "api", { expired: false });
      await at.have(`c-${id}`, "oauth", { expired: false });
    }
    const patient = { deadlineMs: 60_000 };
    const token = (accountId: string) =>
      at.data.call(CredentialService.method.getToken, { accountId }, patient);
    const { accessToken } = await token("t-known");
    expect((await proxyOf(at.data, { accountId: "p-known" })).status).toBe(200);
    expect(await at.throughEnvoy("c-known")).toMatchObject({ status: 200 });
    bao.freeze();
    onTestFinished(() => bao.thaw());

    expect((await token("t-known")).accessToken).toBe(accessToken);
    expect((await proxyOf(at.data, { accountId: "p-known" })).status).toBe(200);
    expect(await at.throughEnvoy("c-known")).toMatchObject({ status: 200 });
    const refused = (error: unknown) => `${reasonOf(error)} ${causeOf(error)}`;
    const [[asked, askedMs], [proxied, proxiedMs], [checked, checkedMs]] = await Promise.all([
      timed(token("t-cold").catch(refused)),
      timed(proxyOf(at.data, { accountId: "p-cold" }, patient).catch(refused)),
      timed(checkOf(at.data, "c-cold", patient.deadlineMs)),
    ]);
    expect([asked, proxied]).toEqual(Array(2).fill("KEK_UNAVAILABLE timeout"));
    expect(checked).toEqual({ status: 503, reason: "KEK_UNAVAILABLE", authorization: undefined });
    for (const tookMs of [askedMs, proxiedMs, checkedMs]) expect(tookMs).toBeLessThan(KEK_WITHIN_MS);
    // A new token could not be kept, so none is asked for: what the provider said is the answer.
    at.api.answer = (response) => response.writeHead(401).end();
    expect((await proxyOf(at.data, { accountId: "p-known" }, patient)).status).toBe(401);
    const [inEnvoy, tookMs] = await timed(at.throughEnvoy("c-cold"));
    expect(inEnvoy.status).toBe(503);
    expect(tookMs).toBeLessThan(5_000 + LATE_MS);
    expect(at.simulator.stats().tokenRequests).toBe(0);
    expect([at.api.seen.length, at.secureApi.seen.length]).toEqual([3, 2]);

    bao.thaw();
    at.api.answer = (response) => response.end("{}");
    const again = () => proxyOf(at.data, { accountId: "p-cold" }).then(({ status }) => status, reasonOf);
    await expect.poll(again, { timeout: 20_000 }).toBe(200);
    await expect.poll(async () => (await at.throughEnvoy("c-cold")).status, { timeout: 20_000 }).toBe(200);
  }, 90_000);
});

describe("a sidecar that is frozen", () => {
  it("lets nothing through: Envoy answers 503 within its time limit, and goes on when the sidecar does", async () => {
    const at = await doors();
    const { accessToken } = await at.have("acme", "oauth", { expired: false });
    expect(await at.throughEnvoy("acme")).toMatchObject({ status: 200 });
    at.child.kill("SIGSTOP");
    onTestFinished(() => void at.child.kill("SIGCONT"));
    const answers = await Promise.all(Array.from({ length: 20 }, () => timed(at.throughEnvoy("acme"))));
    for (const [{ status, body, headers }, tookMs] of answers) {
      expect(status).toBe(503);
      expect(JSON.stringify([body, headers])).not.toContain(accessToken);
      expect(tookMs).toBeLessThan(5_000 + LATE_MS);
    }
    expect(at.secureApi.seen).toHaveLength(1);
    at.child.kill("SIGCONT");
    await expect.poll(async () => (await at.throughEnvoy("acme")).status, { timeout: 20_000 }).toBe(200);
    // What was asked while it slept is not let through late.
    const before = at.secureApi.seen.length;
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(at.secureApi.seen).toHaveLength(before);
  }, 60_000);
});
