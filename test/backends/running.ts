import { type ChildProcess, spawn } from "node:child_process";
import { setTimeout as delay } from "node:timers/promises";

const START_WITHIN_MS = 20_000;
const LOOK_AGAIN_MS = 30;
const KEPT_OUTPUT = 100_000;

const living = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of living) child.kill("SIGKILL");
});

/** A server in a process of its own. */
export interface Running {
  readonly pid: number;
  /** The last of what it has written, both streams. */
  output(): string;
  /** SIGSTOP: its sockets stay open and nobody answers. */
  freeze(): void;
  /** SIGCONT. */
  thaw(): void;
  /** SIGKILL, and waits for the end. */
  kill(): Promise<void>;
}

/** Starts a server and waits until `isReady`; the end of its output as an error when it does not come up. */
export async function start(
  binary: string,
  args: readonly string[],
  isReady: () => Promise<boolean>,
): Promise<Running> {
  const child = spawn(binary, args, { stdio: ["ignore", "pipe", "pipe"], env: { HOME: "/nonexistent" } });
  living.add(child);
  let output = "";
  const keep = (chunk: Buffer) => {
    output = (output + chunk.toString("utf8")).slice(-KEPT_OUTPUT);
  };
  child.stdout.on("data", keep);
  child.stderr.on("data", keep);
  const ended = new Promise<void>((resolve) => {
    child.once("error", (error) => {
      output += error.message;
      resolve();
    });
    child.once("close", () => resolve());
  }).then(() => living.delete(child));
  const kill = async () => {
    child.kill("SIGKILL");
    await ended;
  };
  const until = Date.now() + START_WITHIN_MS;
  while (!(await isReady().catch(() => false))) {
    if (living.has(child) && Date.now() < until) {
      await delay(LOOK_AGAIN_MS);
      continue;
    }
    await kill();
    throw new Error(`${binary} did not come up: ${output.slice(-2_000)}`);
  }
  return {
    pid: child.pid ?? 0,
    output: () => output,
    freeze: () => void child.kill("SIGSTOP"),
    thaw: () => void child.kill("SIGCONT"),
    kill,
  };
}
