import { Readable } from "node:stream";
import { cli } from "../../src/cli/cli.ts";
import type { Io, Rooms } from "../../src/cli/io.ts";
import type { Clock } from "../../src/clock.ts";

/** 2026-11-24T08:00:00Z, which is now in these tests. */
export const NOW_MS = Date.UTC(2026, 10, 24, 8);

const clock: Clock = {
  now: () => NOW_MS,
  boot: () => 0,
  sleep: () => Promise.resolve(),
};

export interface Ran {
  readonly exit: number;
  readonly stdout: string;
  readonly stderr: string;
  /** Lines of stdout, each parsed. */
  json(): readonly unknown[];
}

export interface RunOptions {
  readonly sockets?: { readonly data: string; readonly admin: string };
  readonly stdin?: string;
  /** A terminal of so many columns. */
  readonly columns?: number;
  readonly env?: Io["env"];
  readonly rooms?: Partial<Rooms>;
  readonly signal?: AbortSignal;
}

/** Rooms where nothing happens, beside the sockets of a sidecar. */
export function roomsWith(sockets: RunOptions["sockets"]): Rooms {
  const nowhere = { data: "/nonexistent/data.sock", admin: "/nonexistent/admin.sock" };
  return {
    version: "1.2.3",
    serve: () => Promise.resolve(0),
    demo: () => Promise.resolve(0),
    clusterDemo: () => Promise.resolve(0),
    simulate: () => Promise.resolve(0),
    checkConfig: () => Promise.resolve([]),
    lintProviders: () => Promise.resolve([]),
    testProviders: () => Promise.resolve([]),
    newProvider: () => Promise.resolve([]),
    verifyAudit: () => Promise.resolve({ intact: true, records: 0, faults: [] }),
    listeners: () => {
      const { data, admin } = sockets ?? nowhere;
      return { data: { socket: data }, admin: { socket: admin } };
    },
  };
}

/** Runs one command line in this process. */
export async function run(argv: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const written = { stdout: "", stderr: "" };
  const outlet = (name: "stdout" | "stderr") => ({
    isTTY: options.columns !== undefined,
    columns: options.columns,
    write: (text: string) => {
      written[name] += text;
    },
  });
  const io: Io = {
    stdout: outlet("stdout"),
    stderr: outlet("stderr"),
    stdin: Readable.from(options.stdin === undefined ? [] : [Buffer.from(options.stdin)]),
    env: options.env ?? {},
    signal: options.signal ?? new AbortController().signal,
    clock,
  };
  const rooms: Rooms = { ...roomsWith(options.sockets), ...options.rooms };
  const exit = await cli(argv, io, rooms);
  return {
    exit,
    ...written,
    json: () =>
      written.stdout
        .split("\n")
        .filter((line) => line !== "")
        .map((line) => JSON.parse(line)),
  };
}
