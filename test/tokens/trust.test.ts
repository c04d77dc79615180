import { describe, expect, it } from "vitest";
import { KeyturnError } from "../../src/errors.ts";
import type { EventLog } from "../../src/tokens/store.ts";
import { Trust } from "../../src/tokens/trust.ts";
import { MemoryStore } from "../fakes/memory-store.ts";
import { ManualClock } from "../store/manual-clock.ts";

const away = new KeyturnError("STORE_UNAVAILABLE", "away");

function stage(maxStaleMs?: number) {
  const clock = new ManualClock();
  const { store, events } = new MemoryStore(clock).client();
  const feed = { isCurrent: true, currentAtBootMs: clock.boot() };
  const line = { isUp: true, asked: 0 };
  const log: EventLog = {
    identity: events.identity,
    read: events.read,
    bounds: events.bounds,
    follow: events.follow,
    get isCurrent() {
      return feed.isCurrent;
    },
    get currentAtBootMs() {
      return feed.currentAtBootMs;
    },
  };
  const trust = new Trust({
    clock,
    events: log,
    store: {
      ...store,
      read: async (reads) => {
        line.asked += 1;
        if (!line.isUp) throw away;
        return store.read(reads);
      },
    },
    ...(maxStaleMs === undefined ? {} : { maxStaleMs }),
  });
  let reads = 0;
  const recheck = () =>
    trust.recheck(async () => {
      reads += 1;
      if (!line.isUp) throw away;
    });
  return { clock, feed, line, trust, recheck, reads: () => reads };
}

describe("what is remembered", () => {
  it("is trusted as long as the feed is whole, and read again when it is not", async () => {
    const { feed, trust, recheck, reads } = stage();
    expect(trust.isGiven).toBe(true);
    feed.isCurrent = false;
    expect(trust.isGiven).toBe(false);
    await recheck();
    await recheck();
    expect(reads()).toBe(2);
  });

  it("is served while the store is away, and only the first who asks waits for that", async () => {
    const { clock, feed, line, recheck, reads } = stage();
    feed.isCurrent = false;
    line.isUp = false;
    await recheck();
    await recheck();
    await recheck();
    expect(reads()).toBe(1);
    line.isUp = true;
    clock.advance(1_000);
    await recheck();
    await new Promise(setImmediate);
    await recheck();
    expect(reads()).toBe(2);
  });

  it("is refused once it is older than the configuration permits, and not before", async () => {
    const { clock, feed, line, recheck } = stage(30_000);
    feed.isCurrent = false;
    line.isUp = false;
    clock.advance(30_000);
    await recheck();
    clock.advance(1);
    await expect(recheck()).rejects.toMatchObject({
      reason: "STORE_UNAVAILABLE",
      metadata: { cause: "cache_too_old" },
    });
  });

  it("passes on what is no matter of the store's being away", async () => {
    const { trust } = stage();
    const late = new KeyturnError("WAIT_TIMED_OUT", "late");
    await expect(trust.recheck(() => Promise.reject(late))).rejects.toBe(late);
  });
});
