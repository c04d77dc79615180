import { describe, expect, it } from "vitest";
import { type Circumstances, explanation } from "../../src/rpc/accounts/explain.ts";
import { type Kind, key, type ValueOf } from "../../src/tokens/records.ts";
import type { Snapshot } from "../../src/tokens/snapshot.ts";
import type { Entry } from "../../src/tokens/store.ts";
import { account, SAMPLES, slot } from "../store/samples.ts";

const NOW_MS = slot.issuedAtMs + 1_000;
const CALM: Circumstances = { kept: [], isHeld: false, kekFault: undefined, nowMs: NOW_MS };
const acme = account("acme");

const at = <K extends Kind>(kind: K, value: ValueOf<K>): Entry<K> =>
  ({
    key: { kind, parts: SAMPLES[kind].parts },
    value,
    createRevision: 1,
    revision: 1,
  }) as unknown as Entry<K>;

const HEALTHY: Snapshot = {
  key: { accountId: acme.id, slot: "default" },
  client: { provider: acme.provider, client: acme.client },
  account: { key: key("account", acme.id), value: acme, createRevision: 1, revision: 1 },
  slot,
  credential: undefined,
  attempt: undefined,
  hold: undefined,
  lock: undefined,
  oauthClient: undefined,
  clientSecrets: undefined,
  cooldown: undefined,
  breaker: undefined,
  permits: [],
  budgets: [],
  verdicts: [],
  storeRevision: 1,
};

const onHold = at("client", {
  ...SAMPLES.client.value,
  onHold: { by: "ann", note: "migrating", sinceMs: 1 },
});
const COOLDOWN = {
  reason: "rate_limited",
  untilMs: NOW_MS + 5_000,
  limit: undefined,
  remaining: undefined,
} as const;

describe("an explanation", () => {
  it("says that it works only when nothing is in the way", () => {
    const { why, nextStep, sidecar } = explanation(HEALTHY, CALM);
    expect([why, nextStep]).toEqual(["It works.", "Nothing to do."]);
    expect(sidecar).toMatchObject({ storeSetBack: false, kekFault: "" });
  });

  // Each has all that follow in its way, too.
  const cooldown = { cooldown: at("cooldown", COOLDOWN) };
  const held = { ...cooldown, oauthClient: onHold };
  const flagged = { ...held, slot: { ...slot, state: "needs_reauth", reauthReason: "refused" } as const };
  it.each([
    {
      first: "a refused grant",
      has: flagged,
      is: { isHeld: true, kekFault: "vault_sealed" },
      says: /refused the refresh/,
    },
    {
      first: "the KEK",
      has: held,
      is: { isHeld: true, kekFault: "vault_sealed" },
      says: /key does not answer .*\(vault_sealed\)/,
    },
    { first: "a store that was set back", has: held, is: { isHeld: true }, says: /store was set back/ },
    { first: "the client's hold", has: held, is: {}, says: /on hold, by ann: migrating/ },
    { first: "its cool-down", has: cooldown, is: {}, says: /left alone for 5 s \(rate_limited\)/ },
  ])("names $first before what matters less", ({ has, is, says }) => {
    expect(explanation({ ...HEALTHY, ...has }, { ...CALM, ...is }).why).toMatch(says);
  });

  it("tells what stands in every account's way though another reason comes first", () => {
    const { sidecar } = explanation(
      { ...HEALTHY, ...flagged },
      { ...CALM, isHeld: true, kekFault: "vault_sealed" },
    );
    expect(sidecar).toMatchObject({ storeSetBack: true, kekFault: "vault_sealed" });
  });
});
