import { readFileSync } from "node:fs";
import { inspect } from "node:util";
import { describe, expect, it } from "vitest";
import { openLocalKek } from "../../src/seal/kek/local.ts";
import { createProcessSeal } from "../../src/seal/process-seal.ts";
import { Secret } from "../../src/tokens/secret.ts";
import { ACTOR, CONTEXT, PLAIN, sealing, sealOne } from "./setup.ts";

/** Every way in which a log may spell these bytes. */
function spellings(bytes: Uint8Array): readonly string[] {
  const buffer = Buffer.from(bytes);
  const pairs = buffer.toString("hex").match(/../g) ?? [];
  return [
    buffer.toString("hex"),
    buffer.toString("base64").slice(0, 20),
    buffer.toString("base64url").slice(0, 20),
    buffer.toString("latin1"),
    pairs.slice(0, 8).join(" "),
    [...buffer].slice(0, 8).join(", "),
    [...buffer].slice(0, 8).join(","),
  ];
}

function shown(value: unknown): string {
  const all = { depth: Number.POSITIVE_INFINITY, maxArrayLength: null, maxStringLength: null };
  return [
    inspect(value, { ...all, showHidden: true, showProxy: true, getters: true, breakLength: 1e6 }),
    inspect(value, { ...all, compact: false }),
    JSON.stringify(value) ?? "",
    String(value),
  ].join("\n");
}

describe("nothing that a log call can reach shows a key", () => {
  it("neither sealer, KEK, prepared seal, keyring source nor process seal", async () => {
    const { sealer, kek, deks, file, clock } = await sealing();
    const ready = await sealer.prepare(CONTEXT, ACTOR);
    const dek = Buffer.from(deks[0] ?? []);
    const text = readFileSync(file, "utf8");
    const kekBytes = Buffer.from(JSON.parse(text).versions[0].key, "base64");
    const source = { keyring: new Secret(text) };
    const ofText = await openLocalKek(source, clock);
    const vault = createProcessSeal();
    const cached = vault.seal(PLAIN);
    const sealed = await sealOne(sealer);
    const all = shown({ sealer, kek, ready, source, ofText, vault, cached, sealed });
    expect(dek).toHaveLength(32);
    expect(kekBytes).toHaveLength(32);
    for (const secret of [dek, kekBytes, PLAIN]) {
      for (const spelling of spellings(secret)) expect(all).not.toContain(spelling);
      for (const one of [sealer, kek, ready, source, ofText, vault, cached, sealed]) {
        for (const spelling of spellings(secret)) expect(shown(one)).not.toContain(spelling);
      }
    }
    // The same search finds what is really shown.
    expect(spellings(dek).some((spelling) => shown({ dek }).includes(spelling))).toBe(true);
    ready.discard();
  });

  it("nor does an error of any of them", async () => {
    const { sealer, kek, file } = await sealing();
    const sealed = await sealOne(sealer);
    const kekBytes = Buffer.from(JSON.parse(readFileSync(file, "utf8")).versions[0].key, "base64");
    const ready = await sealer.prepare(CONTEXT, ACTOR);
    ready.seal(CONTEXT, PLAIN);
    const failures: readonly (() => unknown)[] = [
      () => ready.seal(CONTEXT, PLAIN),
      () => sealer.open({ ...CONTEXT, id: "other" }, sealed, ACTOR),
      () => sealer.open(CONTEXT, { ...sealed, wrappedDek: Buffer.alloc(60) }, ACTOR),
      () => sealer.open(CONTEXT, { ...sealed, kekVersion: 9 }, ACTOR),
      () => sealer.open(CONTEXT, { ...sealed, kekId: "x" }, ACTOR),
      () => kek.retire(1),
    ];
    for (const fail of failures) {
      const error: unknown = await Promise.try(fail).then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
      expect(error).toBeInstanceOf(Error);
      for (const secret of [kekBytes, PLAIN]) {
        for (const spelling of spellings(secret)) expect(shown(error)).not.toContain(spelling);
      }
    }
  });
});
