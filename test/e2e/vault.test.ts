import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { systemClock } from "../../src/clock.ts";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { KeyService } from "../../src/gen/keyturn/v1/key_service_pb.js";
import { startSimulator } from "../../src/simulator/simulator.ts";
import { type OpenBao, startOpenBao } from "../backends/openbao.ts";
import { freshKey } from "../seal/vault/stage.ts";
import { connectAccount, putSimulatorClient, reasonOf } from "./harness.ts";
import { serve } from "./serving-process.ts";

let bao: OpenBao;

beforeAll(async () => {
  bao = await startOpenBao();
}, 60_000);

afterAll(() => bao?.stop());

/** A sidecar in a process of its own whose KEK is in a real Vault, and a simulated provider. */
async function stage() {
  const { key, token, authority } = await freshKey(bao);
  const stateDir = mkdtempSync(join(tmpdir(), "keyturn-vault-"));
  onTestFinished(() => rmSync(stateDir, { recursive: true, force: true }));
  const tokenFile = join(stateDir, "vault-token");
  writeFileSync(tokenFile, token.reveal(), { mode: 0o600 });
  const config = [
    "environment: production",
    "kek:",
    "  backend: vault-transit",
    `  vault: { address: ${bao.url}, key: ${key}, token_file: ${tokenFile} }`,
  ].join("\n");
  const simulator = await startSimulator({ clock: systemClock() });
  onTestFinished(() => simulator.close());
  const serving = await serve({ stateDir, config });
  await putSimulatorClient(serving.admin);
  const tokenOf = (accountId: string, more = {}) =>
    serving.data.call(CredentialService.method.getToken, { accountId, ...more });
  return { ...serving, stateDir, config, simulator, authority: authority.reveal(), tokenOf };
}

describe("a sidecar with its KEK in Vault", { timeout: 60_000 }, () => {
  it("serves warm tokens while Vault is sealed, says KEK_UNAVAILABLE for the rest, and recovers by itself", async () => {
    const { admin, simulator, tokenOf, log } = await stage();
    await connectAccount(admin, simulator, "warm");
    await connectAccount(admin, simulator, "cold", { expired: false });
    const { accessToken, revision } = await tokenOf("warm");
    const before = simulator.history().length;
    await bao.seal();
    try {
      expect((await tokenOf("warm")).accessToken).toBe(accessToken);
      const startMs = performance.now();
      await expect(tokenOf("cold")).rejects.toSatisfy((error) => reasonOf(error) === "KEK_UNAVAILABLE");
      expect(performance.now() - startMs).toBeLessThan(5_000);
      // A refresh whose answer could not be sealed is not sent.
      await tokenOf("warm", { rejectedRevision: revision }).catch(() => undefined);
      expect(simulator.history()).toHaveLength(before);
    } finally {
      await bao.unseal();
    }
    await expect
      .poll(
        () =>
          tokenOf("cold").then(
            () => true,
            () => false,
          ),
        { timeout: 10_000 },
      )
      .toBe(true);
    expect(log()).toContain("the KEK is in Vault");
  });

  it("keeps nothing in the clear: no token of provider, client or Vault is on its disk or in its log", async () => {
    const { admin, simulator, tokenOf, stateDir, log, authority } = await stage();
    const { refreshToken } = await connectAccount(admin, simulator, "acme");
    const { accessToken } = await tokenOf("acme");
    await admin.call(KeyService.method.rotateKek, { authority });
    const files = readdirSync(stateDir, { recursive: true, withFileTypes: true }).filter((entry) =>
      entry.isFile(),
    );
    const all = files
      .filter(({ name }) => name !== "vault-token")
      .map(({ parentPath, name }) => readFileSync(join(parentPath, name), "latin1"));
    expect(all.length).toBeGreaterThan(3);
    for (const secret of [
      refreshToken,
      accessToken,
      "demo-secret",
      authority,
      readFileSync(join(stateDir, "vault-token"), "utf8"),
    ]) {
      for (const text of [...all, log()]) {
        expect(text.includes(secret) || text.includes(Buffer.from(secret).toString("base64"))).toBe(false);
      }
    }
  });

  it("rotates and retires with the administrator's token alone", async () => {
    const { admin, simulator, authority, tokenOf } = await stage();
    await connectAccount(admin, simulator, "acme");
    await expect(admin.call(KeyService.method.rotateKek, {})).rejects.toSatisfy(
      (error) => reasonOf(error) === "INVALID_REQUEST",
    );
    expect(await admin.call(KeyService.method.rotateKek, { authority })).toMatchObject({ version: 2 });
    await expect(admin.call(KeyService.method.retireKekVersion, { version: 1, authority })).rejects.toSatisfy(
      (error) => reasonOf(error) === "INVALID_REQUEST",
    );
    const rewrap = admin.stream(KeyService.method.rewrapKeys, {});
    for await (const _ of rewrap);
    await admin.call(KeyService.method.retireKekVersion, { version: 1, authority });
    const { versions, newestVersion } = await admin.call(KeyService.method.getKekStatus, {});
    expect(newestVersion).toBe(2);
    expect(versions.map(({ version, retired, uses }) => ({ version, retired, uses }))).toMatchObject([
      { version: 1, retired: true, uses: 0n },
      { version: 2, retired: false },
    ]);
    expect((await tokenOf("acme")).accessToken).not.toBe("");
  });

  it("does not open what was sealed under another KEK, and says so by name", async () => {
    const stateDir = mkdtempSync(join(tmpdir(), "keyturn-vault-"));
    onTestFinished(() => rmSync(stateDir, { recursive: true, force: true }));
    const simulator = await startSimulator({ clock: systemClock() });
    onTestFinished(() => simulator.close());
    const local = await serve({ stateDir, name: "local" });
    await putSimulatorClient(local.admin);
    await connectAccount(local.admin, simulator, "acme", { expired: false });
    await local.end("SIGTERM");
    const { key, token } = await freshKey(bao);
    const vault = `{ address: ${bao.url}, key: ${key}, token: ${token.reveal()} }`;
    const { data } = await serve({ stateDir, config: `kek: { backend: vault-transit, vault: ${vault} }` });
    await expect(data.call(CredentialService.method.getToken, { accountId: "acme" })).rejects.toSatisfy(
      (error) => reasonOf(error) === "KEK_MISMATCH",
    );
  });
});
