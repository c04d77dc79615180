import { fromBinary } from "@bufbuild/protobuf";
import { GetTokenResponseSchema } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { OAuthClientService } from "../../src/gen/keyturn/v1/oauth_client_service_pb.js";
import type { Benchmark, Sidecar } from "./bench.ts";
import { answered, frameOf, type Line } from "./load.ts";
import { alternate, median, spread } from "./rounds.ts";

const ACCOUNTS = 1_200;
const ROUNDS = 2;
const CAPS = [16, 64] as const;

/** Refreshes are paid for with the disk: an attempt, a kept answer and a commit each. */
export const refreshesBenchmark: Benchmark = {
  name: "refreshes",
  what: `Refreshes per second against the simulator, each a durable attempt, a kept answer and a commit; ${ACCOUNTS} accounts at once.`,
  async run(bench) {
    const sidecar = await bench.sidecarWithClient();
    const vendor = await bench.vendor();
    const lines = bench.lines(sidecar.data, 8);
    let batch = 0;
    const contestant = (cap: number) => async () => {
      batch += 1;
      await putCap(sidecar, cap);
      const ids = Array.from({ length: ACCOUNTS / (ROUNDS + 1) }, (_, n) => `acct-${batch}-${n}`);
      await Promise.all(ids.map((id) => vendor.connect(sidecar, id)));
      const frames = await Promise.all(ids.map((id, n) => rejecting(lines[n % lines.length], id)));
      const before = await sidecar.process.ask("usage");
      const requestsBefore = await vendor.tokenRequests();
      const startMs = performance.now();
      await Promise.all(frames.map((frame, n) => asked(lines[n % lines.length], frame)));
      const elapsedMs = performance.now() - startMs;
      const after = await sidecar.process.ask("usage");
      const refreshed = (await vendor.tokenRequests()) - requestsBefore;
      if (refreshed !== ids.length) throw new Error(`${refreshed} token requests for ${ids.length} accounts`);
      return {
        perSecond: (ids.length * 1_000) / elapsedMs,
        cpuMs: (after.cpuMicros - before.cpuMicros) / ids.length / 1_000,
      };
    };
    const results = await alternate(ROUNDS, { "16": contestant(CAPS[0]), "64": contestant(CAPS[1]) });
    return Object.entries(results).map(([cap, rounds]) => {
      const rates = rounds.map(({ perSecond }) => perSecond);
      const cpuMs = median(rounds.map((round) => round.cpuMs));
      return {
        name: `max_concurrent ${cap}`,
        value: median(rates),
        unit: "refreshes/s",
        note: `${cpuMs.toFixed(2)} ms CPU each; ${spread(rates, 0)}`,
      };
    });
  },
};

function putCap({ admin }: Sidecar, maxConcurrent: number) {
  return admin.call(OAuthClientService.method.putClient, {
    provider: "simulator",
    name: "main",
    clientId: "demo-client",
    caps: { maxConcurrent },
  });
}

/** A request that says the token in hand was rejected, which makes the sidecar refresh it. */
export async function rejecting(line: Line | undefined, accountId: string): Promise<Buffer> {
  const answer = await asked(line, frameOf({ accountId }));
  return frameOf({ accountId, rejectedRevision: fromBinary(GetTokenResponseSchema, answer).revision });
}

export function asked(line: Line | undefined, frame: Buffer): Promise<Buffer> {
  if (line === undefined) throw new Error("there is no line");
  return answered(line, frame);
}
