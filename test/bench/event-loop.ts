import { randomBytes } from "node:crypto";
import { ProviderService } from "../../src/gen/keyturn/v1/provider_service_pb.js";
import type { Benchmark, Sidecar } from "./bench.ts";
import { framed, frameOf, type Line, load } from "./load.ts";
import { median } from "./rounds.ts";
import type { Vendor } from "./vendor.ts";

const ACCOUNTS = 50;
const ROUNDS = 5;
const ROUND_MS = 2_000;
const WAITERS = 500;
const GARBAGE_BYTES = 100_000;
const CORRECT_BYTES = 60_000;

/** How long one caller can be kept waiting by what another one sends. */
export const eventLoopBenchmark: Benchmark = {
  name: "event-loop",
  what: "Longest block of the sidecar's event loop under load, bursts of waiters, and malformed requests, provider files and token answers.",
  async run(bench) {
    const sidecar = await bench.sidecarWithClient();
    const vendor = await bench.vendor();
    const ids = Array.from({ length: ACCOUNTS }, (_, n) => `acct-${n}`);
    for (const id of ids) await vendor.connect(sidecar, id);
    const lines = bench.lines(sidecar.data, 8);
    const frames = ids.map((accountId) => frameOf({ accountId }));
    await load(lines, frames, { inFlight: 64, forMs: 1_500 });
    await fuzz(sidecar, vendor, lines, "warm");
    await sidecar.process.ask("watch");
    const alone: number[] = [];
    const all: number[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      await sidecar.process.ask("reset");
      await load(lines, frames, { inFlight: 64, forMs: ROUND_MS });
      alone.push((await sidecar.process.ask("reset")).loopMaxMs);
      await Promise.all([
        load(lines, frames, { inFlight: 64, forMs: ROUND_MS }),
        fuzz(sidecar, vendor, lines, `round-${round}`),
      ]);
      all.push((await sidecar.process.ask("usage")).loopMaxMs);
    }
    const range = (of: readonly number[]) => of.map((ms) => ms.toFixed(0)).join(", ");
    return [
      {
        name: "longest block, 64 in flight",
        value: median(alone),
        unit: "ms",
        aim: { atMost: 50 },
        note: range(alone),
      },
      {
        name: "longest block, with bursts and fuzz",
        value: median(all),
        unit: "ms",
        aim: { atMost: 50 },
        note: range(all),
      },
    ];
  },
};

async function fuzz(sidecar: Sidecar, vendor: Vendor, lines: readonly Line[], name: string): Promise<void> {
  const [line] = lines;
  if (line === undefined) return;
  const faults = [
    { kind: "huge_body", bytes: 5_000_000, redeems: false },
    { kind: "wrong_shape" },
    { kind: "html_502" },
    { kind: "truncate" },
    { kind: "expires_in", as: "nonsense" },
  ];
  for (const fault of faults)
    await vendor.fault({ ...fault, times: 1, subject: `${name}-bad-${fault.kind}` });
  for (const { kind } of faults) {
    const id = `${name}-bad-${kind}`;
    await vendor.connect(sidecar, id, { expired: true });
    await line.call(frameOf({ accountId: id }));
  }
  const burst = `${name}-burst`;
  await vendor.connect(sidecar, burst, { expired: true });
  const waiters = Array.from({ length: WAITERS }, (_, n) => lines[n % lines.length] ?? line);
  await Promise.all(waiters.map((each) => each.call(frameOf({ accountId: burst }))));
  for (let n = 0; n < 20; n += 1) await line.call(framed(randomBytes(GARBAGE_BYTES)));
  await line.call(
    frameOf({ accountId: "x".repeat(CORRECT_BYTES), rejectedRevision: "y".repeat(CORRECT_BYTES) }),
  );
  for (const text of malformedFiles()) {
    await sidecar.admin
      .call(ProviderService.method.lintProvider, { name: "fuzz", text })
      .catch(() => undefined);
  }
}

/** Provider files that try to keep the one who reads them busy. */
function malformedFiles(): readonly string[] {
  const base = "credentials:\n  format: oauth2\n  config:\n    auth:\n      tokenHost: https://a.example\n";
  return [
    `a: ${"[".repeat(2_000)}`,
    `a: &a [x]\n${Array.from({ length: 30 }, (_, n) => `b${n}: &b${n} [*a, *a]`).join("\n")}`,
    `${base}errors: "${"(".repeat(3_000)}"\n`,
    `${base}errors: "$map([1..1e7], function($x){$x})"\n`,
    `${base}errors: '{"class": $match(body.error, /(a+)+$/)}'\n`,
    randomBytes(20_000).toString("latin1"),
  ];
}
