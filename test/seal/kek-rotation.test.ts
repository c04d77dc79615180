import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll } from "vitest";
import { type OpenBao, startOpenBao } from "../backends/openbao.ts";
import { kekRotationContract } from "../contracts/kek-rotation.ts";
import { tempFolder } from "../fakes/temp-folder.ts";
import { freshKey } from "./vault/stage.ts";

let bao: OpenBao;

beforeAll(async () => {
  bao = await startOpenBao();
}, 60_000);

afterAll(() => bao?.stop());

kekRotationContract("a local keyring", async () => ({ stateDir: tempFolder(), config: "", authority: "" }));

kekRotationContract("Vault Transit", async () => {
  const { key, token, authority } = await freshKey(bao);
  const stateDir = tempFolder();
  const tokenFile = join(stateDir, "vault-token");
  writeFileSync(tokenFile, token.reveal(), { mode: 0o600 });
  const vault = `{ address: ${bao.url}, key: ${key}, token_file: ${tokenFile} }`;
  const config = `kek: { backend: vault-transit, vault: ${vault} }`;
  return { stateDir, config, authority: authority.reveal() };
});
