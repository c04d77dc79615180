import { describe, expect, it } from "vitest";
import type { Account } from "../../src/tokens/account.ts";
import { key } from "../../src/tokens/records.ts";
import { Rounds } from "../../src/tokens/rounds.ts";
import { MemoryStore } from "../fakes/memory-store.ts";
import { ManualClock } from "../store/manual-clock.ts";
import { account, slot, transaction } from "../store/samples.ts";

const DAY_MS = 86_400_000;

function setup(make: (nowMs: number) => Account) {
  const clock = new ManualClock();
  const memory = new MemoryStore(clock);
  const made = make(clock.now());
  const at = key("account", made.id);
  memory.writeNow(transaction({ writes: [{ put: at, value: made }] }));
  let ids = 0;
  const rounds = new Rounds(
    {
      clock,
      newId: () => `id-${++ids}`,
      report: () => undefined,
      store: {
        read: async (reads) => memory.readNow(reads),
        write: async (wanted) => memory.writeNow(wanted),
        scan: async (kind, after, limit) => memory.scanNow(kind, after, limit),
      },
    },
    { of: async (digest) => `keyed ${digest}` },
  );
  const once = () => rounds.once(new AbortController().signal);
  return { clock, memory, rounds, once, stored: () => memory.readNow([at]).get(at)?.value };
}

const expiringIn = (ms: number) => (nowMs: number) =>
  account("acme", {
    slots: { default: { ...slot, refreshTokenExpiresAtMs: nowMs + ms, credentialExpiresAtMs: undefined } },
  });

describe("the hourly round", () => {
  it("says once that a refresh token will end, seven days ahead and not earlier", async () => {
    const { clock, memory, once } = setup(expiringIn(7 * DAY_MS + 1));
    await once();
    expect(memory.events).toEqual([]);
    clock.advance(1);
    await once();
    await once();
    expect(memory.events.map(({ type, reason }) => [type, reason])).toEqual([
      ["integrated_account:expiring", "refresh_token"],
    ]);
  });

  it("says nothing of an account that needs its customer anyway", async () => {
    const { memory, once } = setup((nowMs) =>
      account("acme", {
        slots: {
          default: {
            ...slot,
            state: "needs_reauth",
            reauthReason: "refused",
            refreshTokenExpiresAtMs: nowMs,
          },
        },
      }),
    );
    await once();
    expect(memory.events).toEqual([]);
  });

  it("writes an account's last use at most once an hour, and without an event", async () => {
    const { clock, memory, rounds, once, stored } = setup(() => account("acme"));
    const firstMs = clock.now();
    rounds.noteUse("acme");
    await once();
    expect(stored()?.lastUsedAtMs).toBe(firstMs);
    clock.advance(3_599_999);
    rounds.noteUse("acme");
    await once();
    expect(stored()?.lastUsedAtMs).toBe(firstMs);
    clock.advance(1);
    rounds.noteUse("acme");
    await once();
    expect(stored()?.lastUsedAtMs).toBe(firstMs + 3_600_000);
    expect(memory.events).toEqual([]);
  });

  it("passes over an account that has been deleted since it was used", async () => {
    const { rounds, once } = setup(() => account("acme"));
    rounds.noteUse("gone");
    await expect(once()).resolves.toBeUndefined();
  });
});
