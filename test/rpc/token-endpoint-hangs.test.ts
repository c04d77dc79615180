import { describe, expect, it } from "vitest";
import { reasonOf } from "../e2e/harness.ts";
import { checkOf } from "./authz/checking.ts";
import { doors } from "./doors.ts";
import { proxyOf } from "./proxy/stage.ts";

const HANG_MS = 45_000;
/** On a busy machine. */
const LATE_MS = 4_000;

describe("a token endpoint that hangs for 45 s", () => {
  it("holds nobody longer than 30 s through Proxy and Check, nor any other account, and is asked once", async () => {
    const at = await doors();
    for (const subject of ["proxied", "checked"])
      at.simulator.faults.add({ kind: "hang", ms: HANG_MS, endpoint: "token", subject, times: 1 });
    for (const [door, provider] of [
      ["proxied", "api"],
      ["checked", "oauth"],
    ] as const) {
      for (const id of [door, `${door}-too`]) await at.have(id, provider);
      await at.have(`${door}-warm`, provider, { expired: false });
    }

    const startMs = performance.now();
    const after = async <T>(work: Promise<T>) => [await work, performance.now() - startMs] as const;
    const proxied = after(
      proxyOf(at.data, { accountId: "proxied" }, { deadlineMs: 120_000 }).catch(reasonOf),
    );
    const checked = after(checkOf(at.data, "checked", 120_000));
    const inEnvoy = after(at.throughEnvoy("checked"));
    // Others, valid or to be refreshed themselves, go on meanwhile.
    for (const accountId of ["proxied-warm", "proxied-too"])
      expect((await proxyOf(at.data, { accountId })).status).toBe(200);
    for (const account of ["checked-warm", "checked-too"])
      expect(await at.throughEnvoy(account)).toMatchObject({ status: 200 });
    expect(performance.now() - startMs).toBeLessThan(LATE_MS);

    const [denied, deniedMs] = await inEnvoy;
    expect([denied.status, JSON.parse(denied.body).reason]).toEqual([503, "WAIT_TIMED_OUT"]);
    expect(deniedMs).toBeLessThan(5_000);
    for (const [result, atMs] of [await proxied, await checked]) {
      expect(result).toEqual(
        typeof result === "string"
          ? "REFRESH_UNCERTAIN"
          : { status: 503, reason: "REFRESH_UNCERTAIN", authorization: undefined },
      );
      expect(atMs).toBeGreaterThan(29_000);
      expect(atMs).toBeLessThan(30_000 + LATE_MS);
    }
    expect(at.api.seen.map(({ url }) => url)).toHaveLength(2);

    // The answer comes after all, and is what the next ones go out with.
    const patience = { timeout: 30_000, interval: 500 };
    await expect
      .poll(() => proxyOf(at.data, { accountId: "proxied" }).then(({ status }) => status, reasonOf), patience)
      .toBe(200);
    await expect.poll(async () => (await at.throughEnvoy("checked")).status, patience).toBe(200);
    expect(performance.now() - startMs).toBeGreaterThan(HANG_MS - 1_000);
    expect([at.asked("proxied"), at.asked("checked")]).toEqual([1, 1]);
  }, 120_000);
});
