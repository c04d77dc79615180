import { expect, it } from "vitest";
import type { Credential } from "../../src/tokens/credential.ts";
import { FirstChecks } from "../../src/tokens/first-checks.ts";
import { Secret } from "../../src/tokens/secret.ts";
import { oauth } from "../fakes/vendors.ts";
import { MINUTE_MS, SECOND_MS, Stage } from "./stage.ts";

const ACTOR = { caller: "operator", purpose: "import" };
const CLIENT = { provider: "vendor", client: "main" };
const BUDGET = { requests: 60, perMs: MINUTE_MS };

/** As an import does it: without a word of when their tokens end. */
async function importMany(stage: Stage, ids: readonly string[], credential: (id: string) => Credential) {
  const checks = new FirstChecks();
  for (const id of ids) {
    const about = { tenant: "acme", ...CLIENT, labels: {}, displayName: "", externalSubject: "", fields: {} };
    const wanted = { id, ...about, credential: credential(id) };
    await stage.heart.accounts.import(wanted, () => checks.take(CLIENT, BUDGET, stage.nowMs), ACTOR);
  }
}

const ids = (count: number) => Array.from({ length: count }, (_, n) => `a${n}`);

it("looks at tokens of unknown expiry one after the other, at half of the client's budget", async () => {
  const stage = await Stage.open({ caps: { budget: BUDGET } });
  await stage.start();
  await importMany(stage, ids(90), (id) => oauth(`at-${id}`, `rt-${id}`, stage.nowMs, stage.nowMs));
  await stage.pass(MINUTE_MS);
  expect(stage.vendors.sent.length).toBeGreaterThan(25);
  expect(stage.vendors.sent.length).toBeLessThanOrEqual(36);
  await stage.pass(3 * MINUTE_MS);
  expect(new Set(stage.vendors.sent.map(({ accountId }) => accountId)).size).toBe(90);
  expect(stage.count("integrated_account:authentication_error")).toBe(0);
});

it("gives whoever asks a fresh token at once, whenever its turn would have come", async () => {
  const stage = await Stage.open({ caps: { budget: BUDGET } });
  await stage.start();
  await importMany(stage, ids(90), (id) => oauth(`at-${id}`, `rt-${id}`, stage.nowMs, stage.nowMs));
  const got = await stage.ask("a89");
  expect(got.token).toMatch(/^at-\d+$/);
});

it("verifies once what cannot be refreshed and never ends by date, and flags what is refused", async () => {
  const stage = await Stage.open();
  if (stage.vendors.rulesNow === undefined) throw new Error("no rules");
  stage.vendors.rulesNow = { ...stage.vendors.rulesNow, canVerify: true };
  await stage.start();
  const apiKey = (id: string): Credential => ({
    kind: "api_key",
    versions: [
      { version: "1", state: "active", createdAtMs: 0, values: { api_key: new Secret(`key-${id}`) } },
    ],
    expiresAtMs: undefined,
  });
  await importMany(stage, ids(3), apiKey);
  await stage.pass(10 * SECOND_MS);
  expect([...stage.vendors.verified].sort()).toEqual(["a0", "a1", "a2"]);
  await stage.pass(10 * MINUTE_MS);
  expect(stage.vendors.verified).toHaveLength(3);

  stage.vendors.verdict = { kind: "refused", status: 401 };
  await importMany(stage, ["bad"], apiKey);
  await stage.pass(10 * SECOND_MS);
  expect(stage.slot("bad").state).toBe("needs_reauth");
  expect(stage.count("integrated_account:authentication_error", "bad")).toBe(1);
});

it("knows a repeated import whose tokens do not say when they end, without a call of the KEK", async () => {
  const stage = await Stage.open();
  const about = { tenant: "", ...CLIENT, labels: {}, displayName: "", externalSubject: "", fields: {} };
  const wanted = () => ({
    id: "acme",
    ...about,
    credential: oauth("at", "rt", stage.nowMs, stage.nowMs),
  });
  const now = () => stage.nowMs;
  expect(await stage.heart.accounts.import(wanted(), now, ACTOR)).toBe("created");
  await stage.pass(5 * SECOND_MS);
  await stage.ask("acme");
  const calls = stage.sealer.calls;
  expect(await stage.heart.accounts.import(wanted(), now, ACTOR)).toBe("unchanged");
  expect(stage.sealer.calls).toBe(calls);
  expect(stage.slot("acme").generation).toBe(2);
});
