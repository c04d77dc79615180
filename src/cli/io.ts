import type { Clock } from "../clock.ts";

/** Where text goes. `process.stdout` is one. */
export interface Outlet {
  write(text: string): unknown;
  readonly isTTY?: boolean | undefined;
  /** Of a terminal; 80 when it does not say. */
  readonly columns?: number | undefined;
}

/** All that a command sees of the process it runs in. */
export interface Io {
  readonly stdout: Outlet;
  readonly stderr: Outlet;
  readonly stdin: NodeJS.ReadableStream;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Aborts on Ctrl-C: a running call is given up and the exit code is 130. */
  readonly signal: AbortSignal;
  /** Default: the machine's. For "3 min ago" and --expires-in; deadlines are the machine's. */
  readonly clock?: Clock | undefined;
}

/** One fault of a provider file, and where it is. */
export interface LintFault {
  readonly file: string;
  readonly line: number;
  readonly column: number;
  /** Inside the file: `credentials.config.token_url`. */
  readonly path: string;
  readonly description: string;
}

/** What the fixtures of one provider file came to. */
export interface ProviderTest {
  readonly provider: string;
  /** Of the file and its fixtures themselves; then no case has run. */
  readonly faults: readonly LintFault[];
  readonly cases: readonly { readonly it: string; readonly faults: readonly string[] }[];
}

/** What `keyturn simulate` was told. */
export interface SimulateOptions {
  readonly host: string;
  /** 0: a free one. */
  readonly port: number;
  readonly style: "strict" | "grace" | "none";
  /** Undefined: tokens cannot be guessed. */
  readonly seed: number | undefined;
  readonly lifetimeMs: number;
}

/** What the commands need of rooms that this one may not import. The three that run return their exit code. */
export interface Rooms {
  readonly version: string;
  /** `flags` are dotted paths of the configuration: `listeners.data.socket`. */
  serve(options: {
    readonly config?: string;
    readonly flags: Readonly<Record<string, string>>;
    /** The store was restored from a copy. */
    readonly afterRestore: boolean;
  }): Promise<number>;
  demo(options: { readonly tour: boolean }): Promise<number>;
  /** Three sidecars over the etcd and the Vault that are named. */
  clusterDemo(options: {
    readonly etcd: readonly string[];
    readonly vault: string;
    readonly vaultTokenFile: string;
  }): Promise<number>;
  simulate(options: SimulateOptions): Promise<number>;
  /** Empty: `serve` would take it. */
  checkConfig(path: string): Promise<readonly string[]>;
  /** Empty: all of them would load. */
  lintProviders(paths: readonly string[]): Promise<readonly LintFault[]>;
  /** Names of shipped providers, or paths of files whose fixtures lie beside them. */
  testProviders(providers: readonly string[]): Promise<readonly ProviderTest[]>;
  /** Writes a starting file with its fixtures into `directory`, over nothing: the paths. */
  newProvider(options: {
    readonly name: string;
    readonly directory: string;
    readonly format: string;
  }): Promise<readonly string[]>;
  /** Of a stopped sidecar's audit directory. */
  verifyAudit(directory: string): Promise<{
    readonly intact: boolean;
    readonly records: number;
    readonly faults: readonly string[];
  }>;
  /**
   * Where a sidecar of this configuration listens; without a file, of the environment and the defaults. INVALID_REQUEST
   * as from `serve`.
   */
  listeners(config: string | undefined, env: Io["env"]): { readonly data: Listens; readonly admin: Listens };
}

/** `address` is `host:port`. */
export type Listens = { readonly socket: string } | { readonly address: string };
