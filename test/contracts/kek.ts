import { describe, expect, it } from "vitest";
import type { Kek } from "../../src/seal/kek.ts";
import type { Secret } from "../../src/tokens/secret.ts";

/** A backend on which nothing has happened yet. */
export interface FreshKek {
  readonly kek: Kek;
  /** Another sidecar on the same key. */
  readonly other: Kek;
  /** The key administrator's credential; undefined where the backend asks for none. */
  readonly authority: Secret | undefined;
}

const DEK = Buffer.from(Array.from({ length: 32 }, (_, at) => at * 7));
const INVALID = { reason: "INVALID_REQUEST" };
const MISMATCH = { reason: "KEK_MISMATCH" };

const waiting = () => new AbortController().signal;
const states = async (kek: Kek) => (await kek.versions()).versions.map(({ state }) => state);

/** What every backend of the key-encryption key promises, on the real one. */
export function kekContract(name: string, fresh: () => Promise<FreshKek>): void {
  describe(`the KEK contract on ${name}`, () => {
    it("unwraps what it wrapped, in every process on the same key", async () => {
      const { kek, other } = await fresh();
      const wrapped = await kek.wrap(DEK, waiting());
      expect(wrapped.version).toBe(1);
      expect(Buffer.from(wrapped.bytes).includes(DEK)).toBe(false);
      expect(await kek.unwrap(wrapped, waiting())).toEqual(DEK);
      expect(await other.unwrap(wrapped, waiting())).toEqual(DEK);
      expect(other.id).toBe(kek.id);
    });

    it("wraps the same data key to different bytes each time", async () => {
      const { kek } = await fresh();
      const [one, two] = [await kek.wrap(DEK, waiting()), await kek.wrap(DEK, waiting())];
      expect(one.bytes).not.toEqual(two.bytes);
    });

    it("gives each of many asked at once its own answer", async () => {
      const { kek } = await fresh();
      const deks = Array.from({ length: 400 }, (_, at) => Buffer.alloc(32, at % 251));
      const wrapped = await Promise.all(deks.map((dek) => kek.wrap(dek, waiting())));
      expect(await Promise.all(wrapped.map((one) => kek.unwrap(one, waiting())))).toEqual(deks);
    });

    it("says SEAL_INVALID for altered bytes, and only to whom they belong", async () => {
      const { kek } = await fresh();
      const wrapped = await kek.wrap(DEK, waiting());
      const flipped = Buffer.from(wrapped.bytes);
      flipped[20] = (flipped[20] ?? 0) ^ 1;
      const altered = [flipped, wrapped.bytes.subarray(0, 40), Buffer.alloc(0), Buffer.alloc(60)];
      const asked = [wrapped, ...altered.map((bytes) => ({ ...wrapped, bytes })), wrapped];
      const answers = await Promise.allSettled(asked.map((one) => kek.unwrap(one, waiting())));
      const [first, ...rest] = answers;
      expect([first, rest.pop()]).toEqual([
        { status: "fulfilled", value: DEK },
        { status: "fulfilled", value: DEK },
      ]);
      for (const answer of rest) {
        expect(answer).toMatchObject({ status: "rejected", reason: { reason: "SEAL_INVALID" } });
      }
      await expect(kek.rewrap({ ...wrapped, bytes: flipped }, waiting())).rejects.toMatchObject({
        reason: "SEAL_INVALID",
      });
    });

    it("says KEK_MISMATCH for a version that it never had", async () => {
      const { kek } = await fresh();
      const wrapped = await kek.wrap(DEK, waiting());
      for (const version of [0, 2, 99]) {
        const unknown = { ...MISMATCH, metadata: { cause: "version_unknown" } };
        await expect(kek.unwrap({ ...wrapped, version }, waiting())).rejects.toMatchObject(unknown);
      }
    });

    it("rotates: what is wrapped from now on is under the new version, and the old one still unwraps", async () => {
      const { kek, other, authority } = await fresh();
      const old = await kek.wrap(DEK, waiting());
      expect(await kek.rotate(authority)).toBe(2);
      const newer = await kek.wrap(DEK, waiting());
      expect(newer.version).toBe(2);
      expect(await kek.unwrap(old, waiting())).toEqual(DEK);
      expect(await other.unwrap(newer, waiting())).toEqual(DEK);
      expect(await kek.versions()).toMatchObject({
        newest: 2,
        versions: [
          { version: 1, state: "retiring" },
          { version: 2, state: "active" },
        ],
      });
      for (const { createdAtMs } of (await kek.versions()).versions)
        expect(createdAtMs).toBeGreaterThan(1e12);
    });

    it("rewraps to the newest version, and leaves the version of what is under it already", async () => {
      const { kek, authority } = await fresh();
      const old = await kek.wrap(DEK, waiting());
      await kek.rotate(authority);
      const moved = await kek.rewrap(old, waiting());
      expect(moved.version).toBe(2);
      expect(await kek.unwrap(moved, waiting())).toEqual(DEK);
      expect((await kek.rewrap(moved, waiting())).version).toBe(2);
    });

    it("retires: that version and older ones are refused, by name, everywhere", async () => {
      const { kek, other, authority } = await fresh();
      const first = await kek.wrap(DEK, waiting());
      await kek.rotate(authority);
      const second = await kek.wrap(DEK, waiting());
      await kek.rotate(authority);
      const third = await kek.wrap(DEK, waiting());
      await kek.retire(2, authority);
      const retired = { ...MISMATCH, metadata: { cause: "version_retired" } };
      for (const wrapped of [first, second]) {
        await expect(kek.unwrap(wrapped, waiting())).rejects.toMatchObject(retired);
        await expect(kek.rewrap(wrapped, waiting())).rejects.toMatchObject(retired);
      }
      expect(await kek.unwrap(third, waiting())).toEqual(DEK);
      expect(await other.unwrap(third, waiting())).toEqual(DEK);
      expect(await states(kek)).toEqual(["retired", "retired", "active"]);
      // Once more changes nothing.
      await kek.retire(1, authority);
      expect(await states(kek)).toEqual(["retired", "retired", "active"]);
    });

    it("does not retire the active version, or one that is not there", async () => {
      const { kek, authority } = await fresh();
      await kek.rotate(authority);
      for (const version of [0, 2, 3])
        await expect(kek.retire(version, authority)).rejects.toMatchObject(INVALID);
      expect(await states(kek)).toEqual(["retiring", "active"]);
    });

    it("wipes nothing and keeps nothing of the data key that it is given", async () => {
      const { kek } = await fresh();
      const dek = Buffer.from(DEK);
      const wrapped = await kek.wrap(dek, waiting());
      expect(dek).toEqual(DEK);
      dek.fill(0);
      expect(await kek.unwrap(wrapped, waiting())).toEqual(DEK);
      const [one, two] = [await kek.unwrap(wrapped, waiting()), await kek.unwrap(wrapped, waiting())];
      one.fill(0);
      expect(two).toEqual(DEK);
    });
  });
}
