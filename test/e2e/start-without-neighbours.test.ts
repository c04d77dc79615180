import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { describe, expect, it, type TestContext } from "vitest";
import { startSidecar } from "../../src/app.ts";
import { loadConfig } from "../../src/config/load.ts";
import { startEtcd } from "../backends/etcd.ts";
import { spawnServe, writeConfig } from "./serving-process.ts";

// Each test mostly waits: they run at the same time.

async function stage({ onTestFinished }: Pick<TestContext, "onTestFinished">) {
  const folder = mkdtempSync(join(tmpdir(), "keyturn-start-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const etcd = await startEtcd();
  onTestFinished(() => etcd.stop());
  const onEnd = (work: () => Promise<void>) => void onTestFinished(work);
  const settings = {
    stateDir: join(folder, "s"),
    config: [
      `store: { backend: etcd, endpoints: ["${etcd.only.url}"] }`,
      `kek: { keyring_file: ${join(folder, "keyring.json")} }`,
    ].join("\n"),
  };
  return { etcd, spawn: () => spawnServe({ ...settings, onEnd }), config: () => writeConfig(settings) };
}

const ASKED_AGAIN = "etcd does not answer yet: it is asked again";

describe("a sidecar that starts while etcd is silent", () => {
  it.concurrent("waits five seconds for it, saying so, and serves", { timeout: 120_000 }, async (test) => {
    const { etcd, spawn } = await stage(test);
    etcd.only.freeze();
    const serving = spawn();
    await test.expect.poll(serving.log, { timeout: 60_000 }).toContain(ASKED_AGAIN);
    await delay(5_000);
    etcd.only.thaw();
    await test.expect.poll(serving.log, { timeout: 60_000 }).toContain('"message":"ready"');
    expect(serving.log().split(ASKED_AGAIN).length).toBeGreaterThan(2);
    expect(serving.log()).toContain("etcd_no_answer");
    expect(await serving.end("SIGTERM")).toBe(0);
  });

  it.concurrent("ends with 4 when it stays silent", { timeout: 120_000 }, async (test) => {
    const { etcd, spawn } = await stage(test);
    etcd.only.freeze();
    const serving = spawn();
    expect(await serving.exited).toBe(4);
    expect(serving.log()).toContain(ASKED_AGAIN);
    expect(serving.log()).toContain("STORE_UNAVAILABLE");
    etcd.only.thaw();
  });

  it.concurrent("ends at once when it is told to", { timeout: 120_000 }, async (test) => {
    const { etcd, spawn } = await stage(test);
    etcd.only.freeze();
    const serving = spawn();
    await test.expect.poll(serving.log, { timeout: 60_000 }).toContain(ASKED_AGAIN);
    // It would end with 4 when its patience is over.
    expect(await serving.end("SIGTERM")).toBe(0);
    etcd.only.thaw();
  });

  it.concurrent("leaves nothing open when etcd falls silent in the midst of its start", {
    timeout: 120_000,
  }, async (test) => {
    const { etcd, config } = await stage(test);
    const file = config();
    const sockets = () => readdirSync(dirname(file)).filter((name) => name.endsWith(".sock"));
    const starting = startSidecar({
      config: loadConfig({ file, env: {}, flags: {} }),
      env: {},
      log: () => undefined,
      shippedProviders: join(import.meta.dirname, "../../providers"),
      // The heart follows the feed; then its listeners are made, and then the store is read once more.
      around: (world) => {
        const follow = world.events.follow.bind(world.events);
        const freezing: typeof follow = (listener) => {
          etcd.only.freeze();
          return follow(listener);
        };
        Object.assign(world.events, { follow: freezing });
        return world;
      },
    });
    const failed = expect(starting).rejects.toMatchObject({ reason: "STORE_UNAVAILABLE" });
    await test.expect.poll(sockets, { timeout: 60_000, interval: 10 }).toContain("s-data.sock");
    await failed;
    expect(sockets()).toEqual([]);
    etcd.only.thaw();
  });
});
