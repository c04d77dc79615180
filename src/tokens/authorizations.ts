import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { KeyturnError } from "../errors.ts";
import type { Account } from "./account.ts";
import type { Alongside } from "./admission.ts";
import { authorizationContext } from "./contexts.ts";
import { Draft } from "./draft.ts";
import { STORE_PATIENCE_MS } from "./limits.ts";
import { type KeyOf, key } from "./records.ts";
import type { Actor, Sealed } from "./sealing.ts";
import { Secret } from "./secret.ts";
import { settle } from "./settle.ts";
import type { Entry, View } from "./store.ts";
import type { World } from "./world.ts";

/** How long a customer has for the provider's pages. */
export const AUTHORIZATION_TTL_MS = 600_000;

/** What an authorization was started with, as far as its completion needs it. */
export interface Intent {
  readonly redirectUri: string;
  /** Undefined: this provider takes no PKCE. */
  readonly verifier: string | undefined;
  readonly scopes: readonly string[];
  readonly fields: Readonly<Record<string, string>>;
  readonly allowIdentityChange: boolean;
  /** Who started it; empty: anybody who reaches the sidecar may complete it. */
  readonly caller: string;
}

/** A started one, found by its state and not used yet. */
export interface Found {
  readonly entry: Entry<"authorization">;
  readonly account: Account;
  readonly intent: Intent;
  /** Wall clock. */
  readonly untilMs: number;
}

/** 256 bits, for a state, a PKCE verifier (RFC 7636 §4.1) or a browser's binding. */
export function randomSecret(): Secret {
  return new Secret(randomBytes(32).toString("base64url"));
}

/** AUTHORIZATION_STATE_INVALID; `cause` says why for programs. */
export function stateInvalid(cause: string, message: string, accountId?: string): KeyturnError {
  const metadata = { cause, ...(accountId === undefined ? {} : { account_id: accountId }) };
  return new KeyturnError("AUTHORIZATION_STATE_INVALID", message, { metadata });
}

interface SealedIntent extends Intent {
  /** SHA-256 of the browser's binding. */
  readonly binding: string;
  /** Wall clock. */
  readonly untilMs: number;
}

/** Started authorizations in the store: sealed, for ten minutes, found by the hash of their state, used once. */
export class Authorizations {
  readonly #world: World;

  constructor(world: World) {
    this.#world = world;
  }

  /** The record to be put under `at`; one KEK call. */
  async seal(
    account: Pick<Account, "id" | "tenant" | "incarnation">,
    of: { readonly state: Secret; readonly binding: Secret; readonly intent: Intent },
    actor: Actor,
  ): Promise<{ readonly at: ReturnType<typeof keyOf>; readonly sealed: Sealed }> {
    const at = keyOf(of.state.reveal());
    const context = authorizationContext(account, at.parts[0]);
    const prepared = await this.#world.sealer.prepare(context, actor);
    const untilMs = this.#world.clock.now() + AUTHORIZATION_TTL_MS;
    const content: SealedIntent = { ...of.intent, binding: hashOf(of.binding.reveal()), untilMs };
    const plain = Buffer.from(JSON.stringify(content));
    try {
      return { at, sealed: prepared.seal(context, plain) };
    } finally {
      plain.fill(0);
    }
  }

  /** AUTHORIZATION_STATE_INVALID unless it stands, unused, for an account that is still the same one. */
  async find(state: string, binding: Secret, actor: Actor): Promise<Found> {
    const at = keyOf(state);
    const entry = (await this.#world.store.read([at])).get(at);
    if (entry === undefined)
      throw stateInvalid(
        "unknown",
        "This authorization was never started here, or has expired; start again.",
      );
    const { accountId, sealed } = entry.value;
    if (sealed === undefined)
      throw stateInvalid("used", "This authorization has been completed already; start again.", accountId);
    const accountAt = key("account", accountId);
    const account = (await this.#world.store.read([accountAt])).get(accountAt)?.value;
    const content = account && (await this.#open(account, at.parts[0], sealed, actor));
    if (account === undefined || content === undefined)
      throw stateInvalid("account_gone", "The account was deleted since; start again.", accountId);
    const { binding: known, untilMs, ...intent } = content;
    if (!isSame(known, hashOf(binding.reveal())))
      throw stateInvalid(
        "browser_binding",
        "This is not the browser that the authorization was started for.",
        accountId,
      );
    return { entry, account, intent, untilMs };
  }

  /** Undefined when it was sealed for an earlier account of this id. */
  async #open(
    account: Account,
    stateHash: string,
    sealed: Sealed,
    actor: Actor,
  ): Promise<SealedIntent | undefined> {
    try {
      const bytes = await this.#world.sealer.open(authorizationContext(account, stateHash), sealed, actor);
      try {
        return JSON.parse(bytes.toString("utf8"));
      } finally {
        bytes.fill(0);
      }
    } catch (error) {
      if (error instanceof KeyturnError && error.reason === "SEAL_INVALID") return undefined;
      throw error;
    }
  }

  /** For the transaction that takes the place for its code. */
  spending(found: Found): Spending {
    return new Spending(this.#world, found);
  }

  /** Spends it alone: there is nothing to be asked. */
  async spend(found: Found): Promise<void> {
    const { clock, newId } = this.#world;
    const spending = this.spending(found);
    const draft = new Draft();
    spending.add(draft);
    const transaction = draft.done(newId(), spending.reads);
    const result = await settle(this.#world, transaction, clock.boot() + STORE_PATIENCE_MS);
    if (!result.applied) spending.check(result.view);
  }
}

/**
 * The spending of one, before its code goes anywhere: of two completions at once one gets AUTHORIZATION_STATE_INVALID. A mark
 * without the verifier stays for as long as the state could come again.
 */
export class Spending implements Alongside {
  readonly reads: readonly KeyOf<"authorization">[];
  readonly #world: World;
  readonly #found: Found;
  #spent: Entry<"authorization"> | undefined;

  constructor(world: World, found: Found) {
    this.#world = world;
    this.#found = found;
    this.reads = [found.entry.key];
  }

  add(draft: Draft): void {
    const { entry } = this.#found;
    const used = { ...entry.value, sealed: undefined, usedAtMs: this.#world.clock.now() };
    draft.expect(entry.key, entry).put(entry.key, used, AUTHORIZATION_TTL_MS);
  }

  check(view: View): void {
    const { entry } = this.#found;
    if (view.get(entry.key)?.revision === entry.revision) return;
    throw stateInvalid(
      "used",
      "This authorization has been completed already; start again.",
      entry.value.accountId,
    );
  }

  done(view: View): void {
    this.#spent = view.get(this.#found.entry.key);
  }

  /** Nothing of it has left, or what has is free to be asked again: it is good for what is left of its time. */
  async restore(): Promise<void> {
    const { clock, newId } = this.#world;
    const { entry, untilMs } = this.#found;
    const leftMs = untilMs - clock.now();
    if (leftMs <= 0 || this.#spent === undefined) return;
    const draft = new Draft().expect(entry.key, this.#spent).put(entry.key, entry.value, leftMs);
    await settle(this.#world, draft.done(newId(), []), clock.boot() + STORE_PATIENCE_MS);
  }
}

function keyOf(state: string) {
  return key("authorization", hashOf(state));
}

function hashOf(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

function isSame(a: string, b: string): boolean {
  return a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b));
}
