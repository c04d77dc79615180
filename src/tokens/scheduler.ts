import { isReason } from "../errors.ts";
import { type Account, DEFAULT_SLOT } from "./account.ts";
import { Agenda, type Due, leadMs } from "./agenda.ts";
import type { Broker } from "./broker.ts";
import type { Caps } from "./caps.ts";
import type { StoredEvent } from "./events.ts";
import type { Gates } from "./gate.ts";
import type { Known } from "./known.ts";
import { EVERYTHING, type Ownership } from "./membership.ts";
import { type ClientKey, clientKeyOf, clientKeyText } from "./snapshot.ts";
import type { Page } from "./store.ts";
import { OWN_WORK, type World } from "./world.ts";

/** With all places taken it is looked again this much later: callers' refreshes give theirs back without a word. */
const FULL_AGAIN_MS = 1_000;
/** Pauses end so far apart that one scheduler's probe is known to the others before they would send theirs. */
const APART_MS = 3_000;
/** No timer is longer, so that a jump of the clock or a suspend is noticed. */
const MAX_SLEEP_MS = 60_000;
const MIN_SLEEP_MS = 50;
const PAGE = 1_000;
/** A slot whose refresh ended without moving its date is looked at again this much later. */
const AGAIN_MS = 60_000;
const LEAD_SLICE_MS = 10_000;
const LEAD_SLICES = 360;
const LEAD_EVERY_MS = 10_000;
const SMALLEST_SHARE = 1 / 256;

interface ClientAgenda {
  readonly client: ClientKey;
  readonly agenda: Agenda;
  /** Boot clock: nothing of this client is started before. */
  pausedUntilBootMs: number;
  /** Something was in the way: one goes ahead, and the others follow when it has got through. */
  isProbing: boolean;
  underway: number;
  leadMs: number;
  leadAtBootMs: number;
}

/** Refreshes ahead of expiry: earliest date first per OAuth client, as fast as its caps permit. */
export class Scheduler {
  readonly #world: World;
  readonly #known: Known;
  readonly #gates: Gates;
  readonly #caps: Caps;
  readonly #broker: Broker;
  readonly #ownership: Ownership;
  readonly #clients = new Map<string, ClientAgenda>();
  readonly #clientOf = new Map<string, string>();
  /** Names of an account's slots beside the default one, which few have. */
  readonly #further = new Map<string, Set<string>>();
  readonly #underway = new Set<string>();
  #wake: () => void = () => undefined;

  constructor(
    world: World,
    known: Known,
    gates: Gates,
    caps: Caps,
    broker: Broker,
    ownership: Ownership = EVERYTHING,
  ) {
    this.#world = world;
    this.#known = known;
    this.#gates = gates;
    this.#caps = caps;
    this.#broker = broker;
    this.#ownership = ownership;
  }

  /**
   * The dates of every owned account, or of one shard's. The feed must be followed before, so that no change falls
   * between.
   */
  async load(signal: AbortSignal, shard?: string): Promise<void> {
    for (let after: string | undefined = ""; after !== undefined; ) {
      signal.throwIfAborted();
      const page: Page<"account"> = await this.#world.store.scan("account", after, PAGE, shard);
      for (const { value } of page.entries) if (this.#ownership.owns(value.id)) this.#learn(value);
      after = page.next;
      this.#wake();
    }
  }

  #learn(account: Account): void {
    for (const [slot, state] of Object.entries(account.slots)) {
      if (this.#clientOf.has(`${account.id}/${slot}`)) continue;
      const dueAtMs = state.state === "active" && !account.disabled ? state.nextRefreshAtMs : undefined;
      this.#set(clientKeyOf(account), { accountId: account.id, slot }, dueAtMs);
    }
  }

  /** The feed: every change of a slot says when it is due next. */
  apply(event: StoredEvent): void {
    if (event.accountId === "") {
      if (event.client === "") return;
      const client = { provider: event.provider, client: event.client };
      const entry = this.#clients.get(clientKeyText(client));
      if (entry !== undefined) {
        entry.pausedUntilBootMs = 0;
        entry.isProbing = false;
      }
      this.#gates.open(client);
      this.#wake();
      return;
    }
    if (event.type === "integrated_account:deleted") {
      this.#forget(event.accountId);
      return;
    }
    if (event.slot === "" || event.reason === "superseded") return;
    if (!this.#ownership.owns(event.accountId)) {
      this.#drop(event.accountId, event.slot);
      return;
    }
    const due = event.detail.next_refresh_at_ms;
    this.#set(clientKeyOf(event), event, due === undefined ? undefined : Number(due));
    this.#wake();
  }

  #forget(accountId: string): void {
    this.#drop(accountId, DEFAULT_SLOT);
    for (const slot of this.#further.get(accountId) ?? []) this.#drop(accountId, slot);
    this.#further.delete(accountId);
  }

  /** Before everything is loaded again. */
  forgetAll(): void {
    this.#clients.clear();
    this.#clientOf.clear();
    this.#further.clear();
  }

  /** Somebody else's now: its date is theirs to know. */
  #drop(accountId: string, slot: string): void {
    const name = `${accountId}/${slot}`;
    const client = this.#clientOf.get(name);
    if (client === undefined) return;
    this.#clients.get(client)?.agenda.remove(accountId, slot);
    this.#clientOf.delete(name);
  }

  #set(
    client: ClientKey,
    of: { readonly accountId: string; readonly slot: string },
    dueAtMs: number | undefined,
  ): void {
    const text = clientKeyText(client);
    this.#clientOf.set(`${of.accountId}/${of.slot}`, text);
    if (of.slot !== DEFAULT_SLOT)
      this.#further.set(of.accountId, (this.#further.get(of.accountId) ?? new Set()).add(of.slot));
    const { agenda } = this.#agendaOf(client);
    if (dueAtMs === undefined) agenda.remove(of.accountId, of.slot);
    else agenda.set({ accountId: of.accountId, slot: of.slot, dueAtMs });
  }

  #agendaOf(client: ClientKey): ClientAgenda {
    const text = clientKeyText(client);
    let entry = this.#clients.get(text);
    if (entry === undefined) {
      entry = {
        client,
        agenda: new Agenda(),
        pausedUntilBootMs: 0,
        isProbing: false,
        underway: 0,
        leadMs: 0,
        leadAtBootMs: 0,
      };
      this.#clients.set(text, entry);
    }
    return entry;
  }

  /** Runs until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const sleepMs = Math.min(
        ...[...this.#clients.values()].map((entry) => this.#start(entry)),
        MAX_SLEEP_MS,
      );
      const woken = new AbortController();
      this.#wake = () => woken.abort("woken");
      await this.#world.clock
        .sleep(Math.max(MIN_SLEEP_MS, sleepMs), AbortSignal.any([signal, woken.signal]))
        .catch(() => undefined);
      // A burst of changes wakes once, not once each.
      if (woken.signal.aborted) await this.#world.clock.sleep(MIN_SLEEP_MS, signal).catch(() => undefined);
    }
  }

  /** Starts what is due and fits. Returns when to look again, in milliseconds. */
  #start(entry: ClientAgenda): number {
    const pausedMs = entry.pausedUntilBootMs - this.#world.clock.boot();
    if (pausedMs > 0) return pausedMs;
    const nowMs = this.#world.clock.now();
    const untilMs = nowMs + this.#lead(entry);
    let free = this.#gates.free(entry.client, this.#places(entry.client));
    if (entry.isProbing) free = Math.min(free, 1 - entry.underway);
    for (; free > 0; free -= 1) {
      const due = entry.agenda.take(untilMs);
      if (due === undefined) break;
      if (this.#ownership.owns(due.accountId)) void this.#refresh(entry, due, untilMs);
      else this.#drop(due.accountId, due.slot);
    }
    const next = entry.agenda.peek();
    if (next === undefined) return MAX_SLEEP_MS;
    const dueInMs = next.dueAtMs - untilMs;
    return free <= 0 ? Math.max(dueInMs, FULL_AGAIN_MS) : dueInMs;
  }

  /** The part of a client's places that this schedule plans with: wanting more would only send the others away. */
  #places(client: ClientKey): number {
    return Math.ceil(this.#caps.local(client) * this.#share);
  }

  get #share(): number {
    return Math.max(this.#ownership.share, SMALLEST_SHARE);
  }

  async #refresh(entry: ClientAgenda, due: Due, dueUntilMs: number): Promise<void> {
    const name = `${due.accountId}/${due.slot}`;
    if (this.#underway.has(name)) return;
    this.#underway.add(name);
    entry.underway += 1;
    const key = { accountId: due.accountId, slot: due.slot };
    const ask = { key, minValidityMs: 0, rejected: undefined, trigger: "proactive", dueUntilMs } as const;
    const error = await this.#broker
      .refresh(ask, OWN_WORK, entry.client)
      .catch((failure: unknown) => failure);
    this.#underway.delete(name);
    entry.underway -= 1;
    if (
      isReason(
        error,
        "PROVIDER_RATE_LIMITED",
        "PROVIDER_UNAVAILABLE",
        "CLIENT_ON_HOLD",
        "CLIENT_MISCONFIGURED",
      )
    ) {
      const forMs =
        Math.min(error.retryAfterMs ?? MAX_SLEEP_MS, MAX_SLEEP_MS) + APART_MS * this.#world.random();
      entry.pausedUntilBootMs = Math.max(entry.pausedUntilBootMs, this.#world.clock.boot() + forMs);
      entry.isProbing = true;
    } else if (error === undefined) entry.isProbing = false;
    // What the records say now; without word of a new date it is looked at again before long.
    const state = this.#known.account(due.accountId)?.slots[due.slot];
    const nextAtMs = state?.state === "active" ? state.nextRefreshAtMs : undefined;
    const goneFor = isReason(error, "ACCOUNT_NOT_FOUND", "ACCOUNT_DISABLED", "REAUTHORIZATION_REQUIRED");
    if (!goneFor && (nextAtMs !== undefined || error !== undefined) && this.#clientOf.has(name)) {
      const nowMs = this.#world.clock.now();
      const hasMoved = error === undefined && nextAtMs !== undefined && nextAtMs > nowMs;
      const retryAtMs = hasMoved ? nextAtMs : nowMs + this.#retryMs(error);
      entry.agenda.set({ ...due, dueAtMs: Math.max(nextAtMs ?? 0, retryAtMs) });
    }
    this.#wake();
  }

  #retryMs(error: unknown): number {
    const asked = isReason(
      error,
      "PROVIDER_RATE_LIMITED",
      "PROVIDER_UNAVAILABLE",
      "REFRESH_UNCERTAIN",
      "KEK_UNAVAILABLE",
      "STORE_UNAVAILABLE",
    )
      ? error.retryAfterMs
      : undefined;
    return Math.max(MIN_SLEEP_MS, Math.min(asked ?? AGAIN_MS, AGAIN_MS)) * (0.9 + 0.2 * this.#world.random());
  }

  /** How much earlier than their dates this client's refreshes have to start to fit its budget. */
  #lead(entry: ClientAgenda): number {
    const bootMs = this.#world.clock.boot();
    if (entry.leadAtBootMs !== 0 && bootMs - entry.leadAtBootMs < LEAD_EVERY_MS) return entry.leadMs;
    entry.leadAtBootMs = bootMs;
    const rules = this.#world.vendors.rules(entry.client.provider);
    const budget = this.#known.client(entry.client)?.client?.caps.budget ?? rules?.budget;
    if (budget === undefined) return 0;
    const counts = entry.agenda.histogram(this.#world.clock.now(), LEAD_SLICE_MS, LEAD_SLICES);
    // The others plan for the rest of it.
    const wantedMs = leadMs(counts, LEAD_SLICE_MS, (this.#share * budget.requests) / budget.perMs);
    // A provider that refuses early refreshes has no room for a lead: its dates are as early as it permits.
    entry.leadMs = rules?.earliestBeforeExpiryMs === undefined ? wantedMs : 0;
    return entry.leadMs;
  }

  /** For metrics: per client, how many slots are planned and by how much their refreshes are brought forward. */
  status(): readonly { readonly client: ClientKey; readonly planned: number; readonly leadMs: number }[] {
    return [...this.#clients.values()].map(({ client, agenda, leadMs: lead }) => ({
      client,
      planned: agenda.size,
      leadMs: lead,
    }));
  }
}
