import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { inspect } from "node:util";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { openLocalKek, takeKeyring } from "../../src/seal/kek/local.ts";
import { Secret } from "../../src/tokens/secret.ts";
import { tempFolder } from "../fakes/temp-folder.ts";
import { ManualClock } from "../store/manual-clock.ts";
import { ACTOR, CONTEXT, PLAIN, sealing, sealOne } from "./setup.ts";

const DEK = Buffer.alloc(32, 5);
const NEVER = new AbortController().signal;
const INVALID = { reason: "INVALID_REQUEST" };

function ring() {
  const file = join(tempFolder(), "keyring.json");
  const clock = new ManualClock();
  const open = (create = false) => openLocalKek({ file, create }, clock);
  return { file, clock, open };
}

describe("a keyring file", () => {
  it("is made with mode 0600 and nothing beside it, whatever the umask", async () => {
    const { file, open } = ring();
    const umask = process.umask(0);
    try {
      await open(true);
    } finally {
      process.umask(umask);
    }
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(readdirSync(join(file, ".."))).toEqual(["keyring.json"]);
  });

  it("is not made unasked", async () => {
    const { file, open } = ring();
    await expect(open(false)).rejects.toMatchObject({ ...INVALID, message: expect.stringContaining(file) });
    expect(readdirSync(join(file, ".."))).toEqual([]);
  });

  it.each(["0640", "0604", "0660", "0601"])("that others may use (mode %s) is refused", async (mode) => {
    const { file, open } = ring();
    await open(true);
    chmodSync(file, mode);
    await expect(open(true)).rejects.toMatchObject({
      ...INVALID,
      message: expect.stringContaining(`mode ${mode}; only its owner may read it: chmod 0600`),
    });
    chmodSync(file, 0o400);
    await open();
  });

  it("is the same for all who start at once", async () => {
    const { open } = ring();
    const keks = await Promise.all(Array.from({ length: 8 }, () => open(true)));
    const [first] = keks;
    const wrapped = await first?.wrap(DEK, NEVER);
    for (const kek of keks) expect(wrapped && (await kek.unwrap(wrapped, NEVER))).toEqual(DEK);
  });

  it("that cannot be read or made is KEK_UNAVAILABLE", async () => {
    const { file, open } = ring();
    mkdirSync(file, { mode: 0o700 });
    await expect(open(true)).rejects.toMatchObject({
      reason: "KEK_UNAVAILABLE",
      metadata: { cause: "keyring_unreadable" },
    });
    rmSync(join(file, ".."), { recursive: true });
    await expect(open(true)).rejects.toMatchObject({
      reason: "KEK_UNAVAILABLE",
      metadata: { cause: "keyring_unwritable" },
    });
  });

  it("of any other content is INVALID_REQUEST, which says what is wrong and quotes nothing", async () => {
    const { file, clock, open } = ring();
    await open(true);
    const good = JSON.parse(readFileSync(file, "utf8"));
    const version = good.versions[0];
    const faults: readonly unknown[] = [
      { ...good, format: 2 },
      { ...good, id: "vault:/x" },
      { ...good, id: "local:/../../x" },
      { ...good, versions: [] },
      { ...good, versions: {} },
      { ...good, versions: [null] },
      { ...good, versions: [{ ...version, version: 0 }] },
      { ...good, versions: [{ ...version, key: "PLANTED" }] },
      { ...good, versions: [{ ...version, key: `${version.key}AAAA` }] },
      { ...good, versions: [{ ...version, key: `${version.key.slice(0, 20)}\n${version.key.slice(20)}` }] },
      { ...good, versions: [{ ...version, created_at: "PLANTED" }] },
      { ...good, versions: [{ ...version, state: "PLANTED" }] },
      { ...good, versions: [{ ...version, state: "retired" }] },
      { ...good, versions: [version, version] },
      { ...good, versions: [version, { ...version, version: 2 }] },
    ];
    for (const fault of faults) {
      const keyring = new Secret(JSON.stringify(fault));
      const refused: unknown = await openLocalKek({ keyring }, clock).catch((thrown: unknown) => thrown);
      expect(refused).toMatchObject(INVALID);
      expect(inspect(refused, { depth: null })).not.toContain("PLANTED");
      expect(inspect(refused, { depth: null })).not.toContain(version.key);
    }
  });

  it("of any bytes at all opens or is INVALID_REQUEST", async () => {
    const clock = new ManualClock();
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.string(), fc.json()), async (text) => {
        const refused: unknown = await openLocalKek({ keyring: new Secret(text) }, clock).catch(
          (thrown: unknown) => thrown,
        );
        expect(refused).toMatchObject(INVALID);
      }),
      { numRuns: 200 },
    );
  });
});

describe("KEYTURN_KEYRING", () => {
  it("is gone from the environment, for children too, once it was taken", async () => {
    const { file, clock, open } = ring();
    const ofFile = await open(true);
    process.env["KEYTURN_KEYRING"] = readFileSync(file, "utf8");
    const keyring = takeKeyring(process.env);
    expect(process.env).not.toHaveProperty("KEYTURN_KEYRING");
    expect(spawnSync("env", { encoding: "utf8" }).stdout).not.toContain("KEYTURN_KEYRING");
    const kek = await openLocalKek({ keyring: keyring ?? new Secret("") }, clock);
    expect(await kek.unwrap(await ofFile.wrap(DEK, NEVER), NEVER)).toEqual(DEK);
    await expect(kek.rotate()).rejects.toMatchObject(INVALID);
    await expect(kek.retire(1)).rejects.toMatchObject(INVALID);
  });

  it("that is empty or absent is none", () => {
    const env = { KEYTURN_KEYRING: "", OTHER: "stays" };
    expect(takeKeyring(env)).toBeUndefined();
    expect(takeKeyring(env)).toBeUndefined();
    expect(env).toEqual({ OTHER: "stays" });
  });
});

describe("the local KEK's life", () => {
  it("is rotate, rewrap, retire: values open all along, and a retired version opens nothing", async () => {
    const { sealer, kek, clock, file } = await sealing();
    const bornMs = clock.now();
    const old = await sealOne(sealer);
    expect(await sealer.rewrap(old, ACTOR)).toBeUndefined();

    clock.advance(1_000);
    expect(await kek.rotate()).toBe(2);
    expect(await kek.versions()).toEqual({
      newest: 2,
      versions: [
        { version: 1, createdAtMs: bornMs, state: "retiring" },
        { version: 2, createdAtMs: bornMs + 1_000, state: "active" },
      ],
    });
    expect(await sealer.open(CONTEXT, old, ACTOR)).toEqual(PLAIN);
    expect((await sealOne(sealer)).kekVersion).toBe(2);

    const moved = await sealer.rewrap(old, ACTOR);
    if (moved === undefined) throw new Error("not rewrapped");
    expect(moved).toEqual({ ...old, kekVersion: 2, wrappedDek: moved.wrappedDek });
    expect(moved.wrappedDek).not.toEqual(old.wrappedDek);
    expect(await sealer.rewrap(moved, ACTOR)).toBeUndefined();

    await kek.retire(1);
    expect(await sealer.open(CONTEXT, moved, ACTOR)).toEqual(PLAIN);
    const retired = { reason: "KEK_MISMATCH", metadata: { cause: "version_retired" } };
    await expect(sealer.open(CONTEXT, old, ACTOR)).rejects.toMatchObject(retired);
    await expect(sealer.rewrap(old, ACTOR)).rejects.toMatchObject(retired);

    const again = await openLocalKek({ file, create: false }, clock);
    expect((await again.versions()).versions.map(({ state }) => state)).toEqual(["retired", "active"]);
    expect(JSON.parse(readFileSync(file, "utf8")).versions[0].key).toHaveLength(44);
  });

  it("does not retire the active version, a newer one or one that is not there", async () => {
    const { open } = ring();
    const kek = await open(true);
    await kek.rotate();
    for (const version of [0, 2, 3]) await expect(kek.retire(version)).rejects.toMatchObject(INVALID);
    await kek.rotate();
    await kek.retire(2);
    expect((await kek.versions()).versions.map(({ state }) => state)).toEqual([
      "retired",
      "retired",
      "active",
    ]);
  });

  it("goes on after a restart, the file private and alone", async () => {
    const { file, open } = ring();
    const kek = await open(true);
    const old = await kek.wrap(DEK, NEVER);
    await kek.rotate();
    const newer = await kek.wrap(DEK, NEVER);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(readdirSync(join(file, ".."))).toEqual(["keyring.json"]);
    const again = await open();
    for (const wrapped of [old, newer]) expect(await again.unwrap(wrapped, NEVER)).toEqual(DEK);
    expect(again.id).toBe("local:/default");
  });

  it("has one version per rotation, however many come at once", async () => {
    const { open } = ring();
    const kek = await open(true);
    expect(await Promise.all([kek.rotate(), kek.rotate(), kek.rotate()])).toEqual([2, 3, 4]);
  });

  it("learns of a version that another process on the same keyring made", async () => {
    const { open } = ring();
    const [one, two] = [await open(true), await open()];
    await one.rotate();
    expect(await two.unwrap(await one.wrap(DEK, NEVER), NEVER)).toEqual(DEK);
    expect(await two.rotate()).toBe(3);
  });

  it("does not write over a file that has become another keyring, and stays usable", async () => {
    const { file, open } = ring();
    const kek = await open(true);
    const wrapped = await kek.wrap(DEK, NEVER);
    rmSync(file);
    await open(true);
    const other = readFileSync(file, "utf8");
    const replaced = { reason: "KEK_UNAVAILABLE", metadata: { cause: "keyring_replaced" } };
    await expect(kek.rotate()).rejects.toMatchObject(replaced);
    expect(readFileSync(file, "utf8")).toBe(other);
    expect(await kek.unwrap(wrapped, NEVER)).toEqual(DEK);
    writeFileSync(file, "half", { mode: 0o600 });
    await expect(kek.rotate()).rejects.toMatchObject(INVALID);
    expect(await kek.unwrap(wrapped, NEVER)).toEqual(DEK);
  });
});
