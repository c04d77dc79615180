import { invalid, isReason, KeyturnError, withMetadata } from "../errors.ts";
import { type Account, DEFAULT_SLOT } from "./account.ts";
import type { Accounts } from "./accounts.ts";
import { type Admission, type Admitted, brokenOff, type Ending } from "./admission.ts";
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
import { ConnectionReplay, generationOf } from "./connection-replay.ts";
import { ConnectionSubjects, type Permit, requireUsable, type Wanted } from "./connection-subjects.ts";
import type { Grant } from "./consent.ts";
import { Draft, slotEvent } from "./draft.ts";
import type { Exchanges } from "./exchanges.ts";
import { introduced } from "./introducing.ts";
import type { JournalEntry } from "./journal.ts";
import type { Known } from "./known.ts";
import { STORE_PATIENCE_MS } from "./limits.ts";
import { Minting } from "./minting.ts";
import { mayPass, patiently } from "./patience.ts";
import { key } from "./records.ts";
import { type Redeemed, type Redeeming, Redemption, Rooms } from "./redemption.ts";
import type { Actor } from "./sealing.ts";
import { Secret } from "./secret.ts";
import { SecretConnections, type WantedWithSecret } from "./secret-connections.ts";
import { settle } from "./settle.ts";
import type { Revocation } from "./vendor.ts";
import type { World } from "./world.ts";

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
  readonly #admission: Admission;
  readonly #subjects: ConnectionSubjects;
  readonly #redemption: Redemption;
  readonly #writer: ConnectedWriter;
  readonly #secrets: SecretConnections;
  readonly #replay: ConnectionReplay;

  constructor(world: World, known: Known, admission: Admission, exchanges: Exchanges, accounts: Accounts) {
    this.#world = world;
    this.#exchanges = exchanges;
    this.#accounts = accounts;
    this.#admission = admission;
    this.#authorizations = new Authorizations(world);
    const subjects = new ConnectionSubjects(world);
    const redemption = new Redemption(world, () => exchanges.isStopping);
    const writer = new ConnectedWriter(world, known);
    const { gone } = exchanges;
    this.#subjects = subjects;
    this.#redemption = redemption;
    this.#writer = writer;
    const minting = new Minting(world, admission);
    this.#secrets = new SecretConnections({ world, subjects, writer, minting, gone });
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
      throw stillOpen(
        new KeyturnError("SHUTTING_DOWN", "This sidecar is shutting down.", { retryAfterMs: 1_000 }),
      );
    const attemptId = this.#world.newId();
    const generation = generationOf(account);
    const steps = this.#world.consents.steps(account.provider);
    const { redirectUri, scopes, allowIdentityChange } = intent;
    const rooms = new Rooms();
    const prepare = () => this.#redemption.prepare(rooms, { account, attemptId, generation, from: 0, steps });
    const applicant = { account, attemptId, actor, untilBootMs: who.untilBootMs };
    let admitted: Admitted;
    try {
      admitted = await this.#admission.enter(applicant, prepare, this.#authorizations.spending(found));
    } catch (error) {
      rooms.discard();
      throw stillOpen(error);
    }
    const redeeming: Redeeming = {
      attemptId,
      generation,
      context: {
        account: { ...account, fields: { ...fields, ...reply.fields } },
        slot: DEFAULT_SLOT,
        credential: { kind: "unminted" },
        client: admitted.client,
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
    // From here on no caller's deadline ends it.
    return this.#exchanges.track(attemptId, async () => {
      const grant = await this.#redeemed(redeeming, rooms, found, admitted);
      return this.#store(redeeming, grant, actor);
    });
  }

  /** The code's exchange, and what it says of its client. One of which nothing has left may be completed again. */
  async #redeemed(
    redeeming: Redeeming,
    rooms: Rooms,
    found: Found,
    admitted: Admitted,
  ): Promise<Extract<Grant, { kind: "granted" }>> {
    const { sendUntilMs } = admitted;
    const reopen = () => this.#authorizations.restore(found, admitted.view);
    let redeemed: Redeemed;
    try {
      redeemed = await this.#redemption.run(redeeming, rooms, sendUntilMs);
    } catch (error) {
      await this.#admission.leave(admitted, brokenOff(error));
      await reopen();
      throw stillOpen(error);
    }
    const { grant, answers } = redeemed;
    const isUnsent = grant.kind === "not_sent" && answers.length === 0;
    const isOurs = this.#exchanges.isStopping || this.#world.clock.boot() >= sendUntilMs;
    await this.#admission.leave(admitted, isUnsent && isOurs ? { kind: "withdrawn" } : endingOf(grant));
    if (grant.kind === "granted") return grant;
    const fault = grantFault(redeeming.context.account, grant);
    if (isUnsent) {
      await reopen();
      throw stillOpen(fault);
    }
    // An answer that the file does not map is kept for a better file.
    if (grant.kind !== "unmapped") await this.#world.journal.remove(redeeming.attemptId);
    throw fault;
  }

  async #store(
    { attemptId, context, note }: Redeeming,
    grant: Extract<Grant, { kind: "granted" }>,
    actor: Actor,
  ): Promise<Account> {
    const { clock, journal } = this.#world;
    const { gone } = this.#exchanges;
    try {
      const connected = await introduced(this.#world, context, grant, note, gone);
      // The answer is kept and the code is spent, so the store and the KEK are waited for.
      const entry = await patiently(clock, gone, () => this.#writer.write(context.account, connected, actor));
      await journal.remove(attemptId);
      return entry?.value ?? context.account;
    } catch (error) {
      // What has been decided for good is not tried again at the next start.
      if (error instanceof KeyturnError && error.reason !== "SHUTTING_DOWN") await journal.remove(attemptId);
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

  /** Kept answers of one exchange; false when they stay in the journal. Rejects while store or KEK is away. */
  replay(kept: readonly JournalEntry[], actor: Actor): Promise<boolean> {
    return this.#replay.exchange(kept, actor);
  }
}

/** The redirect may be completed again: nothing of it has been spent. */
function stillOpen(error: unknown): unknown {
  const isOpen =
    error instanceof KeyturnError && !isReason(error, "AUTHORIZATION_STATE_INVALID") && !mayPass(error);
  return isOpen ? withMetadata(error, { authorization: "open" }) : error;
}

function endingOf(grant: Grant): Ending {
  return grant.kind === "more" ? { kind: "withdrawn" } : grant;
}

function secretOf(text: string | undefined): Secret | undefined {
  return text === undefined ? undefined : new Secret(text);
}
