import { invalid, KeyturnError } from "../errors.ts";
import { type Account, requireAccountId } from "./account.ts";
import { checkFields } from "./account-fields.ts";
import { checkLabels } from "./accounts.ts";
import { openClient } from "./opening.ts";
import { type ClientSecrets, key, type OAuthClient } from "./records.ts";
import type { Actor } from "./sealing.ts";
import type { Entry, View } from "./store.ts";
import type { VendorContext } from "./vendor.ts";
import type { World } from "./world.ts";

/** What a connection is started with; empty texts take what the existing account has. */
export interface Wanted {
  readonly provider: string;
  readonly client: string;
  readonly tenant: string;
  readonly accountId: string;
  readonly fields: Readonly<Record<string, string>>;
  readonly labels: Readonly<Record<string, string>>;
  readonly allowIdentityChange: boolean;
}

/** Throws when the caller may not see an account. */
export type Permit = (account: Pick<Account, "id" | "tenant" | "provider">) => void;

/** Our app's registration, with its secrets still sealed. */
interface Client {
  readonly record: OAuthClient;
  readonly secrets: ClientSecrets | undefined;
}

/** An account to connect, as it is or as it would be made. */
interface Subject {
  readonly account: Account;
  /** Undefined: it is still to be made. */
  readonly entry: Entry<"account"> | undefined;
  /** Undefined for formats without one. */
  readonly client: Client | undefined;
}

/** Whom a connection is about: the account and the OAuth client, checked before anybody is asked. */
export class ConnectionSubjects {
  readonly #world: World;

  constructor(world: World) {
    this.#world = world;
  }

  /** What requests prove themselves by; one KEK call where there is something. */
  async opened(client: Client | undefined, actor: Actor): Promise<VendorContext["client"]> {
    return client && openClient(this.#world.sealer, client.record, client.secrets, actor);
  }

  /** INVALID_REQUEST, PROVIDER_NOT_FOUND, CLIENT_NOT_FOUND, and what `permit` throws. */
  async of(wanted: Wanted, permit: Permit): Promise<Subject> {
    requireAccountId(wanted.accountId);
    const at = key("account", wanted.accountId);
    const entry = (await this.#world.store.read([at])).get(at);
    if (entry === undefined) checkLabels(wanted.labels);
    const account = entry === undefined ? this.#newAccount(wanted) : entry.value;
    permit(account);
    if (entry !== undefined) requireSame(wanted, account);
    const rules = this.#world.vendors.rules(account.provider);
    if (rules === undefined)
      throw new KeyturnError("PROVIDER_NOT_FOUND", "There is no provider file of this name.", {
        metadata: { provider: account.provider },
      });
    checkFields(rules.fields, wanted.fields, false);
    return { account, entry, client: await this.client(account) };
  }

  #newAccount({ accountId: id, tenant, provider, client, labels, fields }: Wanted): Account {
    const nowMs = this.#world.clock.now();
    return {
      id,
      incarnation: this.#world.newId(),
      tenant,
      provider,
      client,
      labels,
      displayName: "",
      externalSubject: "",
      disabled: false,
      fields,
      slots: {},
      createdAtMs: nowMs,
      updatedAtMs: nowMs,
      lastUsedAtMs: undefined,
      contentHash: "",
    };
  }

  /** CLIENT_NOT_FOUND. Undefined for an account without one. */
  async client({ provider, client }: Pick<Account, "provider" | "client">): Promise<Client | undefined> {
    if (client === "") return undefined;
    const at = key("client", provider, client);
    const secretsAt = key("client_secrets", provider, client);
    const view: View = await this.#world.store.read([at, secretsAt]);
    const record = view.get(at)?.value;
    requireClient({ provider, client }, record);
    return record && { record, secrets: view.get(secretsAt)?.value };
  }
}

/** CLIENT_NOT_FOUND for an account that names a client which is not there. */
export function requireClient(
  { provider, client }: Pick<Account, "provider" | "client">,
  record: OAuthClient | undefined,
): void {
  if (client === "" || record !== undefined) return;
  throw new KeyturnError("CLIENT_NOT_FOUND", "There is no such OAuth client; put it first.", {
    metadata: { provider, client },
  });
}

/** Provider, client and tenant of an account never change. */
function requireSame(wanted: Wanted, account: Account): void {
  const facts = { provider: account.provider, client: account.client, tenant: account.tenant };
  for (const [field, is] of Object.entries(facts) as [keyof typeof facts, string][]) {
    const asked = wanted[field];
    if (asked !== "" && asked !== is)
      throw invalid(field, `this account's is ${is === "" ? "empty" : is} and never changes`);
  }
}

/** CLIENT_ON_HOLD, CLIENT_MISCONFIGURED. */
export function requireUsable({ provider, name, onHold, fault }: OAuthClient): void {
  const metadata = { provider, client: name };
  if (onHold !== undefined)
    throw new KeyturnError("CLIENT_ON_HOLD", "An operator holds this OAuth client.", { metadata });
  if (fault !== undefined)
    throw new KeyturnError(
      "CLIENT_MISCONFIGURED",
      "The provider refuses this OAuth client itself; replace its secret or registration.",
      { metadata: { ...metadata, cause: fault.code } },
    );
}
