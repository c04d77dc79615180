import { join } from "node:path";
import { afterAll, beforeAll } from "vitest";
import { openLocalKek } from "../../src/seal/kek/local.ts";
import { type OpenBao, startOpenBao } from "../backends/openbao.ts";
import { kekContract } from "../contracts/kek.ts";
import { tempFolder } from "../fakes/temp-folder.ts";
import { ManualClock } from "../store/manual-clock.ts";
import { freshKey, transit } from "./vault/stage.ts";

let bao: OpenBao;

beforeAll(async () => {
  bao = await startOpenBao();
}, 60_000);

afterAll(() => bao?.stop());

kekContract("a local keyring", async () => {
  const file = join(tempFolder(), "keyring.json");
  const clock = new ManualClock();
  const kek = await openLocalKek({ file, create: true }, clock);
  return { kek, other: await openLocalKek({ file, create: false }, clock), authority: undefined };
});

kekContract("Vault Transit", async () => {
  const { key, token, authority } = await freshKey(bao);
  const auth = { method: "token", token } as const;
  return { kek: transit(bao, { key, auth }), other: transit(bao, { key, auth }), authority };
});
