import { describe, expect, it } from "vitest";
import { KeyturnError } from "../../src/errors.ts";
import type { BulkProgress, BulkResult } from "../../src/tokens/bulk-refresh.ts";
import { Secret } from "../../src/tokens/secret.ts";
import { REAUTH } from "../fakes/vendors.ts";
import { HOUR_MS, MINUTE_MS, SECOND_MS, Stage, storeAway } from "./stage.ts";

const ALL = { provider: "vendor", client: "", tenant: "", labels: {} };
const ACTOR = { caller: "operator", purpose: "bulk_refresh" };

function callerWith(signal = new AbortController().signal) {
  return { actor: ACTOR, sees: () => true, signal };
}

async function all(progress: AsyncIterable<BulkProgress>, each?: (progress: BulkProgress) => void) {
  const results: BulkResult[] = [];
  let last: BulkProgress | undefined;
  for await (const one of progress) {
    each?.(one);
    if (one.result !== undefined) results.push(one.result);
    last = one;
  }
  if (last === undefined) throw new Error("no word at all");
  return { results, last };
}

async function stageOf(count: number, options: Parameters<typeof Stage.open>[0] = {}) {
  const stage = await Stage.open(options);
  await stage.start();
  for (let n = 0; n < count; n += 1) await stage.connect(`a${n}`, HOUR_MS);
  return stage;
}

describe("a bulk refresh", () => {
  it("refreshes every selected account once, whatever validity is left, with a result for each", async () => {
    const stage = await stageOf(20);
    const { results, last } = await stage.within(
      MINUTE_MS,
      all(stage.heart.bulkRefresh.start(ALL, false, callerWith())),
    );
    expect(results.map(({ outcome }) => outcome)).toEqual(Array(20).fill("refreshed"));
    expect(new Set(stage.vendors.sent.map(({ accountId }) => accountId)).size).toBe(20);
    expect(stage.vendors.sent).toHaveLength(20);
    expect(last).toMatchObject({ done: 20, failed: 0, total: 20, finished: true });
  });

  it("leaves out what nobody can refresh, says why, and asks no provider on a dry run", async () => {
    const stage = await stageOf(3);
    await stage.heart.accounts.disable("a0");
    await stage.create("key", {
      kind: "api_key",
      versions: [{ version: "1", state: "active", createdAtMs: 0, values: { api_key: new Secret("k") } }],
      expiresAtMs: undefined,
    });
    const dry = await stage.within(MINUTE_MS, all(stage.heart.bulkRefresh.dryRun(ALL, callerWith())));
    expect(stage.vendors.sent).toHaveLength(0);
    const wet = await stage.within(MINUTE_MS, all(stage.heart.bulkRefresh.start(ALL, false, callerWith())));
    const told = (results: readonly BulkResult[]) =>
      results.map(({ accountId, outcome, reason }) => `${accountId} ${outcome} ${reason ?? ""}`).sort();
    expect(told(dry.results)).toEqual(told(wet.results));
    expect(told(wet.results)).toEqual([
      "a0 skipped ACCOUNT_DISABLED",
      "a1 refreshed ",
      "a2 refreshed ",
      "key skipped ",
    ]);
  });

  it("leaves a quarter of the places to callers, who wait for none of it", async () => {
    const stage = await stageOf(40, { caps: { maxConcurrent: 4 } });
    await stage.connect("live");
    stage.vendors.always = { kind: "grant", afterMs: 5 * SECOND_MS };
    const bulk = all(stage.heart.bulkRefresh.start(ALL, false, callerWith()));
    await stage.pass(2 * SECOND_MS);
    expect(stage.vendors.inFlight).toBe(3);
    const started = stage.time.nowMs;
    const got = await stage.ask("live");
    expect(got.reason).toBeUndefined();
    expect(got.atMs - started).toBeLessThan(5 * SECOND_MS + 500);
    await stage.within(10 * MINUTE_MS, bulk);
    expect(stage.vendors.mostInFlight).toBeLessThanOrEqual(4);
  });

  it("waits while a client cools down, and goes on then", async () => {
    const stage = await stageOf(5);
    stage.vendors.next.push({ kind: "refuse", class: "rate_limited", retryAfterMs: 30 * SECOND_MS });
    const { results } = await stage.within(
      10 * MINUTE_MS,
      all(stage.heart.bulkRefresh.start(ALL, false, callerWith())),
    );
    expect(results.filter(({ outcome }) => outcome === "refreshed").length).toBeGreaterThanOrEqual(4);
    expect(stage.time.nowMs).toBeGreaterThan(30 * SECOND_MS);
  });

  it("waits while the store is away, and fails nobody for it", async () => {
    const stage = await stageOf(5, { caps: { maxConcurrent: 1 } });
    stage.vendors.always = { kind: "grant", afterMs: SECOND_MS };
    const bulk = all(stage.heart.bulkRefresh.start(ALL, true, callerWith()), ({ done }) => {
      if (done === 1) stage.storeTrouble.fail(storeAway);
    });
    await stage.pass(20 * SECOND_MS);
    stage.storeTrouble.end();
    const { results } = await stage.within(10 * MINUTE_MS, bulk);
    expect(results.map(({ outcome }) => outcome)).toEqual(Array(5).fill("refreshed"));
  });

  it.each([
    ["STORE_FULL", "an answer is on its way"],
    ["STORE_FULL", "nothing is on its way"],
    ["STATE_DISK_FULL", "nothing is on its way"],
  ] as const)(
    "waits out %s that begins while %s, fails nobody for it, and sends nothing twice",
    async (reason, moment) => {
      const isAwaited = moment === "an answer is on its way";
      let isFull = false;
      const refuse = () => Promise.reject(new KeyturnError(reason, "no room"));
      const stage = await stageOf(5, {
        caps: { maxConcurrent: 1 },
        around: (world) => ({
          ...world,
          store: {
            ...world.store,
            write: (asked) => (isFull && reason === "STORE_FULL" ? refuse() : world.store.write(asked)),
          },
          journal: {
            ...world.journal,
            reserve: () => (isFull && reason === "STATE_DISK_FULL" ? refuse() : world.journal.reserve()),
          },
        }),
      });
      stage.vendors.always = () => {
        if (isAwaited && stage.vendors.sent.length === 2) isFull = true;
        return { kind: "grant", afterMs: SECOND_MS };
      };
      const bulk = all(stage.heart.bulkRefresh.start(ALL, true, callerWith()), ({ done }) => {
        if (!isAwaited && done === 1) isFull = true;
      });
      await stage.pass(20 * SECOND_MS);
      expect(stage.vendors.sent.length).toBeLessThan(3);
      isFull = false;
      const { results } = await stage.within(10 * MINUTE_MS, bulk);
      expect(results.map(({ outcome }) => outcome)).toEqual(Array(5).fill("refreshed"));
      expect(stage.vendors.sent).toHaveLength(5);
      expect([...stage.vendors.revokedAlone].sort()).toEqual(["at-a0", "at-a1", "at-a2", "at-a3", "at-a4"]);
    },
  );

  it("names what the provider refused, and goes on with the others", async () => {
    const stage = await stageOf(3);
    stage.vendors.always = (sent) => (sent.accountId === "a1" ? REAUTH : { kind: "grant" });
    const { results, last } = await stage.within(
      MINUTE_MS,
      all(stage.heart.bulkRefresh.start(ALL, false, callerWith())),
    );
    const refused = results.find(({ accountId }) => accountId === "a1");
    expect(refused).toMatchObject({ outcome: "failed", reason: "REAUTHORIZATION_REQUIRED" });
    expect(last).toMatchObject({ done: 3, failed: 1 });
  });

  it("ends each replaced access token at the provider when asked to, and never a current one", async () => {
    const stage = await stageOf(3);
    await stage.within(MINUTE_MS, all(stage.heart.bulkRefresh.start(ALL, true, callerWith())));
    expect([...stage.vendors.revokedAlone].sort()).toEqual(["at-a0", "at-a1", "at-a2"]);
    expect(stage.vendors.revoked).toEqual([]);
  });

  it("killed in the midst of it, it goes on without a second refresh of what it had not yet written down", async () => {
    const stage = await stageOf(40, { caps: { maxConcurrent: 4 } });
    await stage.pass(SECOND_MS);
    stage.vendors.always = { kind: "grant", afterMs: 50 };
    let jobId = "";
    const beganMs = stage.time.nowMs;
    const killed = stage.heart.bulkRefresh.start(ALL, false, callerWith());
    void all(killed, (one) => {
      jobId = one.jobId ?? "";
    });
    // Less than it takes until it is written down for the first time.
    await stage.pass(500);
    stage.kill();
    const before = stage.vendors.sent.length;
    expect(before).toBeGreaterThan(20);
    stage.revive();
    await stage.start();
    const { last } = await stage.within(
      10 * MINUTE_MS,
      all(stage.heart.bulkRefresh.resume(jobId, callerWith())),
    );
    expect(last).toMatchObject({ done: 40, total: 40, finished: true });
    const asked = Map.groupBy(stage.vendors.sent, ({ accountId }) => accountId);
    expect(asked.size).toBe(40);
    // What was sent in the very millisecond in which it began is not certainly newer.
    const twice = [...asked.values()].filter((sent) => sent.length > 1);
    expect(twice.filter(([once]) => once?.atMs !== beganMs)).toEqual([]);
  });

  it("goes on where it was stopped, on a new life of the sidecar, without a second refresh of what was done", async () => {
    const stage = await stageOf(200, { caps: { maxConcurrent: 4 } });
    const stop = new AbortController();
    let jobId = "";
    const first = all(stage.heart.bulkRefresh.start(ALL, false, callerWith(stop.signal)), (one) => {
      jobId = one.jobId ?? "";
      if (one.done === 60) stop.abort();
    });
    const stopped = await stage.within(
      10 * MINUTE_MS,
      first.then(
        () => "done",
        () => "stopped",
      ),
    );
    expect(stopped).toBe("stopped");
    stage.kill();
    stage.revive();
    await stage.start();
    const { last } = await stage.within(
      10 * MINUTE_MS,
      all(stage.heart.bulkRefresh.resume(jobId, callerWith())),
    );
    expect(last).toMatchObject({ done: 200, total: 200, finished: true });
    const asked = Map.groupBy(stage.vendors.sent, ({ accountId }) => accountId);
    expect(asked.size).toBe(200);
    expect(stage.vendors.sent).toHaveLength(200);
    const unknown = await all(stage.heart.bulkRefresh.resume("nobody", callerWith())).catch((error) => error);
    expect(unknown).toBeInstanceOf(KeyturnError);
  });
});
