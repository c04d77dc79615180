import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, type TestContext } from "vitest";
import { systemClock } from "../../src/clock.ts";
import { openLocalKek } from "../../src/seal/kek/local.ts";
import { startEtcd } from "../backends/etcd.ts";
import { putSimulatorClient } from "./harness.ts";
import { type Serving, spawnServe } from "./serving-process.ts";

// Each test mostly waits: they run at the same time.

async function stage({ onTestFinished }: Pick<TestContext, "onTestFinished">) {
  const folder = mkdtempSync(join(tmpdir(), "keyturn-own-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const etcd = await startEtcd();
  onTestFinished(() => etcd.stop());
  const onEnd = (work: () => Promise<void>) => void onTestFinished(work);
  const spawn = (name: string, keyring = "keyring.json", backend = etcdOf()) =>
    spawnServe({
      stateDir: join(folder, name),
      config: `${backend}\nkek: { keyring_file: ${join(folder, keyring)} }`,
      onEnd,
    });
  const etcdOf = () => `store: { backend: etcd, endpoints: ["${etcd.only.url}"] }`;
  return { folder, spawn };
}

const ready = (test: TestContext, serving: Serving) =>
  test.expect.poll(serving.log, { timeout: 60_000 }).toContain('"message":"ready"');

describe("a sidecar that is given what is not its own", () => {
  it.concurrent("does not start with another keyring than the others over its etcd, and names the version", {
    timeout: 120_000,
  }, async (test) => {
    const { spawn } = await stage(test);
    const first = spawn("first");
    await ready(test, first);
    const other = spawn("other", "other.json");
    expect(await other.exited).toBe(2);
    expect(other.log()).toContain("kek.keyring_file");
    expect(other.log()).toContain("version 1 of local:/default: its key of that version is another one");
    const same = spawn("same");
    await ready(test, same);
  });

  it.concurrent("does not start on its own database with a new keyring", {
    timeout: 120_000,
  }, async (test) => {
    const { folder, spawn } = await stage(test);
    const first = spawn("first", "keyring.json", "");
    await ready(test, first);
    await putSimulatorClient(first.admin);
    await first.end("SIGTERM");
    rmSync(join(folder, "keyring.json"));
    await openLocalKek({ file: join(folder, "keyring.json"), create: true }, systemClock());
    const again = spawn("first", "keyring.json", "");
    expect(await again.exited).toBe(2);
    expect(again.log()).toContain("its key of that version is another one");
  });

  it.concurrent("does not start on a copy of the state directory of one that lives, nor touches its attempts", {
    timeout: 180_000,
  }, async (test) => {
    const { folder, spawn } = await stage(test);
    const first = spawn("first");
    await ready(test, first);
    cpSync(join(folder, "first"), join(folder, "copy"), {
      recursive: true,
      filter: (path) => !path.endsWith(".sock"),
    });
    const copy = spawn("copy");
    expect(await copy.exited).toBe(2);
    expect(copy.log()).toContain("waiting for its end");
    expect(copy.log()).toContain("state_dir: it is a copy");
    // A dead one's copy is a moved disk.
    await first.end("SIGKILL");
    await ready(test, spawn("copy"));
  });

  it.concurrent("starts at once on its own disk after kill -9", { timeout: 120_000 }, async (test) => {
    const { spawn } = await stage(test);
    const first = spawn("first");
    await ready(test, first);
    await first.end("SIGKILL");
    const again = spawn("first");
    await ready(test, again);
    expect(again.log()).not.toContain("waiting for its end");
  });
});
