import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { Caller } from "./harness.ts";

const main = join(import.meta.dirname, "../../src/main.ts");

/** `keyturn serve` in a process of its own. */
export interface Serving {
  readonly child: ChildProcess;
  readonly stateDir: string;
  readonly data: Caller;
  readonly admin: Caller;
  readonly log: () => string;
  /** The exit code, or the signal's name. */
  readonly exited: Promise<number | string>;
  /** Sends the signal and waits for the end. */
  end(signal: "SIGTERM" | "SIGKILL"): Promise<number | string>;
}

export interface ServeOptions {
  readonly stateDir: string;
  /** Lines of YAML beside state directory and sockets. */
  readonly config?: string;
  /** Further words of the command: `--after-restore`. */
  readonly words?: readonly string[];
  /** Names the sockets, for two processes on one state directory. */
  readonly name?: string;
  /** A script in the place of the program; it is given the configuration file and these words. */
  readonly script?: readonly [file: string, ...words: string[]];
  /** Takes what ends the process, for those that outlive a test. */
  readonly onEnd?: OnEnd;
  /** Node's own flags. */
  readonly flags?: readonly string[];
  /** Beside this process's own. */
  readonly env?: Readonly<Record<string, string>>;
}

/** Registers what is to be done at the end. */
export type OnEnd = (work: () => Promise<void>) => void;

/** Writes the configuration file, and names it. */
export function writeConfig({
  stateDir,
  config = "",
  name = "s",
}: Pick<ServeOptions, "stateDir" | "config" | "name">): string {
  mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  const file = join(stateDir, `${name}.yaml`);
  const sockets = socketsOf(stateDir, name);
  const lines = [
    "version: 1",
    `state_dir: ${stateDir}`,
    "listeners:",
    `  data: { socket: ${sockets.data} }`,
    `  admin: { socket: ${sockets.admin} }`,
    config,
  ];
  writeFileSync(file, lines.join("\n"));
  return file;
}

function socketsOf(stateDir: string, name: string) {
  return { data: join(stateDir, `${name}-data.sock`), admin: join(stateDir, `${name}-admin.sock`) };
}

/** Spawns without waiting for anything. */
export function spawnServe({
  stateDir,
  config = "",
  name = "s",
  script,
  onEnd,
  flags = [],
  env = {},
  words = [],
}: ServeOptions): Serving {
  const sockets = socketsOf(stateDir, name);
  const file = writeConfig({ stateDir, config, name });
  const args =
    script === undefined
      ? [main, "serve", "--config", file, ...words]
      : [script[0], file, ...script.slice(1)];
  const child = spawn(process.execPath, [...flags, ...args], {
    stdio: ["ignore", "ignore", "pipe"],
    env: { ...process.env, ...env },
  });
  let log = "";
  child.stderr?.on("data", (chunk) => {
    log += chunk;
  });
  const exited = new Promise<number | string>((resolve) =>
    child.once("close", (code, signal) => resolve(code ?? signal ?? "unknown")),
  );
  const data = new Caller(`unix:${sockets.data}`);
  const admin = new Caller(`unix:${sockets.admin}`);
  const end = (signal: "SIGTERM" | "SIGKILL") => {
    data.close();
    admin.close();
    if (child.exitCode === null && child.signalCode === null) {
      child.kill(signal);
      // A stopped one does not hear the other signals.
      child.kill("SIGCONT");
    }
    return exited;
  };
  (onEnd ?? onTestFinished)(async () => {
    await end("SIGKILL");
  });
  return { child, stateDir, data, admin, log: () => log, exited, end };
}

/** Serves; the whole log as an error when it ends instead. */
export async function serve(options: ServeOptions): Promise<Serving> {
  const serving = spawnServe(options);
  return new Promise((resolve, reject) => {
    serving.child.stderr?.on("data", () => {
      if (serving.log().includes('"message":"ready"')) resolve(serving);
    });
    void serving.exited.then((code) =>
      reject(new Error(`ended with ${code} before it was ready: ${serving.log()}`)),
    );
  });
}
