import type { KeyturnError } from "../errors.ts";
import { type Account, DEFAULT_SLOT, type SlotKey } from "./account.ts";
import { type Decision, decide, errorFor, rejectsCurrent } from "./decide.ts";
import type { Flight } from "./flight.ts";
import { isValid } from "./freshness.ts";
import { inTime } from "./in-time.ts";
import type { Known } from "./known.ts";
import { openUse } from "./opening.ts";
import { key } from "./records.ts";
import type { Refresher } from "./refresher.ts";
import type { Actor } from "./sealing.ts";
import { type ClientKey, clientKeyOf, type Snapshot, snapshotOf, snapshotReads } from "./snapshot.ts";
import type { Ask } from "./token.ts";
import { Trust } from "./trust.ts";
import type { Verifier } from "./verifier.ts";
import type { World } from "./world.ts";

/** Someone who waits: until when, by the boot clock, and as whom. */
export interface Waiting {
  readonly untilBootMs: number;
  readonly actor: Actor;
}

/** A rendered answer, and when its token ends. */
interface Opened {
  readonly answer: Uint8Array;
  readonly expiresAtMs: number | undefined;
}

/** Longer minimum validities, flights that ended for somebody else's reason: it settles long before this. */
const MAX_ROUNDS = 8;

/** Answers `GetToken`: from memory when it can, through one shared refresh when it must. */
export class Broker {
  readonly #world: World;
  readonly #known: Known;
  readonly #refresher: Refresher;
  readonly #verifier: Verifier;
  readonly #trust: Trust;
  readonly #loading = new Map<string, Promise<Snapshot>>();
  readonly #opening = new Map<string, Promise<Opened>>();

  constructor(world: World, known: Known, refresher: Refresher, verifier: Verifier) {
    this.#world = world;
    this.#known = known;
    this.#refresher = refresher;
    this.#verifier = verifier;
    this.#trust = new Trust(world);
  }

  /** The account as this process knows it, else as the store has it. Undefined: there is none. */
  account(id: string): Account | undefined | Promise<Account | undefined> {
    return this.#known.account(id) ?? this.#loadAccount(id);
  }

  async #loadAccount(id: string): Promise<Account | undefined> {
    return (await this.#load({ accountId: id, slot: DEFAULT_SLOT })).account?.value;
  }

  /** The rendered answer. Warm, it is there at once; the caller's deadline ends its waiting, never the refresh. */
  getToken(ask: Ask, waiting: Waiting): Uint8Array | Promise<Uint8Array> {
    return this.#trust.isGiven ? this.#getKnown(ask, waiting) : this.#getRechecked(ask, waiting);
  }

  /** The feed may have missed something: what is remembered is read again first. */
  async #getRechecked(ask: Ask, waiting: Waiting): Promise<Uint8Array> {
    const { accountId } = ask.key;
    if (this.#known.account(accountId) !== undefined) {
      await this.#trust.recheck(() => this.#within(this.#load(ask.key), waiting, ask));
    }
    return this.#getKnown(ask, waiting);
  }

  #getKnown(ask: Ask, waiting: Waiting): Uint8Array | Promise<Uint8Array> {
    const account = this.#known.account(ask.key.accountId);
    const decision = account === undefined ? undefined : this.#decideKnown(ask, account);
    if (decision?.kind === "serve") {
      const sealed = this.#known.answer(ask.key);
      if (sealed !== undefined) return this.#world.vault.open(sealed);
    }
    if (decision?.kind === "refuse") throw decision.error;
    return this.#resolve(ask, waiting);
  }

  /** Undefined when the client's state has to be read first. */
  #decideKnown(ask: Ask, account: Account): Decision | undefined {
    const client = this.#known.client(clientKeyOf(account));
    if (client === undefined) return undefined;
    const rules = this.#world.vendors.rules(account.provider, ask.key.slot);
    return decide(ask, {
      account,
      client,
      rules,
      doubt: this.#known.doubt(ask.key),
      isHeld: this.#world.isHeld?.(),
      nowMs: this.#world.clock.now(),
    });
  }

  async #resolve(ask: Ask, waiting: Waiting): Promise<Uint8Array> {
    let failure: Error | undefined;
    for (let round = 0; round < MAX_ROUNDS; round += 1) {
      const { account, decision } = await this.#decision(ask, waiting);
      switch (decision.kind) {
        case "serve": {
          const answer = await this.#whileValid(ask.key, account, waiting);
          if (answer !== undefined) return answer;
          break;
        }
        case "refuse":
          throw decision.error;
        case "flag":
          await this.#verifier.flag(ask.key, account, decision.reason);
          break;
        case "verify":
          failure = await this.#wait(this.#verifier.verify(ask.key, account, waiting.actor), waiting, ask);
          if (failure !== undefined) throw failure;
          break;
        case "refresh": {
          if (failure !== undefined) {
            // No new one can be had now; the old one is still good for what is left of it.
            const answer = await this.#whileValid(ask.key, account, waiting);
            if (answer !== undefined) return answer;
            throw failure;
          }
          const flight = this.#refresher.refresh(believable(ask, account), clientKeyOf(account));
          failure = await this.#wait(flight.ended, waiting, ask, flight);
          break;
        }
      }
    }
    throw (
      failure ??
      errorFor(
        ask,
        undefined,
        "REFRESH_UNCERTAIN",
        "The account keeps changing; try again.",
        { cause: "unsettled" },
        1_000,
      )
    );
  }

  /**
   * Starts or joins a refresh that nobody's GetToken asked for. Resolves when it has ended; its error is returned.
   * `client`: the account's, if the caller knows it, and that it is most likely a refresh that it needs.
   */
  async refresh(ask: Ask, actor: Actor, client?: ClientKey): Promise<Error | undefined> {
    if (
      client !== undefined &&
      this.#known.account(ask.key.accountId) === undefined &&
      this.#isClear(client)
    ) {
      // It reads all there is to know under its lock, and sends nothing where something else is needed.
      const flight = this.#refresher.refresh(ask, client);
      const error = await flight.ended;
      if (error !== undefined || flight.hasSent) return error;
    }
    const { account, decision } = await this.#decision(ask, { untilBootMs: Number.POSITIVE_INFINITY, actor });
    switch (decision.kind) {
      case "serve":
        return undefined;
      case "refuse":
        return decision.error;
      case "flag":
        await this.#verifier.flag(ask.key, account, decision.reason);
        return undefined;
      case "verify":
        return this.#verifier.verify(ask.key, account, actor);
      case "refresh":
        return this.#refresher.refresh(believable(ask, account), clientKeyOf(account)).ended;
    }
  }

  /** Nothing is known that keeps the client's accounts from being refreshed: a lock would not be taken in vain. */
  #isClear(of: ClientKey): boolean {
    const state = this.#known.client(of);
    if (state === undefined || state.cooldown !== undefined || this.#world.isHeld?.() === true) return false;
    return state.client?.onHold === undefined && state.client?.fault === undefined;
  }

  async #decision(
    ask: Ask,
    waiting: Waiting,
  ): Promise<{ readonly account: Account; readonly decision: Decision }> {
    let account = this.#known.account(ask.key.accountId);
    let decision = account === undefined ? undefined : this.#decideKnown(ask, account);
    if (account === undefined || decision === undefined) {
      const snapshot = await this.#within(this.#load(ask.key), waiting, ask);
      account = snapshot.account?.value;
      decision = this.#decideFresh(ask, snapshot);
    }
    if (account !== undefined) return { account, decision };
    throw decision.kind === "refuse"
      ? decision.error
      : errorFor(ask, undefined, "ACCOUNT_NOT_FOUND", "There is no such account.", {});
  }

  #decideFresh(ask: Ask, snapshot: Snapshot): Decision {
    const rules = this.#world.vendors.rules(snapshot.client.provider, ask.key.slot);
    const client = {
      client: snapshot.oauthClient?.value,
      cooldown: snapshot.cooldown?.value,
      breaker: snapshot.breaker?.value,
    };
    return decide(ask, {
      account: snapshot.account?.value,
      client,
      rules,
      doubt: this.#known.doubt(ask.key),
      isHeld: this.#world.isHeld?.(),
      nowMs: this.#world.clock.now(),
    });
  }

  /** One read for everybody who asks for the same slot at once. */
  #load(slot: SlotKey): Promise<Snapshot> {
    const name = `${slot.accountId}/${slot.slot}`;
    const underway = this.#loading.get(name) ?? this.#read(slot).finally(() => this.#loading.delete(name));
    this.#loading.set(name, underway);
    return underway;
  }

  async #read(slot: SlotKey): Promise<Snapshot> {
    const at = key("account", slot.accountId);
    const account =
      this.#known.account(slot.accountId) ?? (await this.#world.store.read([at])).get(at)?.value;
    const client: ClientKey = account === undefined ? { provider: "-", client: "-" } : clientKeyOf(account);
    const snapshot = snapshotOf(slot, client, await this.#world.store.read(snapshotReads(slot, client)));
    const now = snapshot.account?.value;
    // Deleted and created anew between the two reads: the client read was the old one's.
    if (now !== undefined && (account === undefined || now.incarnation !== account.incarnation)) {
      this.#known.forgetAccount(slot.accountId);
      return this.#read(slot);
    }
    this.#known.learn(snapshot);
    return snapshot;
  }

  /**
   * Undefined when the token has ended. The KEK may take seconds, and what is opened then may be another generation
   * than the one decided on: what has ended by then is not handed out.
   */
  async #whileValid(slot: SlotKey, account: Account, waiting: Waiting): Promise<Uint8Array | undefined> {
    const { clock } = this.#world;
    if (!isValid(account.slots[slot.slot]?.expiresAtMs, clock.now())) return undefined;
    const { answer, expiresAtMs } = await this.#answer(slot, waiting);
    return isValid(expiresAtMs, clock.now()) ? answer : undefined;
  }

  async #answer(slot: SlotKey, waiting: Waiting): Promise<Opened> {
    const sealed = this.#known.answer(slot);
    if (sealed !== undefined) {
      const expiresAtMs = this.#known.account(slot.accountId)?.slots[slot.slot]?.expiresAtMs;
      return { answer: this.#world.vault.open(sealed), expiresAtMs };
    }
    const name = `${slot.accountId}/${slot.slot}`;
    const underway =
      this.#opening.get(name) ?? this.#open(slot, waiting.actor).finally(() => this.#opening.delete(name));
    this.#opening.set(name, underway);
    return this.#within(underway, waiting, { key: slot });
  }

  async #open(slot: SlotKey, actor: Actor): Promise<Opened> {
    const snapshot = await this.#load(slot);
    const account = snapshot.account?.value;
    if (account === undefined || snapshot.slot === undefined) {
      throw errorFor({ key: slot }, undefined, "ACCOUNT_NOT_FOUND", "There is no such account.", {});
    }
    const context = await openUse(this.#world, snapshot, account, actor);
    const answer = this.#world.render(context);
    this.#known.setAnswer(
      slot,
      {
        incarnation: account.incarnation,
        generation: snapshot.slot.generation,
        material: context.client?.record.materialGeneration,
      },
      this.#world.vault.seal(answer),
    );
    return { answer, expiresAtMs: snapshot.slot.expiresAtMs };
  }

  /** The flight's own error, or the one of a caller whose time is up. */
  async #wait(
    ended: Promise<Error | undefined>,
    waiting: Waiting,
    ask: Ask,
    flight?: Flight,
  ): Promise<Error | undefined> {
    return this.#within(ended, waiting, ask, () =>
      flight?.queued
        ? errorFor(
            ask,
            undefined,
            "PROVIDER_RATE_LIMITED",
            "The token endpoint's budget leaves no room yet.",
            { cause: "budget" },
            1_000,
          )
        : undefined,
    );
  }

  async #within<T>(
    work: Promise<T>,
    waiting: Waiting,
    ask: Pick<Ask, "key">,
    late?: () => Error | undefined,
  ): Promise<T> {
    const leftMs = waiting.untilBootMs - this.#world.clock.boot();
    if (leftMs === Number.POSITIVE_INFINITY) return work;
    if (await inTime(this.#world.clock, Math.max(0, leftMs), work)) return work;
    throw late?.() ?? timedOut(ask);
  }
}

function timedOut(ask: Pick<Ask, "key">): KeyturnError {
  return errorFor(
    ask,
    undefined,
    "WAIT_TIMED_OUT",
    "The deadline passed while the refresh goes on; ask again.",
    {},
    1_000,
  );
}

/** Only a rejection of the current token makes the refresh one after a rejection. */
function believable(ask: Ask, account: Account): Ask {
  const slot = account.slots[ask.key.slot];
  return slot !== undefined && rejectsCurrent(ask, account, slot) ? ask : { ...ask, rejected: undefined };
}
