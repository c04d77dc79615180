import { KeyturnError } from "../errors.ts";
import type { Account } from "./account.ts";
import { credentialContext } from "./contexts.ts";
import { type Credential, credentialToBytes } from "./credential.ts";
import { Draft, slotEvent } from "./draft.ts";
import type { EventType } from "./events.ts";
import type { Known } from "./known.ts";
import { STORE_PATIENCE_MS } from "./limits.ts";
import { key } from "./records.ts";
import type { Actor, Sealed } from "./sealing.ts";
import { settle } from "./settle.ts";
import { slotOf } from "./slot.ts";
import { clientKeyOf, snapshotOf, snapshotReads } from "./snapshot.ts";
import type { Entry, View } from "./store.ts";
import type { World } from "./world.ts";

/** What a customer's connection has brought, ready to be stored. */
export interface Connected {
  /** By token name. Tokens of the account that are not among them stay as they are. */
  readonly credentials: ReadonlyMap<string, Credential>;
  readonly fields: Readonly<Record<string, string>>;
  readonly subject: string | undefined;
  readonly allowIdentityChange: boolean;
}

/** Stores what a connection has brought, in one transaction, whatever the account has become meanwhile. */
export class ConnectedWriter {
  readonly #world: World;
  readonly #known: Known;

  constructor(world: World, known: Known) {
    this.#world = world;
    this.#known = known;
  }

  /**
   * `fresh` is stored when there is no such account; without it, and for another incarnation, ACCOUNT_NOT_FOUND. An
   * account that is somebody else's at the vendor is IDENTITY_MISMATCH, and nothing is stored. `only`: false gives it up
   * when the account has moved on since (undefined is returned).
   */
  async write(
    account: Account,
    connected: Connected,
    actor: Actor,
    more: { readonly isNew?: boolean; readonly only?: (now: Account) => boolean } = {},
  ): Promise<Entry<"account"> | undefined> {
    const names = [...connected.credentials.keys()];
    const client = clientKeyOf(account);
    const at = key("account", account.id);
    const reads = names.flatMap((slot) => snapshotReads({ accountId: account.id, slot }, client));
    const sealing = new Sealing(this.#world, actor);
    for (let view = await this.#world.store.read(reads); ; ) {
      const now = this.#current(view.get(at), account, more.isNew === true);
      if (more.only !== undefined && !more.only(now)) return undefined;
      requireSameIdentity(now, connected);
      const draft = await this.#draft(now, view, connected, sealing);
      const transaction = draft.done(this.#world.newId(), reads);
      const result = await settle(this.#world, transaction, this.#world.clock.boot() + STORE_PATIENCE_MS);
      view = result.view;
      const entry = view.get(at);
      if (!result.applied || entry === undefined) continue;
      for (const slot of names) this.#known.learn(snapshotOf({ accountId: account.id, slot }, client, view));
      return entry;
    }
  }

  #current(entry: Entry<"account"> | undefined, account: Account, isNew: boolean): Account {
    if (entry === undefined && isNew) return account;
    if (entry?.value.incarnation === account.incarnation) return entry.value;
    throw new KeyturnError("ACCOUNT_NOT_FOUND", "The account was deleted while it was being connected.", {
      metadata: { account_id: account.id },
    });
  }

  async #draft(before: Account, view: View, connected: Connected, sealing: Sealing): Promise<Draft> {
    const at = key("account", before.id);
    const nowMs = this.#world.clock.now();
    const draft = new Draft().expect(at, view.get(at));
    const slots = { ...before.slots };
    for (const [name, credential] of connected.credentials) {
      const generation = (before.slots[name]?.generation ?? 0) + 1;
      const rules = this.#world.vendors.rules(before.provider, name);
      const making = { nowMs, random: this.#world.random(), rules, afterRejection: false, minValidityMs: 0 };
      slots[name] = slotOf(before.slots[name], credential, generation, making);
      const credentialAt = key("credential", before.id, name);
      const sealed = await sealing.of(before, name, generation, credential);
      draft
        .expect(credentialAt, view.get(credentialAt))
        .put(credentialAt, { incarnation: before.incarnation, generation, sealed });
    }
    const account: Account = {
      ...before,
      fields: { ...before.fields, ...connected.fields },
      externalSubject: connected.subject ?? before.externalSubject,
      slots,
      pendingSinceMs: undefined,
      updatedAtMs: nowMs,
    };
    draft.put(at, account);
    const isFirst = view.get(at) === undefined || before.pendingSinceMs !== undefined;
    for (const [n, name] of [...connected.credentials.keys()].entries()) {
      const say = (type: EventType) =>
        draft.event(slotEvent(type, account, name, slots[name], nowMs, "connected"));
      // An account is created once; schedules are fed for each of its tokens.
      if (!isFirst) say("integrated_account:credential_rotated");
      else say(n === 0 ? "integrated_account:created" : "feed:slot_changed");
      if (before.slots[name]?.state === "needs_reauth") say("integrated_account:reactivated");
    }
    return draft;
  }
}

/** Seals each credential once for as long as its generation does not move: one KEK call each. */
class Sealing {
  readonly #world: World;
  readonly #actor: Actor;
  readonly #sealed = new Map<string, { readonly generation: number; readonly value: Sealed }>();

  constructor(world: World, actor: Actor) {
    this.#world = world;
    this.#actor = actor;
  }

  async of(account: Account, slot: string, generation: number, credential: Credential): Promise<Sealed> {
    const known = this.#sealed.get(slot);
    if (known?.generation === generation) return known.value;
    const context = credentialContext(account, slot, generation);
    const prepared = await this.#world.sealer.prepare(context, this.#actor);
    const plain = credentialToBytes(credential);
    try {
      const value = prepared.seal(context, plain);
      this.#sealed.set(slot, { generation, value });
      return value;
    } finally {
      plain.fill(0);
    }
  }
}

function requireSameIdentity(account: Account, { subject, allowIdentityChange }: Connected): void {
  const known = account.externalSubject;
  if (allowIdentityChange || subject === undefined || known === "" || known === subject) return;
  throw new KeyturnError(
    "IDENTITY_MISMATCH",
    "This account belongs to somebody else at the provider; nothing was stored.",
    {
      metadata: { account_id: account.id, provider: account.provider, expected: known, got: subject },
    },
  );
}
