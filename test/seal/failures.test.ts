import { inspect } from "node:util";
import { describe, expect, it } from "vitest";
import { KeyturnError } from "../../src/errors.ts";
import type { WrappedDek } from "../../src/seal/kek.ts";
import { ACTOR, CONTEXT, isWiped, type Sealing, sealing, sealOne } from "./setup.ts";

const turn = () => new Promise(setImmediate);

const OPERATIONS: readonly (readonly ["prepare" | "open" | "rewrap", "wrap" | "unwrap" | "rewrap"])[] = [
  ["prepare", "wrap"],
  ["open", "unwrap"],
  ["rewrap", "rewrap"],
];

/** Does `operation` on a value that was sealed while all was well. */
function doing(
  operation: "prepare" | "open" | "rewrap",
  { sealer }: Sealing,
  sealed: Awaited<ReturnType<typeof sealOne>>,
) {
  if (operation === "prepare") return sealer.prepare(CONTEXT, ACTOR);
  return operation === "open" ? sealer.open(CONTEXT, sealed, ACTOR) : sealer.rewrap(sealed, ACTOR, CONTEXT);
}

describe.each(OPERATIONS)("%s", (operation, call) => {
  it("is KEK_UNAVAILABLE when the KEK has not answered after 5 s, and not sooner", async () => {
    let hangs = false;
    let signal: AbortSignal | undefined;
    const under = await sealing((kek) => ({
      [call]: (input: Uint8Array & WrappedDek, given: AbortSignal) => {
        signal = given;
        return hangs ? new Promise(() => undefined) : kek[call](input, given);
      },
    }));
    const sealed = await sealOne(under.sealer);
    hangs = true;
    under.audited.length = 0;
    let settled = false;
    const asked = doing(operation, under, sealed).finally(() => {
      settled = true;
    });
    const refused = expect(asked).rejects.toMatchObject({
      reason: "KEK_UNAVAILABLE",
      metadata: { cause: "timeout" },
    });
    under.clock.advance(4_999);
    await turn();
    expect({ settled, aborted: signal?.aborted }).toEqual({ settled: false, aborted: false });
    under.clock.advance(1);
    await refused;
    expect(signal?.aborted).toBe(true);
    expect(under.audited.map(({ operation, outcome }) => ({ operation, outcome }))).toEqual([
      { operation: call, outcome: "KEK_UNAVAILABLE" },
    ]);
    expect(under.deks.every(isWiped)).toBe(true);
  });

  it("fails when the audit does, with its error", async () => {
    const full = new KeyturnError("STATE_DISK_FULL", "The audit trail's disk is full.");
    let isFull = false;
    const under = await sealing(undefined, async () => {
      if (isFull) throw full;
    });
    const sealed = await sealOne(under.sealer);
    await under.kek.rotate();
    isFull = true;
    await expect(doing(operation, under, sealed)).rejects.toBe(full);
    expect(under.deks.every(isWiped)).toBe(true);
  });

  it("waits for its audit record, for 5 s in all", async () => {
    let hangs = false;
    const under = await sealing(undefined, () => (hangs ? new Promise(() => undefined) : Promise.resolve()));
    const sealed = await sealOne(under.sealer);
    hangs = true;
    const refused = expect(doing(operation, under, sealed)).rejects.toMatchObject({
      reason: "STORE_UNAVAILABLE",
      metadata: { cause: "audit" },
    });
    await turn();
    under.clock.advance(5_000);
    await refused;
    expect(under.deks.every(isWiped)).toBe(true);
  });

  it("says what failed in a foreign error without quoting it", async () => {
    let broken = false;
    const foreign = Object.assign(new TypeError("POST /transit plaintext=PLANTED"), { code: "ECONNREFUSED" });
    const under = await sealing((kek) => ({
      [call]: async (input: Uint8Array & WrappedDek, given: AbortSignal) => {
        if (broken) throw foreign;
        return kek[call](input, given);
      },
    }));
    const sealed = await sealOne(under.sealer);
    broken = true;
    const error: unknown = await doing(operation, under, sealed).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({
      reason: "KEK_UNAVAILABLE",
      message: "The KEK failed (TypeError ECONNREFUSED).",
    });
    expect(inspect(error, { depth: null, showHidden: true })).not.toContain("PLANTED");
    expect(under.audited.at(-1)).toMatchObject({ operation: call, outcome: "KEK_UNAVAILABLE" });
    expect(under.deks.every(isWiped)).toBe(true);
  });
});

describe("the audit", () => {
  it("gets one record per operation: who, what for, which key, what came of it", async () => {
    const { sealer, audited, kek } = await sealing();
    const sealed = await sealOne(sealer);
    await kek.rotate();
    await sealer.open(CONTEXT, sealed, ACTOR);
    await sealer.rewrap(sealed, ACTOR);
    const elsewhere = { ...CONTEXT, id: "other" };
    await sealer.open(elsewhere, sealed, ACTOR).catch(() => undefined);
    const same = { actor: ACTOR, kekId: "local:/default" };
    expect(audited).toEqual([
      { ...same, operation: "wrap", context: CONTEXT, kekVersion: 1, outcome: "ok" },
      { ...same, operation: "unwrap", context: CONTEXT, kekVersion: 1, outcome: "ok" },
      { ...same, operation: "rewrap", context: undefined, kekVersion: 2, outcome: "ok" },
      { ...same, operation: "unwrap", context: elsewhere, kekVersion: 1, outcome: "SEAL_INVALID" },
    ]);
  });

  it("that fails on a refusal does not hide the refusal", async () => {
    let broken = false;
    const { sealer } = await sealing(undefined, async () => {
      if (broken) throw new KeyturnError("STATE_DISK_FULL", "full");
    });
    const sealed = await sealOne(sealer);
    broken = true;
    await expect(sealer.open({ ...CONTEXT, id: "other" }, sealed, ACTOR)).rejects.toMatchObject({
      reason: "SEAL_INVALID",
    });
  });
});

describe("a KEK that answers when nobody waits any more", () => {
  it("has its data key wiped, and no second record", async () => {
    const { promise, resolve } = Promise.withResolvers<Buffer>();
    const under = await sealing(() => ({ unwrap: () => promise }));
    const sealed = await sealOne(under.sealer);
    under.audited.length = 0;
    const refused = expect(under.sealer.open(CONTEXT, sealed, ACTOR)).rejects.toMatchObject({
      reason: "KEK_UNAVAILABLE",
    });
    under.clock.advance(5_000);
    await refused;
    const late = await under.kek.unwrap(
      { version: sealed.kekVersion, bytes: sealed.wrappedDek },
      new AbortController().signal,
    );
    expect(isWiped(late)).toBe(false);
    resolve(late);
    await turn();
    expect(isWiped(late)).toBe(true);
    expect(under.audited).toHaveLength(1);
  });
});
