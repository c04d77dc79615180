import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import type { KeyturnError } from "../../src/errors.ts";
import {
  WatchEventsRequestSchema,
  type WatchEventsResponse,
} from "../../src/gen/keyturn/v1/event_service_pb.js";
import { watchEvents } from "../../src/rpc/events/watch-events.ts";
import { anyone } from "../../src/rpc/policy.ts";
import type { EventType } from "../../src/tokens/events.ts";
import { Life } from "../fakes/life.ts";
import { MemoryStore } from "../fakes/memory-store.ts";
import { VirtualTime } from "../simulation/virtual-time.ts";

const CREATED = "integrated_account:created";
const REFRESHED = "integrated_account:token_refreshed";

function stage() {
  const time = new VirtualTime();
  const { clock } = new Life(time, 1_767_225_600_000, () => ({ wall: 0, boot: 0 }));
  const store = new MemoryStore(clock);
  const client = store.client();
  let reads = 0;
  const events = {
    ...client.events,
    setBacks: 0,
    read: (...args: Parameters<typeof client.events.read>) => {
      reads += 1;
      return client.events.read(...args);
    },
  };
  const stopping = new AbortController();
  const watching = watchEvents({ events, clock, environment: "test", stopping: stopping.signal });
  const happen = (type: EventType, accountId: string) => {
    const nobody = {
      tenant: "t",
      provider: "p",
      slot: "",
      client: "",
      labels: {},
      reason: "",
      revision: "",
      detail: {},
    };
    const event = { ...nobody, type, accountId, timeMs: clock.now() };
    store.writeNow({
      nonce: `${accountId}-${store.revision}`,
      expect: [],
      writes: [],
      events: [event],
      reads: [],
    });
  };
  /** A subscriber whose every read takes as long as `reading` says. */
  const subscribe = (
    request: { readonly afterCursor?: string; readonly types?: string[]; readonly accountIds?: string[] },
    reading: () => Promise<void> = async () => undefined,
  ) => {
    const got: { readonly atMs: number; readonly message: WatchEventsResponse }[] = [];
    const gone = new AbortController();
    const call = {
      caller: anyone("uds"),
      untilBootMs: Number.POSITIVE_INFINITY,
      rpc: "",
      signal: gone.signal,
      notes: {},
    };
    let pending = 0;
    let mostPending = 0;
    const send = async (message: unknown) => {
      pending += 1;
      mostPending = Math.max(mostPending, pending);
      got.push({ atMs: time.nowMs, message: message as WatchEventsResponse });
      await reading();
      pending -= 1;
    };
    const filled = create(WatchEventsRequestSchema, request);
    const ended = watching.stream(filled as never, call, send).then(
      () => undefined,
      (error: unknown) => error as KeyturnError,
    );
    return {
      got,
      gone,
      ended,
      mostPending: () => mostPending,
      ids: () => got.flatMap(({ message }) => message.event?.accountId ?? []),
    };
  };
  const setBack = () => (events.setBacks += 1);
  return { time, store, happen, setBack, subscribe, stopping, reads: () => reads };
}

describe("a subscription", () => {
  it("sends a heartbeat every 15 s while nothing happens", async () => {
    const { time, subscribe } = stage();
    const { got } = subscribe({});
    await time.run(60_000);
    expect(got.map(({ atMs }) => atMs)).toEqual([0, 15_000, 30_000, 45_000, 60_000]);
    expect(got.every(({ message }) => message.event === undefined)).toBe(true);
  });

  it("sends heartbeats with a cursor that moves while much happens of which nothing is wanted", async () => {
    const { time, happen, subscribe } = stage();
    const { got } = subscribe({ accountIds: ["mine"] });
    for (let second = 0; second < 60; second += 1) {
      happen(CREATED, `other-${second}`);
      await time.run(time.nowMs + 1_000);
    }
    expect(got).toHaveLength(5);
    expect(new Set(got.map(({ message }) => message.cursor)).size).toBe(5);
    const from = subscribe({ afterCursor: got.at(-1)?.message.cursor ?? "", accountIds: ["mine"] });
    happen(CREATED, "mine");
    await time.run(time.nowMs + 1);
    expect(from.ids()).toEqual(["mine"]);
  });

  it("ends when the store is set back under it: what its cursor counts has begun anew", async () => {
    const { time, setBack, subscribe } = stage();
    const { ended, got } = subscribe({});
    await time.run(1_000);
    setBack();
    await time.run(20_000);
    expect(await ended).toMatchObject({ reason: "CURSOR_EXPIRED", metadata: { cause: "store_set_back" } });
    expect(got.length).toBeLessThan(3);
  });

  it("reads no further while its subscriber does not, and has one message under way at most", async () => {
    const { time, happen, subscribe, reads } = stage();
    const { promise, resolve } = Promise.withResolvers<void>();
    const slow = subscribe({}, () => promise);
    await time.run(1);
    const before = reads();
    for (let n = 0; n < 5_000; n += 1) happen(CREATED, `a-${n}`);
    await time.run(60_000);
    expect(reads()).toBe(before);
    expect(slow.got).toHaveLength(1);
    resolve();
    await time.run(61_000);
    expect(slow.ids()).toEqual(Array.from({ length: 5_000 }, (_, n) => `a-${n}`));
    expect(slow.mostPending()).toBe(1);
  });

  it("tells a subscriber that has slept through the retention what it missed, and where to go on", async () => {
    const { time, store, happen, subscribe } = stage();
    const { promise, resolve } = Promise.withResolvers<void>();
    const slow = subscribe({}, () => promise);
    await time.run(1);
    happen(REFRESHED, "a");
    await time.run(40 * 60_000);
    store.sweepNow();
    happen(CREATED, "b");
    resolve();
    await time.run(time.nowMs + 1_000);
    const error = await slow.ended;
    expect(error).toMatchObject({ reason: "SUBSCRIBER_TOO_SLOW", metadata: { class: "refreshed" } });
    const again = subscribe({ afterCursor: error?.metadata["oldest_cursor"] ?? "" });
    await time.run(time.nowMs + 1_000);
    expect(again.ids()).toEqual(["b"]);
  });

  it("says which class a cursor is too old for, and takes it where that class is not asked for", async () => {
    const { time, store, happen, subscribe } = stage();
    const first = subscribe({});
    await time.run(1);
    const afterCursor = first.got[0]?.message.cursor ?? "";
    happen(REFRESHED, "a");
    happen(CREATED, "b");
    await time.run(40 * 60_000);
    store.sweepNow();
    const expired = subscribe({ afterCursor });
    const lifecycle = subscribe({ afterCursor, types: [CREATED] });
    await time.run(time.nowMs + 1_000);
    expect(await expired.ended).toMatchObject({ reason: "CURSOR_EXPIRED", metadata: { class: "refreshed" } });
    expect(lifecycle.ids()).toEqual(["b"]);
    await time.run(time.nowMs + 8 * 86_400_000);
    store.sweepNow();
    const late = subscribe({ afterCursor, types: [CREATED] });
    await time.run(time.nowMs + 1_000);
    expect(await late.ended).toMatchObject({ reason: "CURSOR_EXPIRED", metadata: { class: "lifecycle" } });
  });

  it("ends quietly when the subscriber has gone, and with a cursor when the sidecar stops", async () => {
    const { time, subscribe, stopping } = stage();
    const [left, stays] = [subscribe({}), subscribe({})];
    await time.run(1);
    left.gone.abort();
    await time.run(2);
    expect(await left.ended).toBeUndefined();
    stopping.abort();
    await time.run(3);
    const error = await stays.ended;
    expect(error).toMatchObject({ reason: "SHUTTING_DOWN" });
    expect(error?.metadata["cursor"]).toBe(stays.got[0]?.message.cursor);
  });

  it("never shows what only caches and schedules need to know", async () => {
    const { time, happen, subscribe } = stage();
    const all = subscribe({});
    await time.run(1);
    happen("feed:account_changed", "a");
    happen("feed:client_changed", "a");
    happen(CREATED, "b");
    await time.run(2);
    expect(all.ids()).toEqual(["b"]);
  });
});
