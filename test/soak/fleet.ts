import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Caller } from "../e2e/harness.ts";

const program = join(import.meta.dirname, "sidecar-process.ts");
const READY = '"message":"ready"';
const READY_WITHIN_MS = 180_000;

const living = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of living) child.kill("SIGKILL");
});

/** A sidecar in a process of its own, which may be frozen, killed and started again on its state directory. */
export class Member {
  readonly name: string;
  readonly #folder: string;
  readonly #mutant: string;
  #child: ChildProcess | undefined;
  #ended: Promise<void> = Promise.resolve();
  #data: Caller | undefined;
  #log = "";
  /** Nobody but the one who disturbs it has it now. */
  isDisturbed = false;

  /** `config` is YAML beside state directory and sockets. */
  constructor(folder: string, name: string, config: string, mutant: string) {
    this.name = name;
    this.#folder = join(folder, name);
    this.#mutant = mutant;
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
    const lines = [
      "version: 1",
      `state_dir: ${this.#folder}`,
      "listeners:",
      `  data: { socket: ${this.#socket("d")} }`,
      `  admin: { socket: ${this.#socket("a")} }`,
      config,
    ];
    writeFileSync(join(this.#folder, "config.yaml"), lines.join("\n"), { mode: 0o600 });
  }

  #socket(name: string): string {
    return join(this.#folder, `${name}.sock`);
  }

  /** What it says of itself, in all its lives: a `Word` a line. */
  get wordsFile(): string {
    return join(this.#folder, "words");
  }

  /** Its data listener, while it runs. */
  get data(): Caller | undefined {
    return this.isDisturbed ? undefined : this.#data;
  }

  admin(): Caller {
    return new Caller(`unix:${this.#socket("a")}`);
  }

  /** Starts it, again and again as a supervisor does, until it says that it is ready. */
  async start(): Promise<void> {
    const untilMs = Date.now() + READY_WITHIN_MS;
    while (!(await this.#becomesReady())) {
      if (Date.now() > untilMs) throw new Error(`${this.name} does not get ready: ${this.#log}`);
    }
    this.#data = new Caller(`unix:${this.#socket("d")}`);
  }

  async #becomesReady(): Promise<boolean> {
    const args = [program, join(this.#folder, "config.yaml"), this.wordsFile, this.#mutant];
    const env = { ...process.env, NODE_COMPILE_CACHE: join(this.#folder, "..", "compiled") };
    const child = spawn(process.execPath, args, { stdio: ["ignore", "ignore", "pipe"], env });
    living.add(child);
    this.#child = child;
    this.#log = "";
    const { promise: ready, resolve } = Promise.withResolvers<boolean>();
    child.stderr.on("data", (chunk) => {
      this.#log = (this.#log + chunk).slice(-20_000);
      if (this.#log.includes(READY)) resolve(true);
    });
    this.#ended = new Promise<void>((end) => child.once("close", () => end()));
    void this.#ended.then(() => {
      living.delete(child);
      resolve(false);
    });
    return ready;
  }

  freeze(): void {
    this.#child?.kill("SIGSTOP");
  }

  thaw(): void {
    this.#child?.kill("SIGCONT");
  }

  /** SIGKILL, and waits for the end. */
  async kill(): Promise<void> {
    this.#data?.close();
    this.#data = undefined;
    this.#child?.kill("SIGKILL");
    await this.#ended;
  }
}
