import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startEtcd } from "../test/backends/etcd.ts";
import { startOpenBao } from "../test/backends/openbao.ts";
import { ETCD, get, OPENBAO } from "../test/backends/parts.ts";

// `npm start`: the demo. With `--cluster` it gets the etcd and the OpenBao that the demo's sidecars share.
const root = join(import.meta.dirname, "..");
const words = process.argv.slice(2);
const undo: (() => Promise<void> | void)[] = [];

function demo(more: readonly string[]): Promise<number> {
  const args = [join(root, "src/main.ts"), "demo", ...words, ...more];
  const child = spawn(process.execPath, args, { stdio: "inherit" });
  // The terminal tells the child too; it ends in order, and then we do.
  process.on("SIGINT", () => undefined);
  process.on("SIGTERM", () => child.kill("SIGTERM"));
  return new Promise((resolve) => child.once("exit", (code) => resolve(code ?? 1)));
}

async function backends(): Promise<readonly string[]> {
  console.log("Starting etcd and OpenBao (the first time they are got into ~/.cache/keyturn-test) …");
  await get(ETCD);
  await get(OPENBAO);
  const folder = mkdtempSync(join(tmpdir(), "keyturn-start-"));
  undo.push(() => rmSync(folder, { recursive: true, force: true }));
  const [etcd, bao] = await Promise.all([startEtcd(), startOpenBao()]);
  undo.push(etcd.stop, bao.stop);
  await bao.policy("sidecar", readFileSync(join(root, "deploy/vault/sidecar.hcl"), "utf8"));
  await bao.act("POST", "transit/keys/keyturn", { type: "aes256-gcm96" });
  const tokenFile = join(folder, "vault-token");
  writeFileSync(tokenFile, await bao.token({ policies: ["sidecar"], ttl: "1h" }), { mode: 0o600 });
  return ["--etcd", etcd.urls.join(","), "--vault", bao.url, "--vault-token-file", tokenFile];
}

try {
  const isCluster = words.includes("--cluster") && !words.includes("--etcd");
  process.exitCode = await demo(isCluster ? await backends() : []);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
} finally {
  for (const work of undo.reverse()) await work();
}
