import { Agent } from "node:http";
import { freePort } from "../backends/ports.ts";
import type { Benchmark } from "./bench.ts";
import { exchange, latencies } from "./latencies.ts";
import { median, quantile } from "./rounds.ts";

const ID = "acct-warm";
const IN_FLIGHT = 16;

/** For reference: the hot path is gRPC. */
export const httpBenchmark: Benchmark = {
  name: "http",
  what: "A warm GetToken in JSON over the HTTP listener, HTTP/1.1 with kept connections.",
  async run(bench) {
    const port = await freePort();
    const tcp = "listeners.http.tcp";
    const set = { [`${tcp}.port`]: String(port), [`${tcp}.allow_unauthenticated`]: "true" };
    const sidecar = await bench.sidecarWithClient({ set });
    const vendor = await bench.vendor();
    await vendor.connect(sidecar, ID, { accessTokenLength: 600 });
    const body = JSON.stringify({ accountId: ID });
    const headers = { "content-type": "application/json", "connect-protocol-version": "1" };
    const agent = new Agent({ keepAlive: true, maxSockets: IN_FLIGHT });
    const path = "/keyturn.v1.CredentialService/GetToken";
    const call = () => exchange({ host: "127.0.0.1", port, path, method: "POST", headers, agent }, body);
    const rates: number[] = [];
    const taken: number[] = [];
    for (let round = 0; round <= 8; round += 1) {
      const ms = await latencies(call, { inFlight: IN_FLIGHT, forMs: 500 });
      if (round === 0) continue;
      rates.push(ms.length / 0.5);
      taken.push(...ms);
    }
    agent.destroy();
    return [
      { name: `${IN_FLIGHT} in flight`, value: median(rates), unit: "requests/s" },
      { name: "p50", value: quantile(taken, 0.5), unit: "ms" },
      { name: "p99", value: quantile(taken, 0.99), unit: "ms" },
    ];
  },
};
