import type { Bench, Benchmark } from "./bench.ts";
import type { Figure } from "./figure.ts";
import { answered, frameOf, type Line, load } from "./load.ts";
import { alternate, median, ratios, spread } from "./rounds.ts";
import type { ServerProcess } from "./server-process.ts";

const ID = "acct-warm";
/** About what a JWT access token has. */
const TOKEN_LENGTH = 600;
const AIM = { atLeast: 0.95 };

interface Slice {
  readonly perSecond: number;
  readonly cpuMicros: number;
}

/** Compared with a server of the same libraries that does nothing. */
export const getTokenBenchmark: Benchmark = {
  name: "get-token",
  what: "A warm GetToken against a bare grpc-js and protobuf-es server that gives the same answer to the same request.",
  async run(bench) {
    const sidecar = await bench.sidecarWithClient();
    const vendor = await bench.vendor();
    await vendor.connect(sidecar, ID, { accessTokenLength: TOKEN_LENGTH });
    const frame = frameOf({ accountId: ID });
    const [first] = bench.lines(sidecar.data, 1);
    if (first === undefined) return [];
    const answer = await answered(first, frame);
    const echo = await bench.echo(answer);
    return warm(bench, { ours: sidecar, bare: echo }, { frame, aim: AIM });
  },
};

interface Server {
  readonly process: ServerProcess;
  readonly data: string;
}

/** One call, answered from memory, at 64 in flight and alone. `path`: of the call, when it is not GetToken. */
export async function warm(
  bench: Bench,
  { ours, bare }: { readonly ours: Server; readonly bare: Server },
  { frame, path, aim }: { readonly frame: Buffer; readonly path?: string; readonly aim: Aim },
): Promise<readonly Figure[]> {
  const figures: Figure[] = [];
  for (const { inFlight, connections, rounds, forMs } of [
    { inFlight: 64, connections: 4, rounds: 16, forMs: 700 },
    { inFlight: 1, connections: 1, rounds: 16, forMs: 400 },
  ]) {
    const slice = (server: Server) => {
      const lines = bench.lines(server.data, connections);
      return () => measure(server.process, lines, frame, { inFlight, forMs, ...(path && { path }) });
    };
    figures.push(...(await against(`${inFlight} in flight`, rounds, slice(ours), slice(bare), aim)));
  }
  return figures;
}

interface Aim {
  readonly atLeast: number;
}

/** Requests a second and CPU per request of ours as ratios of the bare one's, and what they come from. */
async function against(
  at: string,
  rounds: number,
  oursOnce: () => Promise<Slice>,
  bareOnce: () => Promise<Slice>,
  aim: Aim,
): Promise<readonly Figure[]> {
  const { ours, bare } = await alternate(rounds, { ours: oursOnce, bare: bareOnce });
  const byRate = ratios(ours, bare, ({ perSecond }) => perSecond);
  const byCpu = ratios(bare, ours, ({ cpuMicros }) => cpuMicros);
  return [
    {
      name: `requests/s, ${at}: ours / bare`,
      value: median(byRate),
      unit: "",
      aim,
      note: spread(byRate),
    },
    {
      name: `server CPU, ${at}: bare / ours`,
      value: median(byCpu),
      unit: "",
      aim,
      note: spread(byCpu),
    },
    ...absolute(at, ours, bare),
  ];
}

async function measure(
  server: ServerProcess,
  lines: readonly Line[],
  frame: Buffer,
  how: { readonly inFlight: number; readonly forMs: number; readonly path?: string },
): Promise<Slice> {
  const before = await server.ask("usage");
  const { requests, elapsedMs } = await load(lines, [frame], how);
  const after = await server.ask("usage");
  return {
    perSecond: (requests * 1_000) / elapsedMs,
    cpuMicros: (after.cpuMicros - before.cpuMicros) / requests,
  };
}

function absolute(at: string, ours: readonly Slice[], bare: readonly Slice[]): readonly Figure[] {
  const perSecond = (of: readonly Slice[]) => median(of.map((slice) => slice.perSecond));
  const cpu = (of: readonly Slice[]) => median(of.map((slice) => slice.cpuMicros));
  return [
    {
      name: `${at}: ours`,
      value: perSecond(ours),
      unit: "requests/s",
      note: `${cpu(ours).toFixed(0)} µs CPU each`,
    },
    {
      name: `${at}: bare`,
      value: perSecond(bare),
      unit: "requests/s",
      note: `${cpu(bare).toFixed(0)} µs CPU each`,
    },
  ];
}
