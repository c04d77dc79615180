import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll } from "vitest";
import { type Etcd, startEtcd } from "../backends/etcd.ts";
import { type OpenBao, startOpenBao } from "../backends/openbao.ts";
import { kekRotationContract } from "../contracts/kek-rotation.ts";
import { tempFolder } from "../fakes/temp-folder.ts";
import { freshKey } from "./vault/stage.ts";

let bao: OpenBao;
let etcd: Etcd;

beforeAll(async () => {
  [bao, etcd] = await Promise.all([startOpenBao(), startEtcd()]);
}, 60_000);

afterAll(() => Promise.all([bao?.stop(), etcd?.stop()]));

kekRotationContract("a local keyring", async () => ({ stateDir: tempFolder(), config: "", authority: "" }));

// As a cluster has it, its store too: where a killed rewrap goes on is kept there.
kekRotationContract("Vault Transit, over etcd", async () => {
  const { key, token, authority } = await freshKey(bao);
  const stateDir = tempFolder();
  const tokenFile = join(stateDir, "vault-token");
  writeFileSync(tokenFile, token.reveal(), { mode: 0o600 });
  const vault = `{ address: ${bao.url}, key: ${key}, token_file: ${tokenFile} }`;
  const config = [
    `store: { backend: etcd, endpoints: ["${etcd.only.url}"] }`,
    `kek: { backend: vault-transit, vault: ${vault} }`,
  ].join("\n");
  return { stateDir, config, authority: authority.reveal() };
});
