import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createProcessSeal } from "../../src/seal/process-seal.ts";

const INVALID = expect.objectContaining({ reason: "SEAL_INVALID" });

describe("the process seal", () => {
  it("gives back what it sealed, of any length, as often as asked", () => {
    const vault = createProcessSeal();
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2_000 }), (answer) => {
        const sealed = vault.seal(answer);
        expect(sealed).toHaveLength(28 + answer.length);
        for (let times = 0; times < 2; times += 1) {
          expect(new Uint8Array(vault.open(sealed))).toEqual(answer);
        }
      }),
    );
  });

  it("opens nothing that was changed, cut or sealed by another", () => {
    const vault = createProcessSeal();
    const other = createProcessSeal();
    const sealed = vault.seal(Buffer.from("an answer"));
    for (let at = 0; at < sealed.length; at += 1) {
      const changed = Buffer.from(sealed);
      changed.writeUInt8(changed.readUInt8(at) ^ 0x80, at);
      expect(() => vault.open(changed)).toThrow(INVALID);
      expect(() => vault.open(sealed.subarray(0, at))).toThrow(INVALID);
    }
    expect(() => other.open(sealed)).toThrow(INVALID);
  });

  it("seals the same answer differently each time, and never shows it", () => {
    const vault = createProcessSeal();
    const answer = Buffer.from("token-PLANTED-4711");
    const all = Array.from({ length: 1_000 }, () => vault.seal(answer));
    expect(new Set(all.map((sealed) => sealed.toString("hex", 0, 12))).size).toBe(1_000);
    expect(all.some((sealed) => sealed.includes("PLANTED"))).toBe(false);
  });

  it("opens an answer once for all who ask in the same turn, and keeps nothing open after it", async () => {
    const vault = createProcessSeal();
    const sealed = vault.seal(Buffer.from("an answer"));
    const one = vault.open(sealed);
    expect(vault.open(sealed)).toBe(one);
    expect(vault.open(vault.seal(Buffer.from("an answer")))).not.toBe(one);
    await new Promise((resolve) => setImmediate(resolve));
    const later = vault.open(sealed);
    expect(later).not.toBe(one);
    expect(later.toString()).toBe("an answer");
  });
});
