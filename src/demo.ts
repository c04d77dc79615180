import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startSidecar } from "./app.ts";
import { connect } from "./cli/connection.ts";
import { playDemo } from "./cli/demo/demo.ts";
import type { Stage } from "./cli/demo/stage.ts";
import { playTour } from "./cli/demo/tour.ts";
import { systemClock } from "./clock.ts";
import { loadConfig } from "./config/load.ts";
import { demoVendor } from "./demo-vendor.ts";
import { createLog } from "./log.ts";
import { startSimulator } from "./simulator/simulator.ts";

const TOKEN_LIFETIME_MS = 60_000;

export interface DemoOptions {
  readonly tour: boolean;
  readonly shippedProviders: string;
  readonly program: string;
  readonly signal: AbortSignal;
  readonly say: (line: string) => void;
}

/** A simulated provider and a whole sidecar in a temporary folder. Returns the exit code. */
export async function demo({ tour, shippedProviders, program, signal, say }: DemoOptions): Promise<number> {
  const clock = systemClock();
  const folder = mkdtempSync(join(tmpdir(), "keyturn-demo-"));
  const simulator = await startSimulator({ clock, accessTokenLifetimeMs: TOKEN_LIFETIME_MS });
  const sockets = {
    data: join(folder, "data", "keyturn.sock"),
    admin: join(folder, "admin", "keyturn.sock"),
  };
  const flags = {
    state_dir: join(folder, "state"),
    "listeners.data.socket": sockets.data,
    "listeners.admin.socket": sockets.admin,
    // A free port, for curl; the tokens are the simulator's and open nothing.
    "listeners.http.tcp.port": "0",
    "listeners.http.tcp.allow_unauthenticated": "true",
  };
  const config = loadConfig({ file: undefined, env: {}, flags });
  const log = createLog(
    (line) => process.stderr.write(line),
    () => clock.now(),
  );
  const sidecar = await startSidecar({ config, env: {}, log, shippedProviders });
  const target = (listener: "data" | "admin") => ({
    address: `unix:${sockets[listener]}`,
    shown: sockets[listener],
    listener,
    tls: undefined,
  });
  const from = { callerToken: undefined, clock, timeoutMs: 30_000, signal };
  const stage: Stage = {
    data: await connect(target("data"), from),
    admin: await connect(target("admin"), from),
    sockets,
    http: sidecar.http ?? "",
    program,
    say,
    vendor: demoVendor(simulator),
  };
  try {
    await (tour ? playTour(stage) : playDemo(stage));
    return 0;
  } catch (error) {
    if (signal.aborted) return tour ? 130 : 0;
    say(error instanceof Error ? error.message : String(error));
    return 1;
  } finally {
    stage.data.close();
    stage.admin.close();
    await sidecar.stop();
    await simulator.close();
    rmSync(folder, { recursive: true, force: true });
  }
}
