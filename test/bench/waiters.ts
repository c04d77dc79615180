import type { Benchmark } from "./bench.ts";
import { answered, frameOf } from "./load.ts";
import { median, quantile, spread } from "./rounds.ts";

const WAITERS = 500;
const CONNECTIONS = 20;
const ROUNDS = 7;
/** Long enough for all of them to have asked before the vendor answers. */
const VENDOR_MS = 600;

/** How soon those who waited for a refresh have its token. */
export const waitersBenchmark: Benchmark = {
  name: "waiters",
  what: `${WAITERS} callers over ${CONNECTIONS} connections wait for one refresh that takes the vendor ${VENDOR_MS} ms.`,
  async run(bench) {
    const sidecar = await bench.sidecarWithClient();
    const vendor = await bench.vendor();
    await vendor.fault({ kind: "hang", ms: VENDOR_MS, endpoint: "token" });
    const lines = bench.lines(sidecar.data, CONNECTIONS);
    const sinceVendor: number[] = [];
    const sinceFirst: number[] = [];
    // The first round warms up.
    for (let round = 0; round <= ROUNDS; round += 1) {
      const id = `acct-${round}`;
      await vendor.connect(sidecar, id, { expired: true });
      const frame = frameOf({ accountId: id });
      const atMs = await Promise.all(
        Array.from({ length: WAITERS }, async (_, n) => {
          const line = lines[n % lines.length];
          if (line !== undefined) await answered(line, frame);
          return performance.timeOrigin + performance.now();
        }),
      );
      if (round === 0) continue;
      const vendorAtMs = await vendor.lastAnswerAtMs();
      const firstAtMs = Math.min(...atMs);
      sinceVendor.push(
        quantile(
          atMs.map((at) => at - vendorAtMs),
          0.99,
        ),
      );
      sinceFirst.push(
        quantile(
          atMs.map((at) => at - firstAtMs),
          0.99,
        ),
      );
    }
    const requests = await vendor.tokenRequests();
    return [
      {
        name: "p99 after the vendor's answer, with its saving",
        value: median(sinceVendor),
        unit: "ms",
        aim: { atMost: 50 },
        note: spread(sinceVendor, 1),
      },
      {
        name: "p99 after the first waiter's answer",
        value: median(sinceFirst),
        unit: "ms",
        note: spread(sinceFirst, 1),
      },
      { name: "token requests per round", value: requests / (ROUNDS + 1), unit: "", aim: { atMost: 1 } },
    ];
  },
};
