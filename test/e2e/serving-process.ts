import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { Caller } from "./harness.ts";

const main = join(import.meta.dirname, "../../src/main.ts");

/** `keyturn serve` in a process of its own. */
export interface Serving {
  readonly child: ChildProcess;
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
  /** Names the sockets, for two processes on one state directory. */
  readonly name?: string;
}

/** Spawns without waiting for anything. */
export function spawnServe({ stateDir, config = "", name = "s" }: ServeOptions): Serving {
  mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  const file = join(stateDir, `${name}.yaml`);
  const sockets = { data: join(stateDir, `${name}-data.sock`), admin: join(stateDir, `${name}-admin.sock`) };
  const lines = [
    "version: 1",
    `state_dir: ${stateDir}`,
    "listeners:",
    `  data: { socket: ${sockets.data} }`,
    `  admin: { socket: ${sockets.admin} }`,
    config,
  ];
  writeFileSync(file, lines.join("\n"));
  const child = spawn(process.execPath, [main, "serve", "--config", file], {
    stdio: ["ignore", "ignore", "pipe"],
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
    if (child.exitCode === null && child.signalCode === null) child.kill(signal);
    return exited;
  };
  onTestFinished(async () => {
    await end("SIGKILL");
  });
  return { child, data, admin, log: () => log, exited, end };
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
