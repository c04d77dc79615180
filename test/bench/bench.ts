import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NODE_FLAGS } from "../../.ci/node-flags.ts";
import { OAuthClientService } from "../../src/gen/keyturn/v1/oauth_client_service_pb.js";
import { Caller } from "../e2e/harness.ts";
import type { Bundles } from "./bundles.ts";
import type { Figure } from "./figure.ts";
import { Line } from "./load.ts";
import { ServerProcess } from "./server-process.ts";
import { Vendor } from "./vendor.ts";

export interface Benchmark {
  readonly name: string;
  /** In a sentence. */
  readonly what: string;
  run(bench: Bench): Promise<readonly Figure[]>;
}

/** A sidecar out of the bundle, and how to reach it. */
export interface Sidecar {
  readonly process: ServerProcess;
  readonly data: string;
  readonly admin: Caller;
  readonly stateDir: string;
}

/** A server of the same libraries that promises nothing. */
export interface BareServer {
  readonly process: ServerProcess;
  readonly data: string;
}

export interface SidecarOptions {
  readonly stateDir?: string;
  readonly isProbed?: boolean;
  readonly nodeFlags?: readonly string[];
  /** Configuration keys: `refresh.max_concurrent`. */
  readonly set?: Readonly<Record<string, string>>;
}

/** What makes another size of a benchmark that has one. */
export interface Size {
  readonly accounts?: number;
  readonly withinMs?: number;
}

/** What a benchmark works with; everything it starts ends with it. */
export class Bench {
  readonly #folder = mkdtempSync(join(tmpdir(), "keyturn-bench-"));
  readonly #undo: (() => Promise<void> | void)[] = [];
  readonly #bundles: Bundles;
  readonly size: Size;
  #folders = 0;

  constructor(bundles: Bundles, size: Size = {}) {
    this.#bundles = bundles;
    this.size = size;
  }

  folder(): string {
    this.#folders += 1;
    return mkdtempSync(join(this.#folder, `${this.#folders}-`));
  }

  /** What a benchmark started itself. */
  endsWith(undo: () => Promise<void> | void): void {
    this.#undo.push(undo);
  }

  get bundles(): Bundles {
    return this.#bundles;
  }

  /** Resolves when it says that it is ready. */
  async sidecar(options: SidecarOptions = {}): Promise<Sidecar> {
    const { stateDir = this.folder(), isProbed = true, nodeFlags = [], set = {} } = options;
    const sockets = { data: join(stateDir, "d.sock"), admin: join(stateDir, "a.sock") };
    const flags = {
      state_dir: stateDir,
      "listeners.data.socket": sockets.data,
      "listeners.admin.socket": sockets.admin,
      ...set,
    };
    const args = Object.entries(flags).flatMap(([name, value]) => ["--set", `${name}=${value}`]);
    const process = new ServerProcess([this.#bundles.keyturn, "serve", ...args], {
      isProbed,
      nodeFlags: [...NODE_FLAGS, ...nodeFlags],
    });
    this.#undo.push(() => process.stop());
    await process.says(/"message":"ready"/);
    const admin = new Caller(`unix:${sockets.admin}`);
    this.#undo.push(() => admin.close());
    return { process, data: `unix:${sockets.data}`, admin, stateDir };
  }

  /** A sidecar with the simulator's OAuth client `main`. */
  async sidecarWithClient(options: SidecarOptions = {}): Promise<Sidecar> {
    const sidecar = await this.sidecar(options);
    await sidecar.admin.call(OAuthClientService.method.putClient, {
      provider: "simulator",
      name: "main",
      clientId: "demo-client",
      clientSecret: "demo-secret",
    });
    return sidecar;
  }

  /** The simulated provider in a process of its own. */
  async vendor(): Promise<Vendor> {
    const process = new ServerProcess([this.#bundles.keyturn, "simulate"], { isProbed: false });
    this.#undo.push(() => process.stop());
    return new Vendor(await process.says(/http:\/\/127\.0\.0\.1:\d+(?=\n)/));
  }

  /** The bare echo, which answers `method` with `answer`. */
  echo(answer: Buffer, method: "getToken" | "check" = "getToken"): Promise<BareServer> {
    return this.#bare(this.#bundles.echo, [method, answer.toString("base64")]);
  }

  /** The same, started by the shipped command's flags and without a probe. */
  plainEcho(answer: Buffer): Promise<BareServer> {
    const words = ["getToken", answer.toString("base64")];
    return this.#bare(this.#bundles.echo, words, { isProbed: false, nodeFlags: NODE_FLAGS });
  }

  /** The bare proxy, which sends everything to `origin` with `token`. */
  forwarder(origin: string, token: string): Promise<BareServer> {
    return this.#bare(this.#bundles.forward, [origin, token]);
  }

  async #bare(
    program: string,
    words: readonly string[],
    options: ConstructorParameters<typeof ServerProcess>[1] = { isProbed: true },
  ): Promise<BareServer> {
    const socket = join(this.folder(), "bare.sock");
    const process = new ServerProcess([program, socket, ...words], options);
    this.#undo.push(() => process.stop());
    await process.says(/"message":"ready"/);
    return { process, data: `unix:${socket}` };
  }

  lines(target: string, count: number): readonly Line[] {
    const lines = Array.from({ length: count }, () => new Line(target));
    this.#undo.push(() => lines.forEach((line) => void line.close()));
    return lines;
  }

  async end(): Promise<void> {
    for (const undo of this.#undo.splice(0).reverse()) await undo();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
