import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { SealContext, Sealed } from "../../src/tokens/sealing.ts";
import { ACTOR, CONTEXT, isWiped, PLAIN, sealing, sealOne } from "./setup.ts";

const text = fc.string({ unit: "grapheme", maxLength: 20 });
const contexts: fc.Arbitrary<SealContext> = fc.record({
  kind: fc.constantFrom("credential", "answer", "client_secret", "authorization", "content_key"),
  tenant: text,
  id: text,
  incarnation: text,
  slot: text,
  generation: fc.nat(),
});
const MEMBERS = ["kind", "tenant", "id", "incarnation", "slot", "generation"] as const;
const PARTS = ["wrappedDek", "iv", "ciphertext", "tag"] as const;
const INVALID = { reason: "SEAL_INVALID" };

describe("an envelope", () => {
  it("gives back what was sealed, of any length, in its own context", async () => {
    const { sealer } = await sealing();
    await fc.assert(
      fc.asyncProperty(contexts, fc.uint8Array({ maxLength: 5_000 }), async (context, plain) => {
        const sealed = await sealOne(sealer, context, plain);
        expect(new Uint8Array(await sealer.open({ ...context }, sealed, ACTOR))).toEqual(plain);
      }),
      { numRuns: 50 },
    );
  });

  it("opens in no context of which one member is another", async () => {
    const { sealer } = await sealing();
    await fc.assert(
      fc.asyncProperty(contexts, contexts, fc.constantFrom(...MEMBERS), async (context, other, member) => {
        fc.pre(context[member] !== other[member]);
        const sealed = await sealOne(sealer, context);
        const elsewhere = { ...context, [member]: other[member] };
        await expect(sealer.open(elsewhere, sealed, ACTOR)).rejects.toMatchObject(INVALID);
      }),
      { numRuns: 200 },
    );
  });

  it("opens nowhere else when text moves from one member to its neighbour", async () => {
    const { sealer } = await sealing();
    const names = ["tenant", "id", "incarnation", "slot"] as const;
    await fc.assert(
      fc.asyncProperty(contexts, fc.nat(2), fc.nat(20), async (context, first, cut) => {
        const [left, right] = [names[first] ?? "tenant", names[first + 1] ?? "id"];
        const both = context[left] + context[right];
        const moved = { ...context, [left]: both.slice(0, cut), [right]: both.slice(cut) };
        fc.pre(moved[left] !== context[left]);
        const sealed = await sealOne(sealer, context);
        await expect(sealer.open(moved, sealed, ACTOR)).rejects.toMatchObject(INVALID);
      }),
      { numRuns: 100 },
    );
  });

  it("opens in no other environment under the same KEK", async () => {
    const { sealer, inEnvironment } = await sealing();
    const sealed = await sealOne(sealer);
    for (const environment of ["production", "test ", "", "TEST"]) {
      await expect(inEnvironment(environment).open(CONTEXT, sealed, ACTOR)).rejects.toMatchObject(INVALID);
    }
    expect(await inEnvironment("test").open(CONTEXT, sealed, ACTOR)).toEqual(PLAIN);
  });

  it("does not open when any bytes of any part are others, fewer or more", async () => {
    const { sealer } = await sealing();
    const sealed = await sealOne(sealer);
    const changes = fc.oneof(
      fc.record({ at: fc.nat(), xor: fc.integer({ min: 1, max: 255 }) }),
      fc.record({ cut: fc.nat() }),
      fc.record({ add: fc.uint8Array({ minLength: 1, maxLength: 40 }) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...PARTS), changes, async (part, change) => {
        const bytes = Buffer.from(sealed[part]);
        let altered: Uint8Array = bytes;
        if ("at" in change) {
          const at = change.at % bytes.length;
          bytes.writeUInt8(bytes.readUInt8(at) ^ change.xor, at);
        } else if ("cut" in change) altered = bytes.subarray(0, change.cut % bytes.length);
        else altered = Buffer.concat([bytes, change.add]);
        await expect(sealer.open(CONTEXT, { ...sealed, [part]: altered }, ACTOR)).rejects.toMatchObject(
          INVALID,
        );
      }),
      { numRuns: 300 },
    );
    expect(await sealer.open(CONTEXT, sealed, ACTOR)).toEqual(PLAIN);
  });

  it("does not open with a part of another value, nor with its older generation put back", async () => {
    const { sealer } = await sealing();
    const one = await sealOne(sealer);
    const two = await sealOne(sealer);
    for (const part of PARTS) {
      const mixed = { ...one, [part]: two[part] };
      await expect(sealer.open(CONTEXT, mixed, ACTOR)).rejects.toMatchObject(INVALID);
    }
    const newer = { ...CONTEXT, generation: CONTEXT.generation + 1 };
    await expect(sealer.open(newer, one, ACTOR)).rejects.toMatchObject(INVALID);
  });

  it("of another KEK is KEK_MISMATCH, naming both, without asking the KEK", async () => {
    const { sealer, calls } = await sealing();
    const sealed = { ...(await sealOne(sealer)), kekId: "vault-transit:/transit/keyturn" };
    calls.length = 0;
    const mismatch = {
      reason: "KEK_MISMATCH",
      metadata: { kek: "vault-transit:/transit/keyturn", configured: "local:/default" },
    };
    await expect(sealer.open(CONTEXT, sealed, ACTOR)).rejects.toMatchObject(mismatch);
    await expect(sealer.rewrap(sealed, ACTOR)).rejects.toMatchObject(mismatch);
    expect(calls).toEqual([]);
  });

  it("of a version that the KEK does not have is KEK_MISMATCH; of one that it has, SEAL_INVALID", async () => {
    const { sealer, kek } = await sealing();
    const sealed = await sealOne(sealer);
    await expect(sealer.open(CONTEXT, { ...sealed, kekVersion: 2 }, ACTOR)).rejects.toMatchObject({
      reason: "KEK_MISMATCH",
    });
    await kek.rotate();
    await expect(sealer.open(CONTEXT, { ...sealed, kekVersion: 2 }, ACTOR)).rejects.toMatchObject(INVALID);
  });

  it("of a format to come is SEAL_INVALID and named", async () => {
    const { sealer } = await sealing();
    const sealed = { ...(await sealOne(sealer)), format: 2 } as unknown as Sealed;
    const refused = { ...INVALID, message: expect.stringContaining("format 2") };
    await expect(sealer.open(CONTEXT, sealed, ACTOR)).rejects.toMatchObject(refused);
    await expect(sealer.rewrap(sealed, ACTOR)).rejects.toMatchObject(refused);
  });

  it("is not made for a name that is not Unicode", async () => {
    const { sealer, deks } = await sealing();
    const broken = { ...CONTEXT, id: "a\ud800" };
    const ready = await sealer.prepare(CONTEXT, ACTOR);
    expect(() => ready.seal(broken, PLAIN)).toThrow(expect.objectContaining(INVALID));
    expect(deks.every(isWiped)).toBe(true);
    const sealed = await sealOne(sealer, { ...CONTEXT, id: "a\ufffd" });
    await expect(sealer.open(broken, sealed, ACTOR)).rejects.toMatchObject(INVALID);
  });

  it("has a key, an IV and so a ciphertext of its own each time", async () => {
    const { sealer } = await sealing();
    const all = await Promise.all(Array.from({ length: 20 }, () => sealOne(sealer)));
    for (const part of PARTS) {
      expect(new Set(all.map((one) => Buffer.from(one[part]).toString("hex"))).size).toBe(20);
    }
    const [one] = all;
    expect([one?.iv.length, one?.tag.length, one?.ciphertext.length]).toEqual([12, 16, PLAIN.length]);
    expect(Buffer.from(one?.ciphertext ?? []).includes("PLANTED")).toBe(false);
  });
});

describe("the KEK", () => {
  it("is asked once for a seal, once for an open, once for a rewrap", async () => {
    const { sealer, calls } = await sealing();
    const sealed = await sealOne(sealer);
    expect(calls).toEqual(["wrap"]);
    await sealer.open(CONTEXT, sealed, ACTOR);
    expect(calls).toEqual(["wrap", "unwrap"]);
    await sealer.rewrap(sealed, ACTOR);
    expect(calls).toEqual(["wrap", "unwrap", "rewrap"]);
  });

  it("is not asked by what was prepared", async () => {
    const { sealer, calls } = await sealing();
    const ready = await sealer.prepare(CONTEXT, ACTOR);
    calls.length = 0;
    ready.seal(CONTEXT, PLAIN);
    (await sealer.prepare(CONTEXT, ACTOR)).discard();
    expect(calls).toEqual(["wrap"]);
  });
});

describe("a data key", () => {
  it("is wiped after its only seal, which cannot be had twice", async () => {
    const { sealer, deks } = await sealing();
    const ready = await sealer.prepare(CONTEXT, ACTOR);
    expect(deks.map(isWiped)).toEqual([false]);
    ready.seal(CONTEXT, PLAIN);
    expect(deks.map(isWiped)).toEqual([true]);
    expect(() => ready.seal(CONTEXT, PLAIN)).toThrow(expect.objectContaining({ reason: "INTERNAL_ERROR" }));
    ready.discard();
  });

  it("is wiped when it is not needed, and does not seal afterwards", async () => {
    const { sealer, deks } = await sealing();
    const ready = await sealer.prepare(CONTEXT, ACTOR);
    ready.discard();
    ready.discard();
    expect(deks.map(isWiped)).toEqual([true]);
    expect(() => ready.seal(CONTEXT, PLAIN)).toThrow();
  });

  it("is wiped after every open, refused ones included", async () => {
    const { sealer, deks } = await sealing();
    const sealed = await sealOne(sealer);
    await sealer.open(CONTEXT, sealed, ACTOR);
    const elsewhere = { ...CONTEXT, tenant: "other" };
    await expect(sealer.open(elsewhere, sealed, ACTOR)).rejects.toMatchObject(INVALID);
    expect(deks.map(isWiped)).toEqual([true, true, true]);
  });
});
