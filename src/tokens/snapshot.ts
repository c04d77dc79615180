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
  readonly permits: readonly Entry<"permit">[];
  readonly budgets: readonly Entry<"budget">[];
  readonly verdicts: readonly Entry<"verdict">[];
  readonly storeRevision: number;
}

/** What `snapshotOf` needs to have been read. */
export function snapshotReads(slot: SlotKey, client: ClientKey): readonly Read[] {
  const { accountId, slot: name } = slot;
  const { provider, client: clientName } = client;
  return [
    key("account", accountId),
    key("credential", accountId, name),
    key("attempt", accountId, name),
    key("hold", accountId, name),
    key("lock", accountId, name),
    key("client", provider, clientName),
    key("client_secrets", provider, clientName),
    key("cooldown", provider, clientName),
    key("breaker", provider, clientName),
    { under: "permit", parts: [provider, clientName] },
    { under: "budget", parts: [provider, clientName] },
    { under: "verdict", parts: [provider, clientName] },
  ];
}

export function snapshotOf(slot: SlotKey, client: ClientKey, view: View): Snapshot {
  const { accountId, slot: name } = slot;
  const { provider, client: clientName } = client;
  const account = view.get(key("account", accountId));
  return {
    key: slot,
    client,
    account,
    slot: account?.value.slots[name],
    credential: view.get(key("credential", accountId, name)),
    attempt: view.get(key("attempt", accountId, name)),
    hold: view.get(key("hold", accountId, name)),
    lock: view.get(key("lock", accountId, name)),
    oauthClient: view.get(key("client", provider, clientName)),
    clientSecrets: view.get(key("client_secrets", provider, clientName)),
    cooldown: view.get(key("cooldown", provider, clientName)),
    breaker: view.get(key("breaker", provider, clientName)),
    permits: view.all("permit"),
    budgets: view.all("budget"),
    verdicts: view.all("verdict"),
    storeRevision: view.storeRevision,
  };
}

/** What a decision needs of the client, cached or fresh. */
export interface ClientState {
  readonly client: OAuthClient | undefined;
  readonly cooldown: Cooldown | undefined;
  readonly breaker: Breaker | undefined;
}

export function clientStateOf(snapshot: Snapshot): ClientState {
  return {
    client: snapshot.oauthClient?.value,
    cooldown: snapshot.cooldown?.value,
    breaker: snapshot.breaker?.value,
  };
}
