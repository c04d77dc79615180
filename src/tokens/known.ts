import type { Clock } from "../clock.ts";
import type { Account, SlotKey } from "./account.ts";
import type { Doubt } from "./decide.ts";
import type { StoredEvent } from "./events.ts";
import {
  type ClientKey,
  type ClientState,
  clientKeyOf,
  clientKeyText,
  clientStateOf,
  type Standing,
} from "./snapshot.ts";

/** How long a remembered cool-down, or a remembered doubt, stands without asking the store again. */
const SHORT_MEMORY_MS = 1_000;

/** What an answer was made of. */
export interface AnswerOf {
  readonly incarnation: string;
  readonly generation: number;
  /** Of the OAuth client's secrets that are in it. Undefined: none are. */
  readonly material: number | undefined;
}

interface KnownAccount {
  readonly account: Account;
  readonly storeRevision: number;
  /** Sealed answers by slot. */
  readonly answers: Map<string, AnswerOf & { readonly sealed: Uint8Array }>;
  readonly doubts: Map<string, { readonly doubt: Doubt; readonly untilBootMs: number }>;
  used: boolean;
}

interface KnownClient {
  readonly state: ClientState;
  readonly storeRevision: number;
  readonly untilBootMs: number;
}

/**
 * What this process remembers, so that a warm call asks nobody: records without secrets, and sealed answers. The feed
 * of events takes back whatever has changed. Least recently used accounts go first.
 */
export class Known {
  readonly #accounts = new Map<string, KnownAccount>();
  readonly #clients = new Map<string, KnownClient>();
  /** Newest revision at which the feed spoke of an account that a slow read may still bring an older view of. */
  readonly #changed = new Map<string, number>();
  readonly #waiting = new Map<string, Set<() => void>>();
  readonly #clock: Clock;
  readonly #maxAccounts: number;

  constructor(clock: Clock, maxAccounts: number) {
    this.#clock = clock;
    this.#maxAccounts = maxAccounts;
  }

  account(id: string): Account | undefined {
    const known = this.#accounts.get(id);
    if (known === undefined) return undefined;
    known.used = true;
    return known.account;
  }

  /** Undefined when the client's state has to be read again. */
  client(of: ClientKey): ClientState | undefined {
    const known = this.#clients.get(clientKeyText(of));
    return known !== undefined && known.untilBootMs > this.#clock.boot() ? known.state : undefined;
  }

  doubt(slot: SlotKey): Doubt {
    const known = this.#accounts.get(slot.accountId)?.doubts.get(slot.slot);
    return known !== undefined && known.untilBootMs > this.#clock.boot() ? known.doubt : undefined;
  }

  setDoubt(slot: SlotKey, doubt: Doubt): void {
    const untilBootMs = this.#clock.boot() + SHORT_MEMORY_MS;
    this.#accounts.get(slot.accountId)?.doubts.set(slot.slot, { doubt, untilBootMs });
  }

  /** The sealed answer for the slot's current generation, and the client's where its secrets are in it. */
  answer(slot: SlotKey): Uint8Array | undefined {
    const known = this.#accounts.get(slot.accountId);
    const answer = known?.answers.get(slot.slot);
    if (known === undefined || answer?.generation !== known.account.slots[slot.slot]?.generation)
      return undefined;
    if (answer?.material === undefined) return answer?.sealed;
    const client = this.#clients.get(clientKeyText(clientKeyOf(known.account)));
    return client?.state.client?.materialGeneration === answer.material ? answer.sealed : undefined;
  }

  setAnswer(slot: SlotKey, of: AnswerOf, sealed: Uint8Array): void {
    const known = this.#accounts.get(slot.accountId);
    if (known?.account.incarnation === of.incarnation) known.answers.set(slot.slot, { ...of, sealed });
  }

  /** Takes a view in, unless a newer one is known or the feed has spoken since. */
  learn(snapshot: Standing): void {
    this.#learnClient(snapshot.client, clientStateOf(snapshot), snapshot.storeRevision);
    const id = snapshot.key.accountId;
    const before = this.#accounts.get(id);
    if ((before?.storeRevision ?? 0) > snapshot.storeRevision) return;
    if ((this.#changed.get(id) ?? 0) > snapshot.storeRevision) return;
    if (snapshot.account === undefined) {
      this.#accounts.delete(id);
      return;
    }
    this.#set(snapshot.account.value, snapshot.storeRevision);
  }

  #set(account: Account, storeRevision: number): void {
    const before = this.#accounts.get(account.id);
    const same = before?.account.incarnation === account.incarnation ? before : undefined;
    this.#accounts.set(account.id, {
      account,
      storeRevision,
      answers: same?.answers ?? new Map(),
      doubts: new Map(),
      used: true,
    });
    this.#evict();
  }

  /**
   * A kept answer whose commit the store cannot take yet is served meanwhile: the account as it will stand, until the
   * feed or a read says otherwise.
   */
  foresee(account: Account): void {
    const before = this.#accounts.get(account.id);
    if (before !== undefined && before.account.incarnation !== account.incarnation) return;
    this.#set(account, before?.storeRevision ?? 0);
  }

  #learnClient(of: ClientKey, state: ClientState, storeRevision: number): void {
    const text = clientKeyText(of);
    const before = this.#clients.get(text);
    if ((before?.storeRevision ?? 0) > storeRevision) return;
    // A cool-down ends without an event, so it is believed only shortly; the rest is kept true by the feed.
    const untilBootMs =
      state.cooldown === undefined ? Number.POSITIVE_INFINITY : this.#clock.boot() + SHORT_MEMORY_MS;
    this.#clients.set(text, { state, storeRevision, untilBootMs });
  }

  /** The feed: drops what a change has made old, and wakes who waits for it. */
  apply(event: StoredEvent): void {
    const { storeRevision } = event.position;
    if (event.accountId !== "") {
      const known = this.#accounts.get(event.accountId);
      if (known !== undefined && known.storeRevision < storeRevision) this.#accounts.delete(event.accountId);
      this.#remember(event.accountId, storeRevision);
      for (const wake of this.#waiting.get(event.accountId) ?? []) wake();
      return;
    }
    if (event.client === "") return;
    const text = clientKeyText({ provider: event.provider, client: event.client });
    const client = this.#clients.get(text);
    if (client !== undefined && client.storeRevision < storeRevision) this.#clients.delete(text);
  }

  #remember(id: string, storeRevision: number): void {
    this.#changed.delete(id);
    this.#changed.set(id, storeRevision);
    const [oldest] = this.#changed.keys();
    if (this.#changed.size > 1_000 && oldest !== undefined) this.#changed.delete(oldest);
  }

  /** The feed was interrupted: nothing remembered may be trusted unread. */
  forgetAll(): void {
    this.#accounts.clear();
    this.#clients.clear();
  }

  /** The provider files are others now, which is how answers are made. */
  forgetAnswers(): void {
    for (const { answers } of this.#accounts.values()) answers.clear();
  }

  forgetAccount(id: string): void {
    this.#accounts.delete(id);
  }

  /** Resolves at the next event about the account, or after `ms`. */
  async change(id: string, ms: number): Promise<void> {
    const timer = new AbortController();
    const wake = () => timer.abort("changed");
    const waiting = this.#waiting.get(id) ?? new Set();
    this.#waiting.set(id, waiting.add(wake));
    await this.#clock.sleep(ms, timer.signal).catch(() => undefined);
    waiting.delete(wake);
    if (waiting.size === 0) this.#waiting.delete(id);
  }

  get size(): number {
    return this.#accounts.size;
  }

  #evict(): void {
    while (this.#accounts.size > this.#maxAccounts) {
      const [oldest] = this.#accounts;
      if (oldest === undefined) return;
      const [id, known] = oldest;
      this.#accounts.delete(id);
      if (!known.used) return;
      known.used = false;
      this.#accounts.set(id, known);
    }
  }
}
