import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import type { Answer, Question } from "./probe.ts";

const PROBE = join(import.meta.dirname, "probe.ts");
const STOP_WITHIN_MS = 10_000;

/** A server in a process of its own. */
export class ServerProcess {
  readonly #child: ChildProcess;
  /** Resolves when it has ended, however. */
  readonly ended: Promise<void>;
  /** Milliseconds of `performance.now()` at which it was started. */
  readonly startedMs = performance.now();
  #log = "";

  /** `isProbed`: it can be asked about itself. A probe costs nothing while it is not asked, but a little at start. */
  constructor(
    args: readonly string[],
    { isProbed, nodeFlags = [] }: { readonly isProbed: boolean; readonly nodeFlags?: readonly string[] },
  ) {
    const flags = [...nodeFlags, ...(isProbed ? ["--import", PROBE] : [])];
    this.#child = spawn(process.execPath, [...flags, ...args], {
      stdio: ["ignore", "pipe", "pipe", ...(isProbed ? ["ipc" as const] : [])],
      env: { ...process.env, NODE_OPTIONS: "" },
    });
    this.#child.stdout?.on("data", (chunk) => {
      this.#log += chunk;
    });
    this.#child.stderr?.on("data", (chunk) => {
      this.#log += chunk;
    });
    this.ended = new Promise((resolve) => this.#child.once("exit", () => resolve()));
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Resolves with the first match in what it writes; rejects with all of it when it ends before. */
  async says(pattern: RegExp): Promise<string> {
    for (;;) {
      const found = pattern.exec(this.#log);
      if (found !== null) return found[0];
      if (this.#child.exitCode !== null) throw new Error(`ended with ${this.#child.exitCode}: ${this.#log}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  ask(question: Question): Promise<Answer> {
    return new Promise((resolve, reject) => {
      this.#child.once("message", (answer) => resolve(answer as Answer));
      this.#child.send(question, (error) => error !== null && reject(error));
    });
  }

  /** SIGTERM, and SIGKILL when that takes too long. */
  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill("SIGTERM");
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), STOP_WITHIN_MS);
    await this.ended;
    clearTimeout(timer);
  }
}
