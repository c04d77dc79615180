import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { KeyService } from "../../src/gen/keyturn/v1/key_service_pb.js";
import { type OpenBao, startOpenBao } from "../backends/openbao.ts";
import { DEK, freshKey, transit } from "../seal/vault/stage.ts";
import { cluster, times } from "./cluster.ts";
import { type Caller, reasonOf } from "./harness.ts";

const ACCOUNTS = 120;
const { getToken } = CredentialService.method;

let bao: OpenBao;

beforeAll(async () => {
  bao = await startOpenBao();
}, 60_000);

afterAll(() => bao?.stop());

/** Sidecars over real etcd with their KEK in a real Vault; `config` is further YAML for each. */
async function stage(sidecars: number, config = "") {
  const keys = await freshKey(bao);
  const { key, token } = keys;
  const vault = `{ address: ${bao.url}, key: ${key}, token: ${token.reveal()} }`;
  const fleet = await cluster({ sidecars, config, kek: `kek: { backend: vault-transit, vault: ${vault} }` });
  return { ...fleet, ...keys, authority: keys.authority.reveal() };
}

/** Readers that never rest; every answer is an unwrapping when nothing is remembered. */
function readers({ data }: { readonly data: Caller }, accounts: number) {
  const failures: string[] = [];
  let reads = 0;
  let isOver = false;
  const lanes = times(4, async (lane) => {
    for (let n = lane; !isOver; n += 1) {
      try {
        await data.call(getToken, { accountId: `acct-${n % accounts}` });
        reads += 1;
      } catch (error) {
        failures.push(reasonOf(error));
        await delay(10);
      }
    }
  });
  onTestFinished(() => {
    isOver = true;
  });
  return {
    reads: () => reads,
    end: async () => {
      isOver = true;
      await lanes;
      return failures;
    },
  };
}

async function usesOf(admin: Caller) {
  const { versions } = await admin.call(KeyService.method.getKekStatus, {});
  return Object.fromEntries(versions.map(({ version, uses }) => [version, Number(uses)]));
}

describe("a rotation of the KEK in Vault, over etcd", () => {
  it("fails no read: killed midway, it goes on elsewhere, and the old version ends up unused and refused", {
    timeout: 180_000,
  }, async () => {
    const { sidecars, connect, key, token, authority } = await stage(2, "cache: { max_accounts: 1 }");
    const [first, second] = sidecars;
    if (first === undefined || second === undefined) throw new Error("two sidecars were wanted");
    await times(ACCOUNTS, (n) => connect(`acct-${n}`, { expired: false }));
    // The client, and the key of content marks.
    const sealed = ACCOUNTS + 2;
    const bare = transit(bao, { key, auth: { method: "token", token } });
    const old = await bare.wrap(DEK, new AbortController().signal);
    const reading = readers(second, ACCOUNTS);
    expect(await usesOf(first.admin)).toEqual({ 1: sealed });

    await first.admin.call(KeyService.method.rotateKek, { authority });
    const killed = first.admin.stream(KeyService.method.rewrapKeys, { maxPerSecond: 40 });
    killed.on("error", () => undefined);
    await expect
      .poll(async () => (await usesOf(second.admin))[2] ?? 0, { timeout: 20_000 })
      .toBeGreaterThan(20);
    await first.end("SIGKILL");
    const midway = await usesOf(second.admin);
    expect(midway[1]).toBeGreaterThan(20);
    await expect(
      second.admin.call(KeyService.method.retireKekVersion, { version: 1, authority }),
    ).rejects.toSatisfy((error) => reasonOf(error) === "INVALID_REQUEST");

    let last: { readonly done: bigint; readonly total: bigint; readonly verified: bigint } | undefined;
    for await (const message of second.admin.stream(KeyService.method.rewrapKeys, {})) last = message;
    expect(last).toMatchObject({ done: BigInt(sealed), total: BigInt(sealed) });
    expect(Number(last?.verified)).toBeGreaterThanOrEqual(100);
    expect(await usesOf(second.admin)).toEqual({ 1: 0, 2: sealed });

    // What the killed one's disk keeps may be sealed under it, and the others tell of theirs once a minute.
    const retire = { version: 1, authority };
    await expect(second.admin.call(KeyService.method.retireKekVersion, retire)).rejects.toSatisfy(
      (error) => reasonOf(error) === "INVALID_REQUEST",
    );
    const accepting = () =>
      second.admin
        .call(KeyService.method.retireKekVersion, { ...retire, acceptUnseenJournals: true })
        .then(() => "retired", reasonOf);
    await expect.poll(accepting, { timeout: 90_000, interval: 1_000 }).toBe("retired");
    const before = reading.reads();
    await expect.poll(reading.reads, { timeout: 10_000 }).toBeGreaterThan(before + 50);
    expect(await reading.end()).toEqual([]);
    await expect(bare.unwrap(old, new AbortController().signal)).rejects.toMatchObject({
      reason: "KEK_MISMATCH",
      metadata: { cause: "version_retired" },
    });
  });
});

describe("with Vault sealed, etcd away, or both", () => {
  it("a sidecar serves what is warm, names what is away, and stores nothing in the clear", {
    timeout: 60_000,
  }, async () => {
    const { etcd, sidecars, simulator, connect, token, authority } = await stage(2);
    const [first, second] = sidecars;
    if (first === undefined || second === undefined) throw new Error("two sidecars were wanted");
    const grants = await times(6, (n) => connect(`acct-${n}`, { expired: n > 3 }));
    const ask = ({ data }: { readonly data: Caller }, accountId: string) =>
      data
        .call(getToken, { accountId }, { deadlineMs: 9_000 })
        .then(({ accessToken }) => accessToken, reasonOf);
    const warm = await ask(first, "acct-0");
    expect(warm).toBe(grants[0]?.accessToken);
    await Promise.all([ask(second, "acct-4"), ask(first, "acct-5")]);
    const requests = simulator.stats().tokenRequests;

    await bao.seal();
    try {
      expect(await ask(first, "acct-0")).toBe(warm);
      expect(await ask(first, "acct-1")).toBe("KEK_UNAVAILABLE");
      await etcd.only.kill();
      expect(await ask(first, "acct-0")).toBe(warm);
      const [stored, unknown] = await Promise.all([ask(first, "acct-2"), ask(first, "nobody")]);
      expect(stored).toMatch(/^(STORE|KEK)_UNAVAILABLE$/);
      expect(unknown).toBe("STORE_UNAVAILABLE");
    } finally {
      await bao.unseal();
    }
    expect(await ask(first, "acct-0")).toBe(warm);
    expect(await ask(first, "acct-3")).toBe("STORE_UNAVAILABLE");
    await etcd.only.restart();
    await expect.poll(() => ask(first, "acct-3"), { timeout: 10_000 }).toBe(grants[3]?.accessToken);
    await delay(500);
    expect(simulator.stats().tokenRequests).toBe(requests);

    const planted = [
      ...grants.flatMap(({ accessToken, refreshToken }) => [accessToken, refreshToken]),
      await ask(first, "acct-4"),
      "demo-secret",
      token.reveal(),
      authority,
    ];
    const files = readdirSync(etcd.folder, { recursive: true, withFileTypes: true }).filter((one) =>
      one.isFile(),
    );
    const texts = files.map(({ parentPath, name }) => readFileSync(join(parentPath, name), "latin1"));
    expect(texts.some((text) => text.includes("acct-0"))).toBe(true);
    for (const text of [...texts, ...sidecars.map(({ log }) => log())]) {
      for (const secret of planted) {
        const spellings = [
          secret,
          Buffer.from(secret).toString("base64"),
          Buffer.from(secret).toString("hex"),
        ];
        expect(spellings.some((spelling) => text.includes(spelling))).toBe(false);
      }
    }
  });
});
