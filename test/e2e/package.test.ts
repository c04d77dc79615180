import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { systemClock } from "../../src/clock.ts";
import { type Simulator, startSimulator } from "../../src/simulator/simulator.ts";
import { startEtcd } from "../backends/etcd.ts";

const run = promisify(execFile);
const root = join(import.meta.dirname, "../..");

/** Resolves at the log's word that the sidecar serves; rejects with the whole log when it ends instead. */
function ready(sidecar: ChildProcess): Promise<void> {
  let log = "";
  return new Promise((resolve, reject) => {
    sidecar.stderr?.on("data", (chunk) => {
      log += chunk;
      if (log.includes('"message":"ready"')) resolve();
    });
    sidecar.once("exit", (code) => reject(new Error(`the sidecar ended with ${code}: ${log}`)));
  });
}

describe("the package as it is installed", () => {
  const folder = mkdtempSync(join(tmpdir(), "keyturn-package-"));
  const node = join(folder, "node_modules/.bin/node");
  const keyturn = join(folder, "node_modules/.bin/keyturn");
  const sockets = { data: join(folder, "d.sock"), admin: join(folder, "a.sock") };
  let simulator: Simulator;
  let sidecar: ChildProcess | undefined;

  beforeAll(async () => {
    await run("npm", ["run", "build"], { cwd: root });
    await run("npm", ["pack", "--ignore-scripts", "--pack-destination", folder], { cwd: root });
    const [tarball = ""] = readdirSync(folder).filter((name) => name.endsWith(".tgz"));
    writeFileSync(join(folder, "package.json"), '{"private":true}');
    await run("npm", ["install", "--no-audit", "--no-fund", `./${tarball}`], { cwd: folder });
    simulator = await startSimulator({ clock: systemClock() });
  }, 240_000);

  afterAll(async () => {
    if (sidecar !== undefined && sidecar.exitCode === null) {
      const ended = new Promise((resolve) => sidecar?.once("exit", resolve));
      sidecar.kill("SIGTERM");
      await ended;
    }
    await simulator.close();
    rmSync(folder, { recursive: true, force: true });
  });

  async function cli(...args: string[]): Promise<string> {
    const { stdout } = await run(node, [keyturn, ...args], { cwd: folder });
    return stdout;
  }

  it("brings its own Node, and no TypeScript", async () => {
    expect((await run(node, ["--version"])).stdout.trim()).toBe("v26.10.0");
    expect(await cli("--version")).toContain("0.1.0");
    const files = readdirSync(join(folder, "node_modules/keyturn"), { recursive: true, encoding: "utf8" });
    expect(files.filter((name) => name.endsWith(".ts"))).toEqual([]);
    expect(files).toContain(join("dist", "providers", "simulator.yaml"));
  });

  it("serves a token", async () => {
    const flags = [
      "--set",
      `state_dir=${join(folder, "state")}`,
      "--set",
      `listeners.data.socket=${sockets.data}`,
    ];
    sidecar = spawn(node, [keyturn, "serve", ...flags, "--set", `listeners.admin.socket=${sockets.admin}`], {
      cwd: folder,
      stdio: ["ignore", "ignore", "pipe"],
    });
    await ready(sidecar);
    const grant = simulator.issueGrant({ clientId: "demo-client", subject: "acme", expired: true });
    writeFileSync(join(folder, "refresh.txt"), grant.refreshToken);
    writeFileSync(join(folder, "secret.txt"), "demo-secret");
    const admin = ["--socket", sockets.admin];
    await cli(
      "clients",
      "put",
      "simulator",
      "main",
      "--client-id",
      "demo-client",
      "--client-secret-file",
      "secret.txt",
      ...admin,
    );
    const account = [
      "accounts",
      "create",
      "acme",
      "--provider",
      "simulator",
      "--client",
      "main",
      "--tenant",
      "acme",
    ];
    await cli(
      ...account,
      "--field",
      `port=${simulator.port}`,
      "--refresh-token-file",
      "refresh.txt",
      ...admin,
    );
    expect(await cli("token", "acme", "--socket", sockets.data, "--show-token")).toMatch(/sim_at_/);
    expect(simulator.stats().tokenRequests).toBe(1);
  }, 60_000);

  it("serves from etcd", async () => {
    await using etcd = await startEtcd();
    const settings = {
      state_dir: join(folder, "clustered"),
      "store.backend": "etcd",
      "kek.keyring_file": join(folder, "keyring.json"),
      "store.endpoints": etcd.urls.join(","),
      "listeners.data.socket": join(folder, "cd.sock"),
      "listeners.admin.socket": join(folder, "ca.sock"),
    };
    const flags = Object.entries(settings).flatMap(([name, value]) => ["--set", `${name}=${value}`]);
    const clustered = spawn(node, [keyturn, "serve", ...flags], {
      cwd: folder,
      stdio: ["ignore", "ignore", "pipe"],
    });
    const ended = new Promise((resolve) => clustered.once("exit", resolve));
    try {
      await ready(clustered);
      writeFileSync(join(folder, "secret.txt"), "demo-secret");
      const client = [
        "simulator",
        "main",
        "--client-id",
        "demo-client",
        "--client-secret-file",
        "secret.txt",
      ];
      const admin = ["--socket", settings["listeners.admin.socket"]];
      await cli("clients", "put", ...client, ...admin);
      expect(await cli("clients", "list", ...admin)).toContain("demo-client");
    } finally {
      clustered.kill("SIGTERM");
      expect(await ended).toBe(0);
    }
  }, 60_000);
});
