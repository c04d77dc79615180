import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { ServiceError } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { JournalService } from "../../src/gen/keyturn/v1/journal_service_pb.js";
import { KeyService } from "../../src/gen/keyturn/v1/key_service_pb.js";
import { TokenMint } from "../../src/simulator/token-mint.ts";
import { type OpenBao, startOpenBao } from "../backends/openbao.ts";
import { tempFolder } from "../fakes/temp-folder.ts";
import { DEK, freshKey, transit } from "../seal/vault/stage.ts";
import { cluster, times } from "./cluster.ts";
import { type Caller, reasonOf } from "./harness.ts";

const ACCOUNTS = 120;
/** With it the simulator's tokens can be made again here, those included that nobody was shown. */
const SEED = 41;
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
  // Outside of the state directories, which are to hold no secret.
  const tokenFile = join(tempFolder(), "vault-token");
  writeFileSync(tokenFile, token.reveal(), { mode: 0o600 });
  const vault = `{ address: ${bao.url}, key: ${key}, token_file: ${tokenFile} }`;
  const kek = `kek: { backend: vault-transit, vault: ${vault} }`;
  const fleet = await cluster({ sidecars, config, kek, simulator: { seed: SEED } });
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
    // In parts: the etcd of a busy machine does not take all of them at once in time.
    for (let from = 0; from < ACCOUNTS; from += 20)
      await times(20, (n) => connect(`acct-${from + n}`, { expired: false }));
    // The client, and the key of content marks.
    const sealed = ACCOUNTS + 2;
    const instance = readFileSync(join(first.stateDir, "instance"), "utf8").trim();
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
    const retire = (options = {}) =>
      second.admin.call(KeyService.method.retireKekVersion, { version: 1, authority, ...options }).then(
        () => "retired",
        ({ details }: ServiceError) => details,
      );
    expect(await retire()).toMatch(/\d credentials under version 1/);

    let last: { readonly done: bigint; readonly total: bigint; readonly verified: bigint } | undefined;
    for await (const message of second.admin.stream(KeyService.method.rewrapKeys, {})) last = message;
    expect(last).toMatchObject({ done: BigInt(sealed), total: BigInt(sealed) });
    expect(Number(last?.verified)).toBeGreaterThanOrEqual(100);
    expect(await usesOf(second.admin)).toEqual({ 1: 0, 2: sealed });

    // What the killed one's disk keeps may be sealed under it: first it may yet tell, then it is gone.
    expect(await retire()).toContain(instance);
    await expect
      .poll(retire, { timeout: 30_000, interval: 500 })
      .toMatch(new RegExp(`^accept_unseen_journals: .*gone.*: ${instance} \\(`));
    expect(await retire({ acceptUnseenJournals: true })).toBe("retired");
    const before = reading.reads();
    await expect.poll(reading.reads, { timeout: 10_000 }).toBeGreaterThan(before + 50);
    expect(await reading.end()).toEqual([]);
    await expect(bare.unwrap(old, new AbortController().signal)).rejects.toMatchObject({
      reason: "KEK_MISMATCH",
      metadata: { cause: "version_retired" },
    });
  });
});

/** Every token that the simulator may have issued to so many grants, each refreshed at most so often. */
function issued(grants: number, refreshes: number): readonly string[] {
  const mint = new TokenMint(SEED);
  const names = Array.from({ length: grants }, (_, owner) =>
    Array.from({ length: refreshes + 1 }, (_, serial) => ({ owner: owner + 1, serial: serial + 1 })),
  ).flat();
  return names.flatMap((name) => [mint.make("at", name), mint.make("rt", name)]);
}

/** As it is, in hexadecimal, and in base64 wherever among other bytes it begins. */
function spellings(secret: string): readonly string[] {
  const inBase64 = [0, 1, 2].map((before) =>
    // What shares its bits with the neighbours is left out at both ends.
    Buffer.from(" ".repeat(before) + secret)
      .toString("base64")
      .slice(before === 0 ? 0 : before + 1, -4),
  );
  return [secret, Buffer.from(secret).toString("hex"), ...inBase64];
}

/** The text of every file in these folders, runs of zeros, of which etcd's files are full, made short. */
function textsIn(folders: readonly string[]): readonly string[] {
  return folders
    .flatMap((folder) => readdirSync(folder, { recursive: true, withFileTypes: true }))
    .filter((one) => one.isFile())
    .map(({ parentPath, name }) => readFileSync(join(parentPath, name), "latin1").replace(/\0{2,}/g, "\0"));
}

describe("with Vault sealed, etcd away, or both", () => {
  it("a sidecar serves what is warm or in its journal, names what is away, and stores nothing in the clear", {
    timeout: 90_000,
  }, async () => {
    const { etcd, sidecars, simulator, connect, token, authority } = await stage(2, "roles: [serve]");
    const [first, second] = sidecars;
    if (first === undefined || second === undefined) throw new Error("two sidecars were wanted");
    const grants = await times(7, (n) => connect(`acct-${n}`, { expired: n > 3 }));
    const ask = ({ data }: { readonly data: Caller }, accountId: string) =>
      data
        .call(getToken, { accountId }, { deadlineMs: 9_000 })
        .then(({ accessToken }) => accessToken, reasonOf);
    const warm = await ask(first, "acct-0");
    expect(warm).toBe(grants[0]?.accessToken);
    await Promise.all([ask(second, "acct-4"), ask(first, "acct-5")]);
    const requests = () => simulator.stats().tokenRequests;
    const before = requests();

    await bao.seal();
    try {
      expect(await ask(first, "acct-0")).toBe(warm);
      expect(await ask(first, "acct-1")).toBe("KEK_UNAVAILABLE");
    } finally {
      await bao.unseal();
    }
    // Its answer comes when etcd is gone: the journal has it, and nothing else.
    simulator.faults.add({ endpoint: "token", subject: "acct-6", kind: "late", ms: 1_000, times: 1 });
    const asked = ask(second, "acct-6");
    while (requests() === before) await delay(10);
    await etcd.only.kill();
    const kept = await asked;
    expect(kept).toMatch(/^sim_at_/);
    expect(await ask(first, "acct-0")).toBe(warm);
    expect(await ask(first, "acct-3")).toBe("STORE_UNAVAILABLE");
    await bao.seal();
    let inJournal: readonly string[];
    try {
      expect(await ask(first, "acct-0")).toBe(warm);
      expect(await ask(second, "acct-6")).toBe(kept);
      // What is sealed lies in the store: without it there is nothing to ask the KEK for.
      const cold = await Promise.all([ask(first, "acct-2"), ask(first, "acct-4"), ask(first, "nobody")]);
      expect(cold).toEqual(Array(3).fill("STORE_UNAVAILABLE"));
      const { entries } = await second.admin.call(JournalService.method.listEntries, {});
      expect(entries).toMatchObject([{ accountId: "acct-6" }]);
      inJournal = textsIn(sidecars.map(({ stateDir }) => stateDir));
    } finally {
      await bao.unseal();
    }
    await etcd.only.restart();
    await expect.poll(() => ask(first, "acct-3"), { timeout: 10_000 }).toBe(grants[3]?.accessToken);
    await expect.poll(() => ask(first, "acct-6"), { timeout: 10_000 }).toBe(kept);
    await delay(500);
    expect(requests()).toBe(before + 1);

    const tokens = issued(grants.length, requests());
    const shown = grants.flatMap(({ accessToken, refreshToken }) => [accessToken, refreshToken]);
    expect([...shown, kept, await ask(first, "acct-4")].every((one) => tokens.includes(one))).toBe(true);
    const secrets = [...tokens, "demo-secret", token.reveal(), authority].flatMap(spellings);
    const inFiles = textsIn([etcd.folder, ...sidecars.map(({ stateDir }) => stateDir)]);
    expect(inJournal.some((text) => text.includes("acct-6"))).toBe(true);
    expect(inFiles.some((text) => text.includes("acct-0"))).toBe(true);
    for (const text of [...inJournal, ...inFiles, ...sidecars.map(({ log }) => log())])
      expect(secrets.filter((secret) => text.includes(secret))).toHaveLength(0);
  });
});
