import { create } from "@bufbuild/protobuf";
import type { Clock } from "../../clock.ts";
import { invalid, KeyturnError } from "../../errors.ts";
import {
  type Account as AccountMessage,
  AccountService,
  AccountStatus,
  CreateAccountResponseSchema,
  DeleteAccountResponseSchema,
  DisableAccountResponseSchema,
  EnableAccountResponseSchema,
  ExportAccountsResponseSchema,
  GetAccountResponseSchema,
  ListAccountsResponseSchema,
  PutCredentialResponseSchema,
  RefreshAccountResponseSchema,
  RemapAccountResponseSchema,
  UpdateAccountResponseSchema,
} from "../../gen/keyturn/v1/account_service_pb.js";
import { type Account, DEFAULT_SLOT, type SlotKey } from "../../tokens/account.ts";
import type { AccountPatch, Accounts } from "../../tokens/accounts.ts";
import type { Broker } from "../../tokens/broker.ts";
import type { BulkRefresh } from "../../tokens/bulk-refresh.ts";
import type { Journal } from "../../tokens/journal.ts";
import { key, type OAuthClient } from "../../tokens/records.ts";
import type { Replay } from "../../tokens/replay.ts";
import type { Actor } from "../../tokens/sealing.ts";
import { clientKeyOf, snapshotOf, snapshotReads } from "../../tokens/snapshot.ts";
import type { Entry, Store } from "../../tokens/store.ts";
import type { RefreshRules } from "../../tokens/vendor.ts";
import type { Report } from "../../tokens/world.ts";
import { type Call, type Handlers, stream, unary } from "../call.ts";
import { requireSight } from "../policy.ts";
import { afterOf, pageSize, pageToken } from "../wire.ts";
import { bulkRefreshAccounts } from "./bulk-refresh.ts";
import { credentialOf } from "./credential-input.ts";
import { explanation } from "./explain.ts";
import { importAccounts } from "./import.ts";
import { accountMessage, shownStatus } from "./message.ts";
import { clientNamed, newAccountOf } from "./new-account.ts";

const SCAN = 1_000;

export interface AccountServiceDeps {
  readonly accounts: Accounts;
  readonly broker: Pick<Broker, "refresh">;
  readonly bulkRefresh: BulkRefresh;
  readonly replay: Pick<Replay, "remap">;
  readonly journal: Journal;
  readonly store: Store;
  readonly clock: Clock;
  readonly rules: (provider: string) => RefreshRules | undefined;
  readonly report: Report;
  /** A fresh account id (UUIDv7). */
  readonly newAccountId: () => string;
  /** True while refreshes wait since the store was set back. */
  readonly isHeld: () => boolean;
  /** Why the key-encryption key cannot be used now; undefined: it answers. */
  readonly kekFault: () => Promise<string | undefined>;
}

/** What operators do to accounts; no answer holds a secret. */
export function accountHandlers(deps: AccountServiceDeps): Handlers {
  const { accounts, clock, store } = deps;
  const shown = async (entry: Entry<"account">): Promise<AccountMessage> =>
    accountMessage(entry, await clientOf(store, entry.value));
  /** The account, when the caller may see it. */
  const seen = async (call: Call, id: string): Promise<Entry<"account">> => {
    const entry = await accounts.get(id);
    const { tenant, provider } = entry.value;
    requireSight(call.caller, { tenant, provider, account: id });
    return entry;
  };
  return {
    createAccount: unary(AccountService.method.createAccount, async (request, call) => {
      const { tenant, provider, client } = request;
      const id = request.accountId === "" ? deps.newAccountId() : request.accountId;
      requireSight(call.caller, { tenant, provider, account: id });
      if (client !== "") await clientNamed(store, provider, client);
      const wanted = newAccountOf(request, id, clock.now());
      const entry = await accounts.create(wanted, actorOf(call, "create"));
      return create(CreateAccountResponseSchema, { account: await shown(entry) });
    }),
    putCredential: unary(AccountService.method.putCredential, async (request, call) => {
      await seen(call, request.accountId);
      if (request.credential === undefined) throw invalid("credential", "the new credential");
      const slot = slotOf(request);
      const entry = await accounts.putCredential(
        slot,
        credentialOf(request.credential, clock.now()),
        actorOf(call, "put_credential"),
      );
      return create(PutCredentialResponseSchema, { account: await shown(entry) });
    }),
    importAccounts: importAccounts(deps),
    bulkRefreshAccounts: bulkRefreshAccounts(deps.bulkRefresh),
    getAccount: unary(AccountService.method.getAccount, async (request, call) =>
      create(GetAccountResponseSchema, { account: await shown(await seen(call, request.accountId)) }),
    ),
    explainAccount: unary(AccountService.method.explainAccount, async (request, call) => {
      const { value } = await seen(call, request.accountId);
      const slot = request.tokenName === "" ? pressingSlot(value) : slotOf(request);
      const client = clientKeyOf(value);
      const [view, entries, kekFault] = await Promise.all([
        store.read(snapshotReads(slot, client)),
        deps.journal.entries(),
        deps.kekFault(),
      ]);
      return explanation(snapshotOf(slot, client, view), {
        kept: entries.filter((entry) => entry.accountId === value.id),
        isHeld: deps.isHeld() && deps.rules(client.provider)?.resendSafe !== true,
        kekFault,
        nowMs: clock.now(),
      });
    }),
    listAccounts: unary(AccountService.method.listAccounts, async (request, call) => {
      const size = pageSize(request.pageSize);
      const clients = new Clients(store);
      const found: AccountMessage[] = [];
      for (let after: string | undefined = afterOf(request.pageToken); after !== undefined; ) {
        // Pages no larger than what is missing: none of what was read is left for the next call to read again.
        const page: Awaited<ReturnType<typeof store.scan<"account">>> = await store.scan(
          "account",
          after,
          Math.max(1, size - found.length),
        );
        for (const entry of page.entries) {
          const client = await clients.get(entry.value);
          if (matches(entry.value, client, request, call)) found.push(accountMessage(entry, client));
        }
        after = page.next;
        if (found.length >= size)
          return create(ListAccountsResponseSchema, { accounts: found, nextPageToken: pageToken(after) });
      }
      return create(ListAccountsResponseSchema, { accounts: found });
    }),
    updateAccount: unary(AccountService.method.updateAccount, async (request, call) => {
      await seen(call, request.accountId);
      const revision = request.revision === "" ? undefined : Number(request.revision);
      if (revision !== undefined && !Number.isSafeInteger(revision))
        throw invalid("revision", "one that an account was returned with");
      const entry = await accounts.update(request.accountId, patchOf(request), revision);
      return create(UpdateAccountResponseSchema, { account: await shown(entry) });
    }),
    enableAccount: unary(AccountService.method.enableAccount, async ({ accountId }, call) => {
      await seen(call, accountId);
      return create(EnableAccountResponseSchema, { account: await shown(await accounts.enable(accountId)) });
    }),
    disableAccount: unary(AccountService.method.disableAccount, async ({ accountId }, call) => {
      await seen(call, accountId);
      return create(DisableAccountResponseSchema, {
        account: await shown(await accounts.disable(accountId)),
      });
    }),
    remapAccount: unary(AccountService.method.remapAccount, async (request, call) => {
      await seen(call, request.accountId);
      const replayed = await deps.replay.remap(slotOf(request), actorOf(call, "remap"));
      return create(RemapAccountResponseSchema, {
        mapped: replayed === "settled",
        account: await shown(await accounts.get(request.accountId)),
      });
    }),
    deleteAccount: unary(AccountService.method.deleteAccount, async ({ accountId, revoke }, call) => {
      await seen(call, accountId);
      const outcome = await accounts.delete(accountId, revoke, actorOf(call, "delete"));
      return create(DeleteAccountResponseSchema, {
        revoked: revoke && outcome.every((one) => one === "revoked"),
      });
    }),
    refreshAccount: unary(AccountService.method.refreshAccount, async (request, call) => {
      await seen(call, request.accountId);
      const ask = {
        key: slotOf(request),
        minValidityMs: 0,
        rejected: undefined,
        trigger: "operator",
      } as const;
      const error = await deps.broker.refresh(ask, actorOf(call, "refresh"));
      if (error !== undefined) throw error;
      const entry = await accounts.get(request.accountId);
      requireGood(entry.value, ask.key.slot);
      return create(RefreshAccountResponseSchema, { account: await shown(entry) });
    }),
    exportAccounts: stream(AccountService.method.exportAccounts, async ({ tenant, provider }, call, send) => {
      const clients = new Clients(store);
      for (let after: string | undefined = ""; after !== undefined; ) {
        const page: Awaited<ReturnType<typeof store.scan<"account">>> = await store.scan(
          "account",
          after,
          SCAN,
        );
        for (const entry of page.entries) {
          const client = await clients.get(entry.value);
          const wanted = { tenant, provider, client: "", status: AccountStatus.UNSPECIFIED, labels: {} };
          if (!matches(entry.value, client, wanted, call)) continue;
          await send(create(ExportAccountsResponseSchema, { account: accountMessage(entry, client) }));
        }
        after = page.next;
      }
    }),
  };
}

function actorOf(call: Call, purpose: string): Actor {
  return { caller: call.caller.name, purpose };
}

/** Of an account with several tokens, the one that somebody who asks why will mean. */
function pressingSlot({ id: accountId, slots }: Account): SlotKey {
  const names = Object.keys(slots);
  const [first] = names;
  const flagged = names.find((name) => slots[name]?.state === "needs_reauth");
  const failing = names.find((name) => (slots[name]?.failures ?? 0) > 0);
  const usual = first === undefined || names.includes(DEFAULT_SLOT) ? DEFAULT_SLOT : first;
  return { accountId, slot: flagged ?? failing ?? usual };
}

function slotOf(request: { readonly accountId: string; readonly tokenName: string }) {
  return { accountId: request.accountId, slot: request.tokenName === "" ? DEFAULT_SLOT : request.tokenName };
}

/** A refresh that the provider refused has ended without an error of its own: the account says what came of it. */
function requireGood(account: Account, slot: string): void {
  const state = account.slots[slot];
  const metadata = { account_id: account.id, provider: account.provider };
  if (state?.state === "needs_reauth") {
    throw new KeyturnError(
      "REAUTHORIZATION_REQUIRED",
      "The provider refuses this account's credential; the customer has to authorize again.",
      { metadata },
    );
  }
  if (state !== undefined && state.failures > 0) {
    const outcome = state.history[0]?.outcome ?? "transient";
    throw new KeyturnError("PROVIDER_UNAVAILABLE", "The refresh failed; accounts explain says how.", {
      metadata: { ...metadata, cause: outcome },
    });
  }
}

async function clientOf(store: Store, account: Account): Promise<OAuthClient | undefined> {
  if (account.client === "") return undefined;
  const at = key("client", account.provider, account.client);
  return (await store.read([at])).get(at)?.value;
}

/** The clients of a listing, each read once. */
class Clients {
  readonly #store: Store;
  readonly #read = new Map<string, Promise<OAuthClient | undefined>>();

  constructor(store: Store) {
    this.#store = store;
  }

  get(account: Account): Promise<OAuthClient | undefined> {
    const name = `${account.provider}/${account.client}`;
    const client = this.#read.get(name) ?? clientOf(this.#store, account);
    this.#read.set(name, client);
    return client;
  }
}

interface Wanted {
  readonly tenant: string;
  readonly provider: string;
  readonly client: string;
  readonly status: AccountStatus;
  readonly labels: Readonly<Record<string, string>>;
}

function matches(account: Account, client: OAuthClient | undefined, wanted: Wanted, call: Call): boolean {
  const { tenant, provider, id } = account;
  return (
    (wanted.tenant === "" || wanted.tenant === tenant) &&
    (wanted.provider === "" || wanted.provider === provider) &&
    (wanted.client === "" || wanted.client === account.client) &&
    (wanted.status === AccountStatus.UNSPECIFIED || wanted.status === shownStatus(account, client)) &&
    Object.entries(wanted.labels).every(([name, value]) => account.labels[name] === value) &&
    call.caller.maySee({ tenant, provider, account: id })
  );
}

function patchOf(request: {
  readonly updateMask?: { readonly paths: readonly string[] } | undefined;
  readonly labels: Record<string, string>;
  readonly displayName: string;
  readonly fields: Record<string, string>;
}): AccountPatch {
  const paths = request.updateMask?.paths ?? [];
  const unknown = paths.find((path) => !["labels", "display_name", "fields"].includes(path));
  if (paths.length === 0 || unknown !== undefined)
    throw invalid("update_mask", "one or more of labels, display_name, fields");
  return {
    ...(paths.includes("labels") ? { labels: request.labels } : {}),
    ...(paths.includes("display_name") ? { displayName: request.displayName } : {}),
    ...(paths.includes("fields") ? { fields: request.fields } : {}),
  };
}
