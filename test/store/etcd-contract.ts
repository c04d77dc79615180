import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll } from "vitest";
import { systemClock } from "../../src/clock.ts";
import { openEtcdStore } from "../../src/store/etcd/open.ts";
import { type Etcd, startEtcd } from "../backends/etcd.ts";
import type { Part } from "../backends/parts.ts";
import { describeStore } from "../contracts/store.ts";

/** The store's contract on one version of etcd; every test has an environment of its own. */
export function describeEtcd(part: Part): void {
  let etcd: Etcd;
  let environments = 0;
  beforeAll(async () => {
    etcd = await startEtcd({ part });
  });
  afterAll(() => etcd?.stop());

  describeStore(`etcd ${part.version}`, async (manual) => {
    environments += 1;
    const environment = `test-${environments}`;
    const opened = await openEtcdStore({
      access: { endpoints: etcd.urls, tls: undefined, login: undefined },
      environment,
      clock: systemClock(),
      sweepClock: manual,
      leaseBucketMs: 500,
    });
    return {
      ...opened,
      // A whole second's rounding, the bucket, and the half second in which etcd looks for ended leases.
      lease: { ttlMs: 1_000, lateMs: 2_500 },
      pass: (ms) => delay(ms),
      async close() {
        await opened.close();
        const key = Buffer.from(`/keyturn/${environment}/`).toString("base64");
        const end = Buffer.from(`/keyturn/${environment}0`).toString("base64");
        await etcd.call("kv/deleterange", { key, range_end: end });
      },
    };
  });
}
