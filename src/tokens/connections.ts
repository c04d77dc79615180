import { invalid, isReason, KeyturnError, withMetadata } from "../errors.ts";
import { type Account, DEFAULT_SLOT, isAccountId } from "./account.ts";
import { type Accounts, checkLabels } from "./accounts.ts";
import { answerFromBytes, type KeptAnswer } from "./answer.ts";
import {
  AUTHORIZATION_TTL_MS,
  Authorizations,
  type Found,
  randomSecret,
  stateInvalid,
} from "./authorizations.ts";
import { requireCallbackOf, stateOf } from "./callback-url.ts";
import { type Connected, ConnectedWriter } from "./connected.ts";
import { grantFault, introductionFault, mintFault, replyFault } from "./connection-faults.ts";
import { answerContext } from "./contexts.ts";
import type { Credential } from "./credential.ts";
import { Draft, slotEvent } from "./draft.ts";
import type { Exchanges } from "./exchanges.ts";
import { heldAs } from "./held-as.ts";
import type { JournalEntry } from "./journal.ts";
import type { Known } from "./known.ts";
import { EAR_MS, STORE_PATIENCE_MS } from "./limits.ts";
import { openClient } from "./opening.ts";
import { type ClientSecrets, key, type OAuthClient } from "./records.ts";
import { type Note, type Redeeming, Redemption, type Rooms } from "./redemption.ts";
import type { Actor } from "./sealing.ts";
import { Secret } from "./secret.ts";
import { settle, storeIsAway } from "./settle.ts";
import type { Entry, View } from "./store.ts";
import type { RawAnswer, Revocation, VendorContext } from "./vendor.ts";
import type { World } from "./world.ts";

const INTRODUCTION_TRIES = 3;
const INTRODUCTION_PAUSE_MS = 500;
const MAX_PAUSE_MS = 1_000;

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

export interface WantedAuthorization extends Wanted {
  readonly scopes: readonly string[];
  readonly redirectUri: string;
  readonly returnUrl: string;
  /** Who alone may complete it; empty: anybody who reaches a sidecar. */
  readonly caller: string;
}

export interface Started {
  readonly url: string;
  readonly accountId: string;
  readonly browserBinding: Secret;
  readonly expiresAtMs: number;
}

/** Throws when the caller may not see an account. */
export type Permit = (account: Pick<Account, "id" | "tenant" | "provider">) => void;

export interface WhoCompletes {
  readonly browserBinding: Secret;
  /** Undefined: whoever it is, its browser is enough. */
  readonly caller: string | undefined;
  readonly permit: Permit;
}

export interface Completed {
  readonly account: Account;
  readonly returnUrl: string;
}

/** How customers' accounts come to be: by a browser's consent, or by a secret handed in. */
export class Connections {
  readonly #world: World;
  readonly #exchanges: Exchanges;
  readonly #accounts: Accounts;
  readonly #authorizations: Authorizations;
  readonly #redemption: Redemption;
  readonly #writer: ConnectedWriter;

  constructor(world: World, known: Known, exchanges: Exchanges, accounts: Accounts) {
    this.#world = world;
    this.#exchanges = exchanges;
    this.#accounts = accounts;
    this.#authorizations = new Authorizations(world);
    this.#redemption = new Redemption(world, () => exchanges.isStopping);
    this.#writer = new ConnectedWriter(world, known);
  }

  /** Where to send the customer's browser. An account that exists is left as it is. */
  async start(wanted: WantedAuthorization, permit: Permit, actor: Actor): Promise<Started> {
    const nowMs = this.#world.clock.now();
    const state = randomSecret();
    const binding = randomSecret();
    const verifier = randomSecret();
    for (;;) {
      const { account, entry, client } = await this.#subject(wanted, permit);
      if (client === undefined) throw invalid("client", "the name of the OAuth client to connect with");
      requireUsable(client.record);
      const fields = { ...account.fields, ...wanted.fields };
      const { clientId } = client.record;
      const asked = { provider: account.provider, clientId, fields, state, verifier };
      const { scopes, redirectUri, returnUrl } = wanted;
      const consent = this.#world.consents.url({ ...asked, scopes, redirectUri });
      const intent = {
        redirectUri,
        verifier: consent.usesPkce ? verifier.reveal() : undefined,
        scopes: consent.scopes,
        fields: wanted.fields,
        allowIdentityChange: wanted.allowIdentityChange,
        caller: wanted.caller,
      };
      const { at, sealed } = await this.#authorizations.seal(account, { state, binding, intent }, actor);
      const { provider } = account;
      const record = { accountId: account.id, provider, client: account.client, returnUrl, sealed };
      const draft = new Draft()
        .expect(at, undefined)
        .put(at, { ...record, usedAtMs: undefined }, AUTHORIZATION_TTL_MS);
      const accountAt = key("account", account.id);
      // One that still waits for its first completion waits on; one that works is not touched.
      if (entry === undefined || account.pendingSinceMs !== undefined) {
        const pending: Account = { ...account, pendingSinceMs: nowMs };
        draft
          .expect(accountAt, entry)
          .put(accountAt, pending)
          .event(slotEvent("feed:account_changed", pending, "", undefined, nowMs, "authorization_started"));
      }
      const result = await settle(this.#world, draft.done(this.#world.newId(), []), this.#untilMs());
      // Refused: somebody else made the account meanwhile.
      if (!result.applied) continue;
      return {
        url: consent.url,
        accountId: account.id,
        browserBinding: binding,
        expiresAtMs: nowMs + AUTHORIZATION_TTL_MS,
      };
    }
  }

  /**
   * Exchanges the code that a redirect brings, once, and stores what it gives. Errors about an authorization of this
   * browser name its `return_url`.
   */
  async complete(callbackUrl: string, who: WhoCompletes, actor: Actor): Promise<Completed> {
    const query = new URL(callbackUrl, "http://callback.invalid").searchParams;
    const found = await this.#authorizations.find(stateOf(query), who.browserBinding, actor);
    const { returnUrl } = found.entry.value;
    try {
      return { account: await this.#complete(found, { callbackUrl, query }, who, actor), returnUrl };
    } catch (error) {
      throw returnUrl === "" || !(error instanceof KeyturnError)
        ? error
        : withMetadata(error, { return_url: returnUrl });
    }
  }

  async #complete(
    found: Found,
    { callbackUrl, query }: { readonly callbackUrl: string; readonly query: URLSearchParams },
    who: WhoCompletes,
    actor: Actor,
  ): Promise<Account> {
    const { account, intent } = found;
    who.permit(account);
    const refuse = (cause: string, message: string) => stateInvalid(cause, message, account.id);
    if (who.caller !== undefined && intent.caller !== "" && who.caller !== intent.caller)
      throw refuse("caller", "Another caller has started this authorization.");
    requireCallbackOf(intent.redirectUri, callbackUrl, refuse);
    const fields = { ...account.fields, ...intent.fields };
    const state = new Secret(stateOf(query));
    const secrets = [state.reveal(), ...query.getAll("code"), intent.verifier ?? ""];
    const reply = this.#world.consents.reply(account.provider, query, fields, secrets);
    if (reply.kind === "invalid") throw refuse(reply.cause, reply.message);
    if (reply.kind === "refused") {
      await this.#authorizations.spend(found);
      throw replyFault(account, reply);
    }
    if (this.#exchanges.isStopping)
      throw new KeyturnError("SHUTTING_DOWN", "This sidecar is shutting down.", { retryAfterMs: 1_000 });
    const client = await this.#client(account);
    if (client !== undefined) requireUsable(client.record);
    const attemptId = this.#world.newId();
    const generation = generationOf(account);
    const steps = this.#world.consents.steps(account.provider);
    const { redirectUri, scopes, allowIdentityChange } = intent;
    const redeeming: Redeeming = {
      attemptId,
      generation,
      context: {
        account: { ...account, fields: { ...fields, ...reply.fields } },
        slot: DEFAULT_SLOT,
        credential: { kind: "unminted" },
        client: await this.#opened(client, actor),
      },
      code: { code: reply.code, redirectUri, codeVerifier: secretOf(intent.verifier), state: state.reveal() },
      note: {
        redirectUri,
        scopes,
        fields: { ...intent.fields, ...reply.fields },
        allowIdentityChange,
      },
      answers: [],
    };
    const rooms = await this.#redemption.prepare(account, attemptId, generation, steps);
    try {
      await this.#authorizations.spend(found);
    } catch (error) {
      rooms.discard();
      throw error;
    }
    // From here on no caller's deadline ends it.
    return this.#exchanges.track(attemptId, () => this.#redeem(redeeming, rooms, actor));
  }

  async #redeem(redeeming: Redeeming, rooms: Rooms, actor: Actor): Promise<Account> {
    const { attemptId, context } = redeeming;
    const grant = await this.#redemption.run(redeeming, rooms);
    if (grant.kind !== "granted") {
      // An answer that the file does not map is kept for a better file.
      if (grant.kind !== "unmapped") await this.#world.journal.remove(attemptId);
      throw grantFault(context.account, grant);
    }
    try {
      const connected = await this.#introduced(context, grant, redeeming.note);
      const entry = await this.#patiently(() => this.#writer.write(context.account, connected, actor));
      await this.#world.journal.remove(attemptId);
      return entry?.value ?? context.account;
    } catch (error) {
      // What has been decided for good is not tried again at the next start.
      if (error instanceof KeyturnError && error.reason !== "SHUTTING_DOWN")
        await this.#world.journal.remove(attemptId);
      throw error;
    }
  }

  /** Asks what else is to be known of the account, before anything is stored. */
  async #introduced(
    context: VendorContext,
    grant: {
      readonly credentials: ReadonlyMap<string, Credential>;
      readonly fields: Readonly<Record<string, string>>;
      readonly subject: string | undefined;
    },
    note: Pick<Note, "fields" | "allowIdentityChange">,
  ): Promise<Connected> {
    const [first] = grant.credentials;
    if (first === undefined) throw new KeyturnError("INTERNAL_ERROR", "A grant without a credential.");
    const [slot, credential] = first;
    const fields = { ...note.fields, ...grant.fields };
    const account = { ...context.account, fields: { ...context.account.fields, ...fields } };
    const asking = { ...context, account, slot, credential };
    for (let tries = 1; ; tries += 1) {
      const said = await this.#world.consents.introduce(asking);
      if (said.kind === "introduced")
        return {
          credentials: grant.credentials,
          fields: { ...fields, ...said.fields },
          subject: said.subject ?? grant.subject,
          allowIdentityChange: note.allowIdentityChange,
          by: "connected",
        };
      if (said.kind === "choice" || tries === INTRODUCTION_TRIES) throw introductionFault(account, said);
      await this.#world.clock.sleep(INTRODUCTION_PAUSE_MS * tries, this.#exchanges.gone);
    }
  }

  /** The answer is kept and the code is spent, so the store and the KEK are waited for. */
  async #patiently<T>(work: () => Promise<T>): Promise<T> {
    const { gone } = this.#exchanges;
    for (let pauseMs = 100; ; pauseMs = Math.min(pauseMs * 2, MAX_PAUSE_MS)) {
      gone.throwIfAborted();
      try {
        return await work();
      } catch (error) {
        if (!mayPass(error)) throw error;
        await this.#world.clock.sleep(pauseMs, gone);
      }
    }
  }

  /** What a customer handed in, checked at the provider before it is stored. `verified`: false where it cannot be. */
  async withSecret(
    wanted: Wanted & {
      readonly secrets: Readonly<Record<string, string>>;
      readonly expiresAtMs: number | undefined;
    },
    permit: Permit,
    actor: Actor,
  ): Promise<{ readonly account: Account; readonly verified: boolean }> {
    const { account, entry, client } = await this.#subject(wanted, permit);
    if (client !== undefined) requireUsable(client.record);
    const nowMs = this.#world.clock.now();
    const { provider } = account;
    const { secrets, expiresAtMs } = wanted;
    const asked = this.#world.consents.credential(provider, secrets, nowMs, expiresAtMs);
    const given = heldAs(DEFAULT_SLOT, asked, this.#world.vendors.rules(provider));
    const context: VendorContext = {
      account: { ...account, fields: { ...account.fields, ...wanted.fields } },
      slot: DEFAULT_SLOT,
      credential: given,
      client: await this.#opened(client, actor),
    };
    const { credential, verified } = await this.#verified(context);
    const grant = { credentials: new Map([[DEFAULT_SLOT, credential]]), fields: {}, subject: undefined };
    const connected = await this.#introduced(context, grant, wanted);
    const isNew = entry === undefined;
    const stored = await this.#writer.write(account, connected, actor, { isNew });
    return { account: stored?.value ?? account, verified };
  }

  /** AUTHORIZATION_DENIED when the provider refuses it, PROVIDER_UNAVAILABLE when it does not say. */
  async #verified(
    context: VendorContext,
  ): Promise<{ readonly credential: Credential; readonly verified: boolean }> {
    const { credential } = context;
    if (credential.kind === "unminted") return { credential: await this.#minted(context), verified: true };
    const { id, provider } = context.account;
    if (this.#world.vendors.rules(provider)?.canVerify !== true) return { credential, verified: false };
    const verification = await this.#world.vendors.verify(context);
    const metadata = { account_id: id, provider };
    switch (verification.kind) {
      case "accepted":
        return { credential, verified: true };
      case "refused":
        throw new KeyturnError(
          "AUTHORIZATION_DENIED",
          "The provider does not accept this secret; nothing was stored.",
          { metadata: { ...metadata, cause: "secret_refused", http_status: String(verification.status) } },
        );
      case "unclear":
        throw new KeyturnError(
          "PROVIDER_UNAVAILABLE",
          "The provider did not say whether it accepts this secret; nothing was stored.",
          { metadata: { ...metadata, cause: verification.cause }, retryAfterMs: 5_000 },
        );
    }
  }

  /** A secret that tokens are minted from is accepted when it mints one; minting spends nothing. */
  async #minted(context: VendorContext): Promise<Credential> {
    const { vendors, clock } = this.#world;
    const answers: RawAnswer[] = [];
    const late = new AbortController();
    const done = new AbortController();
    void clock.sleep(EAR_MS, done.signal).then(
      () => late.abort(),
      () => undefined,
    );
    try {
      for (;;) {
        const sent = await vendors.exchange(context, () => !late.signal.aborted, late.signal, answers);
        if (sent.kind !== "answer") throw grantFault(context.account, sent);
        const read = await vendors.interpret(context, sent.answer, answers);
        if (read.kind === "granted" && read.unfinished === undefined) return read.credential;
        if (read.kind === "granted") throw grantFault(context.account, { kind: "more" });
        if (read.kind !== "more") throw mintFault(context.account, read);
        answers.push(sent.answer);
      }
    } finally {
      done.abort();
    }
  }

  /** Revokes and deletes. True when the provider says that the grant is ended. */
  async disconnect(accountId: string, actor: Actor): Promise<boolean> {
    const revoked: readonly Revocation[] = await this.#accounts.delete(accountId, true, actor);
    return revoked.length > 0 && revoked.every((one) => one === "revoked");
  }

  /**
   * The kept answers of one exchange that an earlier life did not store. One that the account has moved on from is
   * dropped; true when it is settled, false when it stays in the journal.
   */
  async replay(kept: readonly JournalEntry[], actor: Actor): Promise<boolean> {
    const [entry] = kept;
    if (entry === undefined) return true;
    const { attemptId, generation, accountId } = entry;
    const at = key("account", accountId);
    const account = (await this.#world.store.read([at])).get(at)?.value;
    const isCurrent = account?.incarnation === entry.incarnation && generationOf(account) === generation;
    if (account === undefined || !isCurrent) {
      await this.#world.journal.remove(attemptId);
      return true;
    }
    const opened: Buffer[] = [];
    try {
      for (const each of kept)
        opened.push(await this.#world.sealer.open(answerContext(each), each.sealed, actor));
      return await this.#resume(account, entry, opened.map(answerFromBytes), actor);
    } catch (error) {
      if (mayPass(error)) throw error;
      // The start goes on without it; a mended file or a later start may still make something of it.
      this.#world.report("kept connection not stored", { account_id: accountId }, error);
      return false;
    } finally {
      for (const bytes of opened) bytes.fill(0);
    }
  }

  async #resume(
    account: Account,
    { attemptId, generation }: JournalEntry,
    answers: readonly KeptAnswer[],
    actor: Actor,
  ): Promise<boolean> {
    const redeeming = await this.#kept(account, { attemptId, generation }, answers, actor);
    const left = Math.max(0, this.#world.consents.steps(account.provider) - answers.length);
    const rooms = await this.#redemption.prepare(account, attemptId, generation, left);
    const grant = await this.#redemption.run(redeeming, rooms);
    if (grant.kind === "unmapped") return false;
    if (grant.kind === "granted") {
      const only = (now: Account) => generationOf(now) === generation;
      try {
        const connected = await this.#introduced(redeeming.context, grant, redeeming.note);
        await this.#writer.write(account, connected, actor, { only });
      } catch (error) {
        if (!isDecided(error)) throw error;
        this.#world.report("kept connection refused", { account_id: account.id }, error);
      }
    }
    await this.#world.journal.remove(attemptId);
    return true;
  }

  async #kept(
    account: Account,
    of: Pick<Redeeming, "attemptId" | "generation">,
    answers: readonly KeptAnswer[],
    actor: Actor,
  ): Promise<Redeeming> {
    const nothing = { redirectUri: "", scopes: [], fields: {}, allowIdentityChange: false };
    const note = answers.find((answer) => answer.note !== undefined)?.note ?? nothing;
    return {
      ...of,
      context: {
        account: { ...account, fields: { ...account.fields, ...note.fields } },
        slot: DEFAULT_SLOT,
        credential: { kind: "unminted" },
        client: await this.#opened(await this.#client(account), actor),
      },
      // The code is spent.
      code: { code: new Secret(""), redirectUri: note.redirectUri, codeVerifier: undefined, state: "" },
      note,
      answers,
    };
  }

  async #opened(client: Client | undefined, actor: Actor): Promise<VendorContext["client"]> {
    return client && openClient(this.#world.sealer, client.record, client.secrets, actor);
  }

  /** The account to connect, as it is or as it would be made, with its OAuth client. */
  async #subject(
    wanted: Wanted,
    permit: Permit,
  ): Promise<{
    readonly account: Account;
    readonly entry: Entry<"account"> | undefined;
    readonly client: Client | undefined;
  }> {
    if (!isAccountId(wanted.accountId))
      throw invalid("account_id", "1 to 128 of A-Z a-z 0-9 . _ ~ -, starting with a letter or digit");
    const at = key("account", wanted.accountId);
    const entry = (await this.#world.store.read([at])).get(at);
    if (entry === undefined) checkLabels(wanted.labels);
    const account = entry === undefined ? this.#newAccount(wanted) : entry.value;
    permit(account);
    if (entry !== undefined) requireSame(wanted, account);
    if (this.#world.vendors.rules(account.provider) === undefined)
      throw new KeyturnError("PROVIDER_NOT_FOUND", "There is no provider file of this name.", {
        metadata: { provider: account.provider },
      });
    return { account, entry, client: await this.#client(account) };
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
  async #client({ provider, client }: Pick<Account, "provider" | "client">): Promise<Client | undefined> {
    if (client === "") return undefined;
    const at = key("client", provider, client);
    const secretsAt = key("client_secrets", provider, client);
    const view: View = await this.#world.store.read([at, secretsAt]);
    const record = view.get(at)?.value;
    if (record !== undefined) return { record, secrets: view.get(secretsAt)?.value };
    throw new KeyturnError("CLIENT_NOT_FOUND", "There is no such OAuth client; put it first.", {
      metadata: { provider, client },
    });
  }

  #untilMs(): number {
    return this.#world.clock.boot() + STORE_PATIENCE_MS;
  }
}

interface Client {
  readonly record: OAuthClient;
  readonly secrets: ClientSecrets | undefined;
}

/** Of the account's newest material: it moves with whatever token is stored. */
function generationOf(account: Account): number {
  return Object.values(account.slots).reduce((sum, slot) => sum + slot.generation, 0);
}

function secretOf(text: string | undefined): Secret | undefined {
  return text === undefined ? undefined : new Secret(text);
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

function requireUsable({ provider, name, onHold, fault }: OAuthClient): void {
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

/** The store or the KEK is away. */
function mayPass(error: unknown): boolean {
  return storeIsAway(error) || isReason(error, "KEK_UNAVAILABLE");
}

/** Trying again would come to the same. */
function isDecided(error: unknown): boolean {
  return isReason(error, "IDENTITY_MISMATCH", "ACCOUNT_NOT_FOUND", "INVALID_REQUEST");
}
