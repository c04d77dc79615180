import { invalid, KeyturnError, withMetadata } from "../errors.ts";
import { type Account, DEFAULT_SLOT } from "./account.ts";
import type { Accounts } from "./accounts.ts";
import {
  AUTHORIZATION_TTL_MS,
  Authorizations,
  type Found,
  randomSecret,
  stateInvalid,
} from "./authorizations.ts";
import { requireCallbackOf, stateOf } from "./callback-url.ts";
import { ConnectedWriter } from "./connected.ts";
import { grantFault, replyFault } from "./connection-faults.ts";
import { ConnectionReplay, generationOf, mayPass } from "./connection-replay.ts";
import { ConnectionSubjects, type Permit, requireUsable, type Wanted } from "./connection-subjects.ts";
import { Draft, slotEvent } from "./draft.ts";
import type { Exchanges } from "./exchanges.ts";
import { introduced } from "./introducing.ts";
import type { JournalEntry } from "./journal.ts";
import type { Known } from "./known.ts";
import { STORE_PATIENCE_MS } from "./limits.ts";
import { key } from "./records.ts";
import { type Redeeming, Redemption, type Rooms } from "./redemption.ts";
import type { Actor } from "./sealing.ts";
import { Secret } from "./secret.ts";
import { SecretConnections, type WantedWithSecret } from "./secret-connections.ts";
import { settle } from "./settle.ts";
import type { Revocation } from "./vendor.ts";
import type { World } from "./world.ts";

const MAX_PAUSE_MS = 1_000;

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
  readonly #redemption: Redemption;
  readonly #writer: ConnectedWriter;
  readonly #secrets: SecretConnections;
  readonly #replay: ConnectionReplay;

  constructor(world: World, known: Known, exchanges: Exchanges, accounts: Accounts) {
    this.#world = world;
    this.#exchanges = exchanges;
    this.#accounts = accounts;
    this.#authorizations = new Authorizations(world);
    const subjects = new ConnectionSubjects(world);
    const redemption = new Redemption(world, () => exchanges.isStopping);
    const writer = new ConnectedWriter(world, known);
    const { gone } = exchanges;
    this.#subjects = subjects;
    this.#redemption = redemption;
    this.#writer = writer;
    this.#secrets = new SecretConnections(world, subjects, writer, gone);
    this.#replay = new ConnectionReplay({ world, subjects, redemption, writer, gone });
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
    const reply = this.#world.consents.reply(account.provider, query, fields, secrets);
    if (reply.kind === "invalid") throw refuse(reply.cause, reply.message);
    if (reply.kind === "refused") {
      await this.#authorizations.spend(found);
      throw replyFault(account, reply);
    }
    if (this.#exchanges.isStopping)
      throw new KeyturnError("SHUTTING_DOWN", "This sidecar is shutting down.", { retryAfterMs: 1_000 });
    const client = await this.#subjects.client(account);
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
        client: await this.#subjects.opened(client, actor),
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
      const connected = await introduced(this.#world, context, grant, redeeming.note, this.#exchanges.gone);
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

  /** Kept answers of one exchange; false when they stay in the journal. Rejects while store or KEK is away. */
  replay(kept: readonly JournalEntry[], actor: Actor): Promise<boolean> {
    return this.#replay.exchange(kept, actor);
  }
}

function secretOf(text: string | undefined): Secret | undefined {
  return text === undefined ? undefined : new Secret(text);
}
