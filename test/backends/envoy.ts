import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { binaryOf, ENVOY } from "./parts.ts";
import { freePort } from "./ports.ts";
import { start } from "./running.ts";

/** Envoy in a process of its own. */
export interface Envoy {
  /** The admin interface, such as `http://127.0.0.1:41234`; `/stats` and `/clusters` help to see why. */
  readonly adminUrl: string;
  freeze(): void;
  thaw(): void;
  output(): string;
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Starts Envoy with `{ static_resources: … }`, as an object of its bootstrap configuration, and waits until it is live.
 * Listeners' ports are the caller's: take them from `freePort()`. The admin interface is added. Close what it returns.
 */
export async function startEnvoy(bootstrap: object): Promise<Envoy> {
  const binary = binaryOf(ENVOY);
  const folder = mkdtempSync(join(tmpdir(), "keyturn-envoy-"));
  const port = await freePort();
  const adminUrl = `http://127.0.0.1:${port}`;
  const file = join(folder, "envoy.json");
  const admin = { address: { socket_address: { address: "127.0.0.1", port_value: port } } };
  writeFileSync(file, JSON.stringify({ admin, ...bootstrap }));
  const flags = [
    "--use-dynamic-base-id",
    "--disable-hot-restart",
    "--concurrency",
    "1",
    "--log-level",
    "warn",
  ];
  const running = await start(binary, ["--config-path", file, ...flags], async () => {
    const answer = await fetch(`${adminUrl}/ready`, { signal: AbortSignal.timeout(1_000) });
    return answer.status === 200;
  });
  const stop = async () => {
    await running.kill();
    rmSync(folder, { recursive: true, force: true });
  };
  return {
    adminUrl,
    freeze: running.freeze,
    thaw: running.thaw,
    output: running.output,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}
