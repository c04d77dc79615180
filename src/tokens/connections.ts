import { invalid, KeyturnError, withMetadata } from "../errors.ts";
import { type Account, DEFAULT_SLOT } from "./account.ts";
import type { Accounts } from "./accounts.ts";
import type { Admission } from "./admission.ts";
import {
  AUTHORIZATION_TTL_MS,
  Authorizations,
  type Found,
  randomSecret,
  stateInvalid,
} from "./authorizations.ts";
import { requireCallbackOf, stateOf } from "./callback-url.ts";
import { CodeExchanges, generationOf, stillOpen } from "./code-exchanges.ts";
import { ConnectedWriter } from "./connected.ts";
import { replyFault, unfinishedFault } from "./connection-faults.ts";
import { ConnectionReplay } from "./connection-replay.ts";
import { ConnectionSubjects, type Permit, requireUsable, type Wanted } from "./connection-subjects.ts";
import { ConsentedConnections } from "./consented.ts";
import { Draft, slotEvent } from "./draft.ts";
import type { Exchanges } from "./exchanges.ts";
import type { Journal, JournalEntry } from "./journal.ts";
import type { Known } from "./known.ts";
import { STORE_PATIENCE_MS } from "./limits.ts";
import { Minting } from "./minting.ts";
import { key } from "./records.ts";
import { type Redeeming, Redemption } from "./redemption.ts";
import type { Actor } from "./sealing.ts";
import { Secret } from "./secret.ts";
import { SecretConnections, type WantedWithSecret } from "./secret-connections.ts";
import { settle } from "./settle.ts";
import type { Revocation } from "./vendor.ts";
import type { World } from "./world.ts";

/** How long somebody before a browser waits for a provider that fails half-way. */
const UNFINISHED_PATIENCE_MS = 10_000;

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

export interface WhoCompletes {
  readonly browserBinding: Secret;
  /** Undefined: whoever it is, its browser is enough. */
  readonly caller: string | undefined;
  readonly permit: Permit;
  /** Boot clock: how long it waits for its turn at the provider. */
  readonly untilBootMs: number;
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
  readonly #subjects: ConnectionSubjects;
  readonly #codes: CodeExchanges;
  readonly #consented: ConsentedConnections;
  readonly #secrets: SecretConnections;
  readonly #replay: ConnectionReplay;

  constructor(world: World, known: Known, admission: Admission, exchanges: Exchanges, accounts: Accounts) {
    this.#world = world;
    this.#exchanges = exchanges;
    this.#accounts = accounts;
    this.#authorizations = new Authorizations(world);
    this.#subjects = new ConnectionSubjects(world);
    const [authorizations, subjects] = [this.#authorizations, this.#subjects];
    const redemption = new Redemption(world, () => exchanges.isStopping);
    const writer = new ConnectedWriter(world, known);
    const codes = new CodeExchanges({ world, admission, redemption, writer, exchanges });
    const minting = new Minting(world, admission);
    this.#codes = codes;
    const { gone } = exchanges;
    this.#consented = new ConsentedConnections({ world, authorizations, minting, writer, gone });
    this.#secrets = new SecretConnections({ world, subjects, writer, minting, gone });
    this.#replay = new ConnectionReplay({ world, subjects, codes, exchanges });
  }

  /** Where to send the customer's browser. An account that exists is left as it is. */
  async start(wanted: WantedAuthorization, permit: Permit, actor: Actor): Promise<Started> {
    const nowMs = this.#world.clock.now();
    const state = randomSecret();
    const binding = randomSecret();
    const verifier = randomSecret();
    for (;;) {
      const { account, entry, client } = await this.#subjects.of(wanted, permit);
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
      const result = await settle(
        this.#world,
        draft.done(this.#world.newId(), []),
        this.#world.clock.boot() + STORE_PATIENCE_MS,
      );
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
    const asked = { fields, given: intent.fields, secrets };
    const reply = this.#world.consents.reply(account.provider, query, asked);
    if (reply.kind === "invalid") throw refuse(reply.cause, reply.message);
    if (reply.kind === "refused") {
      await this.#authorizations.spend(found);
      throw replyFault(account, reply);
    }
    const { stopping } = this.#exchanges;
    if (stopping.aborted) throw stillOpen(stopping.reason);
    if (reply.kind === "consented") {
      const { fields: brought } = reply;
      return this.#exchanges.track(this.#world.newId(), () =>
        this.#consented.connect(found, brought, actor, who.untilBootMs),
      );
    }
    const { redirectUri, scopes, allowIdentityChange } = intent;
    const redeeming: Redeeming = {
      attemptId: this.#world.newId(),
      generation: generationOf(account),
      context: {
        account: { ...account, fields: { ...fields, ...reply.fields } },
        slot: DEFAULT_SLOT,
        credential: { kind: "unminted" },
        client: undefined,
      },
      code: { code: reply.code, redirectUri, codeVerifier: secretOf(intent.verifier), state: state.reveal() },
      note: {
        redirectUri,
        scopes,
        fields: { ...intent.fields, ...reply.fields },
        allowIdentityChange,
      },
      answers: [],
      kept: 0,
      isResumed: false,
    };
    return this.#exchanged(redeeming, found, who.untilBootMs, actor);
  }

  /** No caller's deadline ends what has been sent, and one whose provider fails half-way outlives its caller. */
  async #exchanged(redeeming: Redeeming, found: Found, untilBootMs: number, actor: Actor): Promise<Account> {
    const { clock, report } = this.#world;
    const { attemptId, context } = redeeming;
    const spending = this.#authorizations.spending(found);
    const late = Promise.withResolvers<never>();
    const done = new AbortController();
    const onUnfinished = (fault: KeyturnError) => {
      const waitMs = Math.min(UNFINISHED_PATIENCE_MS, untilBootMs - clock.boot());
      const giveUp = () => late.reject(unfinishedFault(fault));
      void clock.sleep(Math.max(0, waitMs), done.signal).then(giveUp, () => undefined);
    };
    const work = this.#exchanges
      .track(attemptId, () => this.#codes.begin(redeeming, { spending, untilBootMs, onUnfinished }, actor))
      .finally(() => done.abort());
    try {
      return await Promise.race([work, late.promise]);
    } catch (error) {
      work.catch((failure: unknown) => {
        if (failure !== error) report("connection not finished", { account_id: context.account.id }, failure);
      });
      throw error;
    }
  }

  /** Revokes and deletes. True when the provider says that the grant is ended. */
  async disconnect(accountId: string, actor: Actor): Promise<boolean> {
    const revoked: readonly Revocation[] = await this.#accounts.delete(accountId, true, actor);
    return revoked.length > 0 && revoked.every((one) => one === "revoked");
  }

  /** Stored after the provider has accepted it; `verified` is false where there is no way to ask it. */
  withSecret(
    wanted: WantedWithSecret,
    permit: Permit,
    actor: Actor,
  ): Promise<{ readonly account: Account; readonly verified: boolean }> {
    return this.#secrets.connect(wanted, permit, actor);
  }

  /** Kept answers of one exchange; false when they stay in `journal`. Rejects while store or KEK is away. */
  replay(kept: readonly JournalEntry[], journal: Journal, actor: Actor): Promise<boolean> {
    return this.#replay.exchange(kept, journal, actor);
  }
}

function secretOf(text: string | undefined): Secret | undefined {
  return text === undefined ? undefined : new Secret(text);
}
