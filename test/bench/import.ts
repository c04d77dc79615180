import { createWriteStream, readFileSync } from "node:fs";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { AccountService } from "../../src/gen/keyturn/v1/account_service_pb.js";
import type { Bench, Benchmark, Sidecar } from "./bench.ts";
import type { Figure } from "./figure.ts";
import { ServerProcess } from "./server-process.ts";

const ACCOUNTS = 100_000;
/** Made one by one, to compare with. */
const SINGLE = 4_000;
const AT_ONCE = 64;
const SAMPLE_MS = 250;
const MIB = 2 ** 20;
const EXPIRES_AT = "2099-01-01T00:00:00Z";

/** An import is paid for with the disk and with a data key an account, as any other creation is. */
export const importBenchmark: Benchmark = {
  name: "import",
  what: `${ACCOUNTS} accounts with 600-byte tokens by the shipped command, and again; beside ${SINGLE} by CreateAccount, ${AT_ONCE} at once.`,
  async run(bench) {
    const sidecar = await bench.sidecarWithClient({ isProbed: false });
    const single = await createSingly(sidecar);
    const file = join(bench.folder(), "accounts.ndjson");
    await pipeline(lines, createWriteStream(file));
    const first = await imported(bench, sidecar, file);
    const again = await imported(bench, sidecar, file);
    return [
      { name: "imported", value: first.perSecond, unit: "accounts/s" },
      {
        name: "against CreateAccount",
        value: first.perSecond / single,
        unit: "",
        aim: { atLeast: 0.75 },
        note: `CreateAccount: ${single.toFixed(0)} accounts/s`,
      },
      { name: "found unchanged", value: again.perSecond, unit: "accounts/s" },
      ...memory(first),
    ];
  },
};

interface Imported {
  readonly perSecond: number;
  /** In MiB, over its time. */
  readonly command: readonly number[];
  readonly sidecar: readonly number[];
}

function memory({ command, sidecar }: Imported): readonly Figure[] {
  const quarter = (samples: readonly number[]) =>
    Math.max(...samples.slice(0, Math.ceil(samples.length / 4)));
  return [
    {
      name: "RSS of the command, peak",
      value: Math.max(...command),
      unit: "MiB",
      aim: { atMost: 200 },
      note: `${quarter(command).toFixed(0)} MiB in its first quarter`,
    },
    {
      name: "RSS of the sidecar, peak",
      value: Math.max(...sidecar),
      unit: "MiB",
      aim: { atMost: 300 },
      note: `${quarter(sidecar).toFixed(0)} MiB in the first quarter; it plans ${ACCOUNTS} refreshes afterwards`,
    },
  ];
}

async function imported(bench: Bench, sidecar: Sidecar, file: string): Promise<Imported> {
  const startMs = performance.now();
  const socket = join(sidecar.stateDir, "a.sock");
  const args = [bench.bundles.keyturn, "accounts", "import", file, "--socket", socket];
  const command = new ServerProcess(args, { isProbed: false });
  const samples = { command: [] as number[], sidecar: [] as number[] };
  const timer = setInterval(() => {
    samples.command.push(residentMiB(command.pid));
    samples.sidecar.push(residentMiB(sidecar.process.pid));
  }, SAMPLE_MS);
  await command.ended;
  clearInterval(timer);
  await command.says(/ 0 failed\./);
  return { perSecond: (ACCOUNTS * 1_000) / (performance.now() - startMs), ...samples };
}

function residentMiB(pid: number): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    return (Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1] ?? 0) * 1_024) / MIB;
  } catch {
    return 0; // it has just ended
  }
}

/** Accounts a second. */
async function createSingly({ admin }: Sidecar): Promise<number> {
  const expireTime = { seconds: BigInt(Date.parse(EXPIRES_AT) / 1_000), nanos: 0 };
  const startMs = performance.now();
  let next = 0;
  const one = async () => {
    for (let n = next++; n < SINGLE; n = next++) {
      const value = { accessToken: accessToken(n), refreshToken: `refresh-${n}`, expireTime };
      await admin.call(AccountService.method.createAccount, {
        accountId: `single-${n}`,
        tenant: "acme",
        provider: "simulator",
        client: "main",
        fields: { port: "9400" },
        credential: { kind: { case: "oauth", value } },
      });
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one));
  return (SINGLE * 1_000) / (performance.now() - startMs);
}

const accessToken = (n: number) => `token-${n}-`.padEnd(600, "x");

function* lines(): Generator<string> {
  for (let n = 0; n < ACCOUNTS; n += 1) {
    const oauth = { access_token: accessToken(n), refresh_token: `refresh-${n}`, expires_at: EXPIRES_AT };
    const about = { account_id: `acct-${n}`, tenant: "acme", provider: "simulator", client: "main" };
    yield `${JSON.stringify({ ...about, fields: { port: "9400" }, credential: { oauth } })}\n`;
  }
}
