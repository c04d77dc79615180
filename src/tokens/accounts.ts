import { createHash } from "node:crypto";
import { invalid, KeyturnError } from "../errors.ts";
import { type Account, DEFAULT_SLOT, requireAccountId, type SlotKey } from "./account.ts";
import { checkFields } from "./account-fields.ts";
import { type ContentMarks, contentKeyAt } from "./content-mark.ts";
import { credentialContext } from "./contexts.ts";
import { type Credential, credentialToBytes } from "./credential.ts";
import { Draft, slotEvent } from "./draft.ts";
import type { EventType } from "./events.ts";
import { heldAs } from "./held-as.ts";
import type { Known } from "./known.ts";
import { STORE_PATIENCE_MS } from "./limits.ts";
import { openContext } from "./opening.ts";
import { key } from "./records.ts";
import type { Actor, Sealed } from "./sealing.ts";
import { settle } from "./settle.ts";
import { slotOf } from "./slot.ts";
import { clientKeyOf, type Snapshot, snapshotOf, snapshotReads } from "./snapshot.ts";
import type { Entry, View } from "./store.ts";
import type { Revocation } from "./vendor.ts";
import type { World } from "./world.ts";

const MAX_LABELS = 64;
const MAX_LABEL_BYTES = 2_048;

/** What an account is made from. */
export interface NewAccount {
  readonly id: string;
  readonly tenant: string;
  readonly provider: string;
  readonly client: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly displayName: string;
  readonly externalSubject: string;
  readonly fields: Readonly<Record<string, string>>;
  /** Of the token that most accounts have; undefined: the customer has still to connect. */
  readonly credential: Credential | undefined;
  /** Of further tokens, by name, for providers whose accounts have several. */
  readonly tokens?: Readonly<Record<string, Credential>>;
}

/** What an operator may change; undefined members stay. */
export interface AccountPatch {
  readonly labels?: Readonly<Record<string, string>>;
  readonly displayName?: string;
  readonly fields?: Readonly<Record<string, string>>;
}

/** What operators do to accounts. Each act is one transaction with its event. */
export class Accounts {
  readonly #world: World;
  readonly #known: Known;
  readonly #marks: ContentMarks;

  constructor(world: World, known: Known, marks: ContentMarks) {
    this.#world = world;
    this.#known = known;
    this.#marks = marks;
  }

  /** ACCOUNT_NOT_FOUND. */
  async get(id: string): Promise<Entry<"account">> {
    const at = key("account", id);
    const entry = (await this.#world.store.read([at])).get(at);
    if (entry === undefined) throw notFound(id);
    return entry;
  }

  /** Idempotent by id and content: the same again gives the existing one, another content ACCOUNT_ALREADY_EXISTS. */
  async create(wanted: NewAccount, actor: Actor): Promise<Entry<"account">> {
    const view = await this.#look(wanted);
    return view.get(key("account", wanted.id)) ?? this.#store(wanted, view, actor, undefined);
  }

  /** True when there is none yet. Otherwise as `create` would do; it costs a process one KEK call in its life. */
  async isNew(wanted: NewAccount): Promise<boolean> {
    return (await this.#look(wanted)).get(key("account", wanted.id)) === undefined;
  }

  /** What there is of it: nothing, or the same. ACCOUNT_ALREADY_EXISTS: another. */
  async #look(wanted: NewAccount): Promise<View> {
    this.#check(wanted);
    const at = key("account", wanted.id);
    const view = await this.#world.store.read([at, contentKeyAt]);
    const entry = view.get(at);
    if (entry === undefined || (await this.#marks.fits(entry.value.contentHash, contentDigest(wanted), view)))
      return view;
    throw alreadyExists(wanted.id);
  }

  /**
   * `create` for one of many. A credential that does not say when it ends is looked at when `firstCheck` says, by the
   * scheduler, unless somebody asks for its token before.
   */
  async import(wanted: NewAccount, firstCheck: () => number, actor: Actor): Promise<"created" | "unchanged"> {
    // Most of a repeated import is there already, and needs no data key.
    const view = await this.#look(wanted);
    if (view.get(key("account", wanted.id)) !== undefined) return "unchanged";
    await this.#store(wanted, view, actor, firstCheck);
    return "created";
  }

  async #store(
    wanted: NewAccount,
    before: View,
    actor: Actor,
    firstCheck: (() => number) | undefined,
  ): Promise<Entry<"account">> {
    const { credential: _credential, tokens: _tokens, ...visible } = wanted;
    const at = key("account", wanted.id);
    const digest = contentDigest(wanted);
    const contentHash = await this.#marks.of(digest, credentialsOf(wanted).length > 0, before);
    const nowMs = this.#world.clock.now();
    let account: Account = {
      ...visible,
      incarnation: this.#world.newId(),
      disabled: false,
      slots: {},
      createdAtMs: nowMs,
      updatedAtMs: nowMs,
      lastUsedAtMs: undefined,
      contentHash,
    };
    const draft = new Draft()
      .expect(at, undefined)
      .expect(key("credential", wanted.id, DEFAULT_SLOT), undefined);
    for (const [name, each] of credentialsOf(wanted)) {
      const rules = this.#world.vendors.rules(wanted.provider, name);
      const held = heldAs(name, each, rules);
      const making = { nowMs, random: this.#world.random(), rules, afterRejection: false, minValidityMs: 0 };
      const known = slotOf(undefined, held, 1, making);
      const canCheck = known.refreshable || rules?.canVerify === true;
      const isLater = firstCheck !== undefined && canCheck && !saysItsEnd(held);
      const slot = isLater ? { ...known, nextRefreshAtMs: firstCheck() } : known;
      account = { ...account, slots: { ...account.slots, [name]: slot } };
      const sealed = await this.#seal(account, name, 1, held, actor);
      const credentialAt = key("credential", wanted.id, name);
      draft
        .expect(credentialAt, undefined)
        .put(credentialAt, { incarnation: account.incarnation, generation: 1, sealed });
    }
    draft.put(at, account);
    const slots = Object.entries(account.slots);
    // An account is created once; schedules are fed for each of its tokens.
    for (const [n, [name, slot]] of (slots.length === 0 ? [["", undefined] as const] : slots).entries()) {
      const type = n === 0 ? "integrated_account:created" : "feed:slot_changed";
      draft.event(slotEvent(type, account, name, slot, nowMs, "created"));
    }
    const transaction = draft.done(this.#world.newId(), [at, contentKeyAt]);
    const result = await settle(this.#world, transaction, this.#world.clock.boot() + STORE_PATIENCE_MS);
    const entry = result.view.get(at);
    if (entry === undefined)
      throw new KeyturnError("STORE_UNAVAILABLE", "The account was deleted while it was created.");
    if (result.applied || (await this.#marks.fits(entry.value.contentHash, digest, result.view)))
      return entry;
    throw alreadyExists(wanted.id);
  }

  #check(wanted: NewAccount): void {
    requireAccountId(wanted.id);
    if (this.#world.vendors.rules(wanted.provider) === undefined) {
      throw new KeyturnError("PROVIDER_NOT_FOUND", "There is no provider file of this name.", {
        metadata: { provider: wanted.provider },
        violations: [{ field: "provider", description: "the name of a loaded provider file" }],
      });
    }
    checkLabels(wanted.labels);
    const credentials = credentialsOf(wanted);
    for (const [name, credential] of credentials)
      heldAs(name, credential, this.#world.vendors.rules(wanted.provider, name));
    checkFields(this.#world.vendors.rules(wanted.provider)?.fields, wanted.fields, credentials.length > 0);
  }

  /** A new credential for an account that exists: the repair of NEEDS_REAUTH, and how a key is exchanged for another. */
  async putCredential(slot: SlotKey, given: Credential, actor: Actor): Promise<Entry<"account">> {
    let sealed:
      | { readonly generation: number; readonly incarnation: string; readonly value: Sealed }
      | undefined;
    return this.#change(slot, async (snapshot, account) => {
      const rules = this.#world.vendors.rules(account.provider, slot.slot);
      const credential = heldAs(slot.slot, given, rules);
      const generation = (snapshot.slot?.generation ?? 0) + 1;
      if (sealed?.generation !== generation || sealed.incarnation !== account.incarnation) {
        const value = await this.#seal(account, slot.slot, generation, credential, actor);
        sealed = { generation, incarnation: account.incarnation, value };
      }
      const nowMs = this.#world.clock.now();
      const making = { nowMs, random: this.#world.random(), rules, afterRejection: false, minValidityMs: 0 };
      const next = slotOf(snapshot.slot, credential, generation, making);
      const at = key("credential", account.id, slot.slot);
      const draft = new Draft()
        .expect(at, snapshot.credential)
        .put(at, { incarnation: account.incarnation, generation, sealed: sealed.value })
        .event(
          slotEvent("integrated_account:credential_rotated", account, slot.slot, next, nowMs, actor.purpose),
        );
      if (snapshot.slot?.state === "needs_reauth") {
        draft.event(
          slotEvent("integrated_account:reactivated", account, slot.slot, next, nowMs, "new_credential"),
        );
      }
      return {
        draft,
        account: { ...account, slots: { ...account.slots, [slot.slot]: next }, updatedAtMs: nowMs },
      };
    });
  }

  /** INVALID_REQUEST for labels or fields that cannot be; REVISION_MISMATCH when `revision` is given and the account has been written since. */
  update(id: string, patch: AccountPatch, revision: number | undefined): Promise<Entry<"account">> {
    if (patch.labels !== undefined) checkLabels(patch.labels);
    return this.#switch(id, "feed:account_changed", "updated", (account, entry) => {
      if (revision !== undefined && revision !== entry.revision) {
        throw new KeyturnError("REVISION_MISMATCH", "The account has been changed since it was read.", {
          metadata: { account_id: id },
        });
      }
      const rules = this.#world.vendors.rules(account.provider);
      if (patch.fields !== undefined)
        checkFields(rules?.fields, patch.fields, Object.keys(account.slots).length > 0);
      return { ...account, ...patch };
    });
  }

  enable(id: string): Promise<Entry<"account">> {
    return this.#switch(id, "feed:account_changed", "enabled", (account) =>
      account.disabled ? { ...account, disabled: false } : undefined,
    );
  }

  disable(id: string): Promise<Entry<"account">> {
    return this.#switch(id, "feed:account_changed", "disabled", (account) =>
      account.disabled ? undefined : { ...account, disabled: true },
    );
  }

  #switch(
    id: string,
    type: EventType,
    reason: string,
    next: (account: Account, entry: Entry<"account">) => Account | undefined,
  ): Promise<Entry<"account">> {
    return this.#change({ accountId: id, slot: DEFAULT_SLOT }, async (snapshot, account) => {
      const changed = snapshot.account === undefined ? undefined : next(account, snapshot.account);
      if (changed === undefined) return undefined;
      const nowMs = this.#world.clock.now();
      const draft = new Draft();
      const slots = Object.entries(changed.slots);
      // One record for each slot, since schedules are kept by slot.
      for (const [name, slot] of slots.length === 0 ? [["", undefined] as const] : slots) {
        draft.event(slotEvent(type, changed, name, slot, nowMs, reason));
      }
      return { draft, account: { ...changed, updatedAtMs: nowMs } };
    });
  }

  async #change(
    slot: SlotKey,
    plan: (
      snapshot: Snapshot,
      account: Account,
    ) => Promise<{ readonly draft: Draft; readonly account: Account } | undefined>,
  ): Promise<Entry<"account">> {
    let snapshot = await this.#read(slot);
    for (;;) {
      const entry = snapshot.account;
      if (entry === undefined) throw notFound(slot.accountId);
      const planned = await plan(snapshot, entry.value);
      if (planned === undefined) return entry;
      planned.draft.expect(entry.key, entry).put(entry.key, planned.account);
      const reads = snapshotReads(slot, snapshot.client);
      const transaction = planned.draft.done(this.#world.newId(), reads);
      const result = await settle(this.#world, transaction, this.#world.clock.boot() + STORE_PATIENCE_MS);
      snapshot = snapshotOf(slot, snapshot.client, result.view);
      this.#known.learn(snapshot);
      if (result.applied && snapshot.account !== undefined) return snapshot.account;
    }
  }

  async #read(slot: SlotKey): Promise<Snapshot> {
    const client = clientKeyOf((await this.get(slot.accountId)).value);
    return snapshotOf(slot, client, await this.#world.store.read(snapshotReads(slot, client)));
  }

  /**
   * Deletes the account with everything it has. With `revoke` the provider is told first, best effort; an answer that
   * is still on its way is revoked when it comes. Returns what became of each slot's grant.
   */
  async delete(id: string, revoke: boolean, actor: Actor): Promise<readonly Revocation[]> {
    const account = (await this.get(id)).value;
    const revoked: Revocation[] = [];
    const slots = Object.keys(account.slots);
    for (const slot of revoke ? slots : []) revoked.push(await this.#revoke({ accountId: id, slot }, actor));
    const client = clientKeyOf(account);
    const names = slots.length === 0 ? [DEFAULT_SLOT] : slots;
    for (;;) {
      const reads = names.flatMap((slot) => snapshotReads({ accountId: id, slot }, client));
      const view = await this.#world.store.read(reads);
      const entry = view.get(key("account", id));
      if (entry?.value.incarnation !== account.incarnation) return revoked;
      const draft = new Draft().expect(entry.key, entry).remove(entry);
      for (const slot of names) {
        const { credential, hold, lock, attempt } = snapshotOf({ accountId: id, slot }, client, view);
        for (const record of [credential, hold, lock])
          if (record !== undefined) draft.expect(record.key, record).remove(record);
        // The note stays, to tell its holder what to do with a token for an account that is gone.
        const at = key("attempt", id, slot);
        draft.expect(at, attempt);
        if (attempt !== undefined) draft.put(at, { ...attempt.value, onAnswer: revoke ? "revoke" : "drop" });
      }
      const nowMs = this.#world.clock.now();
      draft.event(
        slotEvent(
          "integrated_account:deleted",
          account,
          "",
          undefined,
          nowMs,
          revoke ? "revoked" : "deleted",
        ),
      );
      const transaction = draft.done(this.#world.newId(), []);
      const result = await settle(this.#world, transaction, this.#world.clock.boot() + STORE_PATIENCE_MS);
      this.#known.forgetAccount(id);
      if (result.applied) return revoked;
    }
  }

  async #revoke(slot: SlotKey, actor: Actor): Promise<Revocation> {
    try {
      const context = await openContext(this.#world.sealer, await this.#read(slot), {
        ...actor,
        purpose: "revocation",
      });
      return await this.#world.vendors.revoke(context);
    } catch (error) {
      this.#world.report("grant not revoked", { account_id: slot.accountId }, error);
      return "still_live";
    }
  }

  async #seal(
    account: Account,
    slot: string,
    generation: number,
    credential: Credential,
    actor: Actor,
  ): Promise<Sealed> {
    const context = credentialContext(account, slot, generation);
    const prepared = await this.#world.sealer.prepare(context, actor);
    const plain = credentialToBytes(credential);
    try {
      return prepared.seal(context, plain);
    } finally {
      plain.fill(0);
    }
  }
}

/** Of each token, by its name. */
function credentialsOf({ credential, tokens }: NewAccount): readonly (readonly [string, Credential])[] {
  const given = credential === undefined ? {} : { [DEFAULT_SLOT]: credential };
  return Object.entries({ ...given, ...tokens });
}

function notFound(id: string): KeyturnError {
  return new KeyturnError("ACCOUNT_NOT_FOUND", "There is no such account.", { metadata: { account_id: id } });
}

function alreadyExists(id: string): KeyturnError {
  return new KeyturnError("ACCOUNT_ALREADY_EXISTS", "An account with this id and other content exists.", {
    metadata: { account_id: id },
  });
}

/** A grant handed in without its end counts as ended, so that the first caller gets a fresh token. */
function saysItsEnd(credential: Credential): boolean {
  if (credential.kind === "unminted") return false;
  if (credential.kind !== "oauth") return credential.expiresAtMs !== undefined;
  return credential.expiresAtMs !== undefined && credential.expiresAtMs !== credential.issuedAtMs;
}

/** INVALID_REQUEST when there are too many, or too much of them. */
export function checkLabels(labels: Readonly<Record<string, string>>): void {
  const entries = Object.entries(labels);
  if (entries.length > MAX_LABELS) throw invalid("labels", `at most ${MAX_LABELS}`);
  const bytes = entries.reduce(
    (sum, [name, value]) => sum + Buffer.byteLength(name) + Buffer.byteLength(value),
    0,
  );
  if (bytes > MAX_LABEL_BYTES) throw invalid("labels", `at most ${MAX_LABEL_BYTES} bytes in all`);
}

/** Of everything given, secrets included. Who has it can try guesses at them: it is stored only keyed. */
function contentDigest(wanted: NewAccount): string {
  const { credential, tokens = {}, ...visible } = wanted;
  const hash = createHash("sha256").update(JSON.stringify(visible, sortedKeys));
  if (credential !== undefined) hash.update(credentialToBytes(timeless(credential)));
  for (const [name, token] of Object.entries(tokens).sort(([a], [b]) => (a < b ? -1 : 1)))
    hash.update(`\n${name}\n`).update(credentialToBytes(timeless(token)));
  return hash.digest("hex");
}

function sortedKeys(_key: string, value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** When it was handed in is not part of what was handed in. */
function timeless(credential: Credential): Credential {
  if (credential.kind === "unminted") return credential;
  if (credential.kind === "oauth") {
    const expiresAtMs = saysItsEnd(credential) ? credential.expiresAtMs : undefined;
    return { ...credential, issuedAtMs: 0, expiresAtMs };
  }
  return {
    ...credential,
    versions: credential.versions.map((version) => ({ ...version, version: "", createdAtMs: 0 })),
  };
}
