import type { Account, SlotKey, SlotState } from "./account.ts";
import { type Breaker, type Cooldown, key, type OAuthClient } from "./records.ts";
import type { Entry, Read, View } from "./store.ts";

/** Where an account's token-endpoint state lives. An account without an OAuth client counts under the name "-". */
export interface ClientKey {
  readonly provider: string;
  readonly client: string;
}

export function clientKeyOf(account: Pick<Account, "provider" | "client">): ClientKey {
  return { provider: account.provider, client: account.client === "" ? "-" : account.client };
}

export function clientKeyText(of: ClientKey): string {
  return `${of.provider}/${of.client}`;
}

/** Every record that a decision about one slot depends on, read at the same instant. */
export interface Snapshot {
  readonly key: SlotKey;
  readonly client: ClientKey;
  readonly account: Entry<"account"> | undefined;
  /** Undefined when the account has no such slot. */
  readonly slot: SlotState | undefined;
  readonly credential: Entry<"credential"> | undefined;
  readonly attempt: Entry<"attempt"> | undefined;
  readonly hold: Entry<"hold"> | undefined;
  readonly lock: Entry<"lock"> | undefined;
  readonly oauthClient: Entry<"client"> | undefined;
  readonly clientSecrets: Entry<"client_secrets"> | undefined;
  readonly cooldown: Entry<"cooldown"> | undefined;
  readonly breaker: Entry<"breaker"> | undefined;
  /** As many as were read. */
  readonly permits: readonly Entry<"permit">[];
  readonly budgets: readonly Entry<"budget">[];
  readonly verdicts: readonly Entry<"verdict">[];
  readonly storeRevision: number;
}

/** As much of an account and its client as is remembered of them. */
export type Standing = Pick<
  Snapshot,
  "key" | "client" | "account" | "oauthClient" | "cooldown" | "breaker" | "storeRevision"
>;

/** What `standingOf` needs to have been read. */
export function standingReads({ accountId }: SlotKey, { provider, client }: ClientKey): readonly Read[] {
  return [
    key("account", accountId),
    key("client", provider, client),
    key("cooldown", provider, client),
    key("breaker", provider, client),
  ];
}

export function standingOf(slot: SlotKey, client: ClientKey, view: View): Standing {
  const { provider, client: clientName } = client;
  return {
    key: slot,
    client,
    account: view.get(key("account", slot.accountId)),
    oauthClient: view.get(key("client", provider, clientName)),
    cooldown: view.get(key("cooldown", provider, clientName)),
    breaker: view.get(key("breaker", provider, clientName)),
    storeRevision: view.storeRevision,
  };
}

/** What `snapshotOf` needs to have been read, without what is taken of the client's caps. */
export function snapshotReads(slot: SlotKey, client: ClientKey): readonly Read[] {
  const { accountId, slot: name } = slot;
  const { provider, client: clientName } = client;
  return [
    ...standingReads(slot, client),
    key("credential", accountId, name),
    key("attempt", accountId, name),
    key("hold", accountId, name),
    key("lock", accountId, name),
    key("client_secrets", provider, clientName),
    { under: "verdict", parts: [provider, clientName] },
  ];
}

/** All that is taken of a client's caps, perhaps hundreds of places: what taking another one depends on. */
export function capsReads({ provider, client }: ClientKey): readonly Read[] {
  return [
    { under: "permit", parts: [provider, client] },
    { under: "budget", parts: [provider, client] },
  ];
}

export function snapshotOf(slot: SlotKey, client: ClientKey, view: View): Snapshot {
  const { accountId, slot: name } = slot;
  const { provider, client: clientName } = client;
  const standing = standingOf(slot, client, view);
  return {
    ...standing,
    slot: standing.account?.value.slots[name],
    credential: view.get(key("credential", accountId, name)),
    attempt: view.get(key("attempt", accountId, name)),
    hold: view.get(key("hold", accountId, name)),
    lock: view.get(key("lock", accountId, name)),
    clientSecrets: view.get(key("client_secrets", provider, clientName)),
    permits: view.all("permit"),
    budgets: view.all("budget"),
    verdicts: view.all("verdict"),
  };
}

/** What a decision needs of the client, cached or fresh. */
export interface ClientState {
  readonly client: OAuthClient | undefined;
  readonly cooldown: Cooldown | undefined;
  readonly breaker: Breaker | undefined;
}

export function clientStateOf(snapshot: Standing): ClientState {
  return {
    client: snapshot.oauthClient?.value,
    cooldown: snapshot.cooldown?.value,
    breaker: snapshot.breaker?.value,
  };
}
