import { existsSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { NODE_FLAGS } from "../../.ci/node-flags.ts";
import type { Benchmark } from "./bench.ts";
import type { Bundles } from "./bundles.ts";
import { answered, frameOf, Line } from "./load.ts";
import { alternate, median, spread } from "./rounds.ts";
import { ServerProcess } from "./server-process.ts";

const ID = "acct-cold";
const ROUNDS = 11;

/** From the start of the process to its first answer. */
export const coldStartBenchmark: Benchmark = {
  name: "cold-start",
  what: "From the bundle's start on a state directory with one account to the first GetToken's answer.",
  async run(bench) {
    const sidecar = await bench.sidecarWithClient();
    const vendor = await bench.vendor();
    await vendor.connect(sidecar, ID);
    await sidecar.process.stop();
    const { ours, node } = await alternate(ROUNDS, {
      ours: () => toFirstAnswer(bench.bundles, sidecar.stateDir),
      node: () => toEnd(),
    });
    return [
      {
        name: "cold start to first GetToken",
        value: median(ours),
        unit: "ms",
        aim: { atMost: 250 },
        note: spread(ours, 0),
      },
      { name: "Node itself, an empty program", value: median(node), unit: "ms", note: spread(node, 0) },
    ];
  },
};

/** From the process's start to its first answer, in milliseconds; `set` are further configuration keys. */
export async function toFirstAnswer(
  { keyturn }: Bundles,
  stateDir: string,
  {
    id = ID,
    set: further = {},
  }: { readonly id?: string; readonly set?: Readonly<Record<string, string>> } = {},
): Promise<number> {
  const socket = join(stateDir, "d.sock");
  rmSync(socket, { force: true });
  const set = [
    `state_dir=${stateDir}`,
    `listeners.data.socket=${socket}`,
    `listeners.admin.socket=${join(stateDir, "a.sock")}`,
    ...Object.entries(further).map(([name, value]) => `${name}=${value}`),
  ];
  const server = new ServerProcess([keyturn, "serve", ...set.flatMap((each) => ["--set", each])], {
    isProbed: false,
    nodeFlags: NODE_FLAGS,
  });
  try {
    while (!(await accepts(socket))) await new Promise((resolve) => setTimeout(resolve, 1));
    const line = new Line(socket);
    await answered(line, frameOf({ accountId: id }));
    const tookMs = performance.now() - server.startedMs;
    line.close();
    return tookMs;
  } finally {
    await server.stop();
  }
}

function accepts(socket: string): Promise<boolean> {
  if (!existsSync(socket)) return Promise.resolve(false);
  return new Promise((resolve) => {
    const attempt = connect(socket, () => {
      attempt.destroy();
      resolve(true);
    });
    attempt.once("error", () => resolve(false));
  });
}

async function toEnd(): Promise<number> {
  const program = new ServerProcess(["-e", "0"], { isProbed: false });
  await program.ended;
  return performance.now() - program.startedMs;
}
