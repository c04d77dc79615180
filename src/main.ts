import { readdirSync, readFileSync } from "node:fs";
import { extname, join } from "node:path";
import { checkConfig, startSidecar } from "./app.ts";
import { verifyAudit } from "./audit/verify.ts";
import { cli } from "./cli/cli.ts";
import type { Listens, Rooms } from "./cli/io.ts";
import { systemClock } from "./clock.ts";
import { loadConfig } from "./config/load.ts";
import { defaultSocket } from "./config/paths.ts";
import type { Config } from "./config/schema.ts";
import { invalid, KeyturnError } from "./errors.ts";
import { createLog } from "./log.ts";
import type { Fault } from "./providers/document.ts";
import { lintPath } from "./providers/load.ts";

// Beside the bundle as beside the sources: `dist/keyturn.cjs` has its providers next to it, `src/main.ts` one up.
const here = import.meta.dirname;
const fromSource = extname(import.meta.filename) === ".ts";
const shippedProviders = join(here, fromSource ? "../providers" : "providers");
const { version }: { version: string } = JSON.parse(readFileSync(join(here, "../package.json"), "utf8"));
// By npx, since the Node on the PATH may be too old for sources; the installed one never is.
const program = fromSource ? `npx node ${join("src", "main.ts")}` : "npx keyturn";

const stop = new AbortController();
const clock = systemClock();

/** The first signal asks for an orderly end; a second one does not wait for it. */
function onSignal(): void {
  if (stop.signal.aborted) process.exit(130);
  stop.abort();
}
process.on("SIGINT", onSignal);
process.on("SIGTERM", onSignal);

// Whoever reads our output may stop before its end (`| head`): that is no failure.
for (const stream of [process.stdout, process.stderr]) {
  stream.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(0);
    throw error;
  });
}

/** Where a client on this machine finds it. */
function listens(config: Config, listener: "data" | "admin", env: NodeJS.ProcessEnv): Listens {
  const { tcp, socket } = config.listeners[listener];
  if (tcp === undefined) return { socket: socket ?? defaultSocket(env, config.state_dir, listener) };
  const host = /^(0\.0\.0\.0|::)$/.test(tcp.host) ? "127.0.0.1" : tcp.host;
  return { address: `${host.includes(":") ? `[${host}]` : host}:${tcp.port}` };
}

function toLintFault({ message, ...where }: Fault) {
  return { ...where, description: message };
}

const rooms: Rooms = {
  version,
  serve: async ({ config: file, flags, afterRestore }) => {
    const log = createLog(
      (line) => process.stderr.write(line),
      () => clock.now(),
    );
    const config = loadConfig({ file, env: process.env, flags });
    const { signal } = stop;
    const starting = startSidecar({ config, env: process.env, log, shippedProviders, afterRestore, signal });
    const sidecar = await starting.catch((error: unknown) => {
      if (!signal.aborted) throw error;
      log("stopped before it was ready");
      return undefined;
    });
    if (sidecar === undefined) return 0;
    process.on("SIGHUP", () => {
      try {
        sidecar.reload();
      } catch (error) {
        log("provider files not read again; the old ones stay", {}, error);
      }
    });
    if (!stop.signal.aborted)
      await new Promise((resolve) => stop.signal.addEventListener("abort", resolve, { once: true }));
    log("stopping");
    return (await sidecar.stop()).length === 0 ? 0 : 1;
  },
  demo: async ({ tour }) => {
    const { demo } = await import("./demo.ts");
    const say = (line: string) => process.stdout.write(`${line}\n`);
    return demo({ tour, shippedProviders, program, signal: stop.signal, say });
  },
  clusterDemo: async (backends) => {
    const { clusterDemo } = await import("./cluster-demo.ts");
    const say = (line: string) => process.stdout.write(`${line}\n`);
    const command = [process.execPath, process.argv[1] ?? ""];
    return clusterDemo({ ...backends, command, signal: stop.signal, say });
  },
  simulate: async ({ host, port, style, seed, lifetimeMs }) => {
    const { startSimulator } = await import("./simulator/simulator.ts");
    const simulator = await startSimulator({
      clock,
      host,
      port,
      style,
      accessTokenLifetimeMs: lifetimeMs,
      ...(seed === undefined ? {} : { seed }),
    });
    process.stdout.write(`${simulator.url}\n`);
    await new Promise((resolve) => stop.signal.addEventListener("abort", resolve, { once: true }));
    await simulator.close();
    return 0;
  },
  checkConfig: async (path) => {
    try {
      checkConfig(loadConfig({ file: path, env: process.env, flags: {} }), process.env, shippedProviders);
      return [];
    } catch (error) {
      if (error instanceof KeyturnError)
        return error.violations.map(({ field, description }) => `${field}: ${description}`);
      throw error;
    }
  },
  lintProviders: async (paths) => paths.flatMap((path) => lintPath(path).map(toLintFault)),
  testProviders: async (providers) => {
    const { testProvider } = await import("./providers/fixtures/test-provider.ts");
    const results = [];
    for (const provider of providers) {
      const { faults, ...result } = await testProvider(provider, shippedProviders);
      results.push({ ...result, faults: faults.map(toLintFault) });
    }
    return results;
  },
  newProvider: async (options) => {
    const { writeStarter } = await import("./providers/starter.ts");
    return writeStarter(options);
  },
  verifyAudit: async (directory) => {
    // A folder without a trail proves nothing.
    if (!readdirSync(directory).some((name) => name.endsWith(".jsonl")))
      throw invalid("DIRECTORY", `there are no audit files in ${directory}`);
    const { intact, records, faults } = await verifyAudit(directory);
    return {
      intact,
      records,
      faults: faults.map(({ segment, line, message }) => `${segment}:${line}: ${message}`),
    };
  },
  listeners: (file, env) => {
    const config = loadConfig({ file, env, flags: {} });
    return { data: listens(config, "data", env), admin: listens(config, "admin", env) };
  },
};

const io = {
  stdout: process.stdout,
  stderr: process.stderr,
  stdin: process.stdin,
  env: process.env,
  signal: stop.signal,
};
// Not awaited here: the bundle is CommonJS.
void cli(process.argv.slice(2), io, rooms).then((code) => {
  process.exitCode = code;
});
