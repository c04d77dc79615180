import type { Account, SlotState } from "../../src/tokens/account.ts";
import type { EventType, NewEvent } from "../../src/tokens/events.ts";
import type { Kind, Kinds } from "../../src/tokens/records.ts";
import type { Sealed } from "../../src/tokens/sealing.ts";
import type { Transaction } from "../../src/tokens/store.ts";

export const sealed: Sealed = {
  format: 1,
  kekId: "local:/default",
  kekVersion: 3,
  wrappedDek: new Uint8Array([1, 2, 3]),
  iv: new Uint8Array(12).fill(7),
  ciphertext: new Uint8Array([0, 255, 128]),
  tag: new Uint8Array(16).fill(9),
};

export const slot: SlotState = {
  state: "active",
  reauthReason: undefined,
  generation: 12,
  refreshable: true,
  issuedAtMs: 1_767_322_800_000,
  expiresAtMs: 1_767_326_400_000,
  refreshTokenExpiresAtMs: undefined,
  credentialExpiresAtMs: undefined,
  nextRefreshAtMs: 1_767_326_280_000,
  scopes: ["read", "write"],
  tokenType: "Bearer",
  hint: "…wxyz",
  failures: 0,
  backoffUntilMs: undefined,
  unknownSinceMs: undefined,
  unmapped: undefined,
  obtainedForMs: undefined,
  rejection: undefined,
  observedLifetimeMs: undefined,
  expiringNotifiedForMs: undefined,
  history: [],
};

/** Every optional member set. */
export const fullSlot: SlotState = {
  ...slot,
  state: "needs_reauth",
  reauthReason: "verification_refused",
  refreshTokenExpiresAtMs: 1_900_000_000_000,
  credentialExpiresAtMs: 0,
  failures: 4_000_000_000,
  backoffUntilMs: 1,
  unknownSinceMs: 2,
  unmapped: { attemptId: "a", instance: "i", atMs: 3 },
  obtainedForMs: 0,
  rejection: { strikes: 2, notBeforeMs: -5 },
  observedLifetimeMs: 6,
  expiringNotifiedForMs: 7,
  history: [
    {
      attemptId: "t2",
      atMs: 5,
      instance: "i",
      generation: 11,
      httpStatus: 400,
      outcome: "reauth",
      code: "invalid_grant",
      rule: "file",
    },
    {
      attemptId: "t1",
      atMs: 4,
      instance: "",
      generation: 0,
      httpStatus: undefined,
      outcome: "unknown",
      code: undefined,
      rule: "",
    },
  ],
};

export function account(id: string, change: Partial<Account> = {}): Account {
  return {
    id,
    incarnation: `incarnation-${id}`,
    tenant: "tenant-1",
    provider: "hubspot",
    client: "main",
    labels: { region: "eu" },
    displayName: "Wörk ✓",
    externalSubject: "",
    disabled: false,
    fields: {},
    slots: { default: slot },
    createdAtMs: 1_767_000_000_000,
    updatedAtMs: 1_767_000_000_001,
    lastUsedAtMs: undefined,
    contentHash: "00ff",
    ...change,
  };
}

const mark = { accountId: "a", slot: "default", incarnation: "i", generation: 1 };

/** Of every kind a key and a value with all that it may hold. */
export const SAMPLES: { readonly [K in Kind]: Kinds[K] } = {
  account: {
    parts: ["acme.1~x"],
    value: account("acme.1~x", {
      slots: { default: slot, bot: fullSlot },
      fields: { instance_url: "https://x.example", ["__proto__"]: "a key like any other" },
      lastUsedAtMs: 0,
      disabled: true,
    }),
  },
  credential: { parts: ["acme", "default"], value: { incarnation: "i", generation: 1, sealed } },
  attempt: {
    parts: ["acme", "default"],
    value: {
      attemptId: "t",
      incarnation: "i",
      generation: 2,
      instance: "one",
      atMs: 3,
      onAnswer: "revoke",
      kekVersion: 3,
    },
  },
  hold: { parts: ["acme", "default"], value: { attemptId: "t" } },
  lock: { parts: ["acme", "bot"], value: { lockId: "l", instance: "one", notAfterMs: 30_000 } },
  client: {
    parts: ["hubspot", "main/eu"],
    value: {
      provider: "hubspot",
      name: "main/eu",
      clientId: "id",
      caps: { maxConcurrent: 0, budget: { requests: 5, perMs: 60_000 } },
      labels: {},
      generation: 4,
      secrets: [{ version: "v1", state: "retiring", hint: "…", createdAtMs: 1 }],
      onHold: { sinceMs: 1, by: "me", note: "" },
      secretFields: ["developer_token"],
      expiringNotifiedForMs: 8,
      fault: { code: "invalid_client", sinceMs: 2 },
      createdAtMs: 1,
      updatedAtMs: 2,
    },
  },
  client_secrets: { parts: ["hubspot", "main"], value: { generation: 4, sealed } },
  content_key: { parts: ["current"], value: { keyId: "k", sealed } },
  permit: { parts: ["hubspot", "main", "0"], value: { attemptId: "t", instance: "one" } },
  budget: { parts: ["hubspot", "main", "3"], value: { instance: "one", requests: 6 } },
  cooldown: {
    parts: ["hubspot", "-"],
    value: { reason: "outage_suspected", untilMs: 9, limit: 100.5, remaining: 0 },
  },
  verdict: { parts: ["hubspot", "main", "2"], value: mark },
  breaker: {
    parts: ["hubspot", "main"],
    value: {
      failing: ["a", "b"],
      throttled: 1,
      suspected: { sinceMs: 1, flagged: [mark, { ...mark, accountId: "b" }], confirmations: 2 },
      confirmedUntilMs: 3,
      reverting: [mark],
    },
  },
  authorization: {
    parts: ["c0ffee"],
    value: {
      accountId: "a",
      provider: "p",
      client: "c",
      returnUrl: "https://app.example/",
      sealed,
      usedAtMs: 7,
    },
  },
  member: {
    parts: ["one"],
    value: {
      instance: "one",
      host: "h",
      roles: ["serve", "schedule"],
      startedAtMs: 1,
      appliedRevision: 2 ** 53 - 1,
      place: "h:1:2",
    },
  },
  shard: { parts: ["17"], value: { instance: "one" } },
  audit_head: { parts: ["one"], value: { instance: "one", seq: 5, hash: "ab", atMs: 1 } },
  journal_mark: { parts: ["one"], value: { instance: "one", host: "h", atMs: 1, oldestKekVersion: 2 } },
  restore_hold: {
    parts: ["current"],
    value: { sinceMs: 1, instance: "one", seenRevision: 9, foundRevision: 3, why: "set_back" },
  },
  kek_floor: { parts: ["local:/default"], value: { version: 2 } },
  rewrap: {
    parts: ["vault-transit:/transit/keyturn"],
    value: {
      toVersion: 2,
      kind: "credential",
      after: "accounts/00/x",
      done: 3,
      startedAtMs: 4,
      initiator: "me",
    },
  },
  bulk_refresh: {
    parts: ["job-1"],
    value: {
      selection: { provider: "hubspot", client: "main", tenant: "", labels: { region: "eu" } },
      revokePrevious: true,
      initiator: "me",
      startedAtMs: 4,
      total: 5,
      done: 3,
      failed: 1,
      after: "accounts/00/x",
      lastAccountId: "acme",
      finished: false,
    },
  },
};

export function event(type: EventType, change: Partial<NewEvent> = {}): NewEvent {
  return {
    type,
    timeMs: Date.UTC(2026, 0, 2, 3, 4, 5),
    tenant: "tenant-1",
    provider: "hubspot",
    accountId: "acme",
    slot: "default",
    client: "main",
    labels: { region: "eu" },
    reason: "demand",
    revision: "",
    detail: { generation: "2" },
    ...change,
  };
}

let nonces = 0;

/** A transaction with a nonce of its own. */
export function transaction(of: Partial<Transaction>): Transaction {
  nonces += 1;
  return {
    nonce: `operation-${process.pid}-${nonces}`,
    expect: [],
    writes: [],
    events: [],
    reads: [],
    ...of,
  };
}
