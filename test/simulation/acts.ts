import type { SlotKey } from "../../src/tokens/account.ts";
import { key } from "../../src/tokens/records.ts";
import { Secret } from "../../src/tokens/secret.ts";
import type { Callers } from "./callers.ts";
import { CLIENT } from "./ledger.ts";
import { EPOCH_MS } from "./machine.ts";
import type { Action, ProviderShape, Shape } from "./plan.ts";
import type { Life, Shared, Sidecar } from "./sidecar.ts";
import { oauthCredential } from "./vendor-port.ts";

const ACTOR = { caller: "simulation", purpose: "reauthorized" };
/** The n-th slot of a shape. */
export function slotOf(shape: Shape, account: number): SlotKey {
  const n = account % shape.accounts;
  if (!shape.pairs) return { accountId: `account-${n}`, slot: "default" };
  return { accountId: `account-${n - (n % 2)}`, slot: n % 2 === 0 ? "default" : "user" };
}

export const numberOf = (accountId: string) => Number(accountId.slice("account-".length));

/** How long a caller who was refused waits before it asks again. */
const RETRY_MS = 2_500;

/** What users, operators and misfortune do to a fleet. */
export class Acts {
  readonly #shape: Shape;
  readonly #shared: Shared;
  readonly #sidecars: readonly Sidecar[];
  readonly #callers: Callers;
  #nonce = 0;

  constructor(shape: Shape, shared: Shared, sidecars: readonly Sidecar[], callers: Callers) {
    this.#shape = shape;
    this.#shared = shared;
    this.#sidecars = sidecars;
    this.#callers = callers;
  }

  /** An account is connected to one provider, with all its slots. */
  #providerOf({ accountId }: SlotKey): ProviderShape {
    return this.#provider(this.#shape.pairs ? numberOf(accountId) / 2 : numberOf(accountId));
  }

  #provider(n: number): ProviderShape {
    const provider = this.#shape.providers[n % this.#shape.providers.length];
    if (provider === undefined) throw new RangeError("no provider");
    return provider;
  }

  /** Undefined while it is down or not ready. */
  #life(n: number): Life | undefined {
    const life = this.#sidecars[n % this.#sidecars.length]?.life;
    return life?.isReady ? life : undefined;
  }

  /** An operator's act fails like any other call; who asked for it sees an error and lets it be. */
  #let(n: number, what: string, act: (life: Life) => Promise<unknown>): Promise<unknown> {
    const life = this.#life(n);
    if (life === undefined) return Promise.resolve();
    const { host } = life.process;
    host.chronicle.say(host.name, `is asked to ${what}`);
    host.chronicle.seen(`act ${what.split(" ")[0]}`);
    return new Promise((resolve) => {
      life.process.deliver(() => {
        act(life).then(resolve, (error: unknown) => {
          host.chronicle.say(host.name, `cannot ${what}: ${String(error)}`);
          resolve(undefined);
        });
      });
    });
  }

  putClient(n: number, provider: ProviderShape): Promise<unknown> {
    const { maxConcurrent, budget } = provider;
    return this.#let(n, `put client of ${provider.name}`, (life) =>
      life.heart.clients.put(
        {
          provider: provider.name,
          name: CLIENT,
          clientId: "id",
          secret: new Secret(`secret-${this.#nonce++}`),
          caps: { maxConcurrent, budget },
          labels: {},
        },
        ACTOR,
      ),
    );
  }

  /** Creates the account with its first slot; another slot is a credential put beside it. */
  create(n: number, account: number): Promise<unknown> {
    const slot = slotOf(this.#shape, account);
    if (slot.slot !== "default") return this.#reauthorise(n, slot);
    const provider = this.#providerOf(slot);
    const id = slot.accountId;
    return this.#let(n, `create ${id}`, (life) =>
      life.heart.accounts.create(
        {
          id,
          tenant: "tenant",
          provider: provider.name,
          client: CLIENT,
          labels: {},
          displayName: "",
          externalSubject: "",
          fields: {},
          credential: this.#authorized(slot),
        },
        ACTOR,
      ),
    );
  }

  #authorized(slot: SlotKey) {
    const { model, ledger } = this.#shared;
    const { access, refresh, lifetimeMs } = model.authorize(
      this.#providerOf(slot),
      slot.accountId,
      slot.slot,
    );
    const nowMs = EPOCH_MS + ledger.nowMs;
    return oauthCredential(access, refresh, nowMs, nowMs + lifetimeMs);
  }

  #reauthorise(n: number, slot: SlotKey): Promise<unknown> {
    const credential = this.#authorized(slot);
    return this.#let(n, `reauthorise ${slot.accountId}/${slot.slot}`, (life) =>
      life.heart.accounts.putCredential(slot, credential, ACTOR),
    );
  }

  do(action: Action): void {
    if ("account" in action) this.#toAccount(action, slotOf(this.#shape, action.account));
    else this.#toFleet(action);
  }

  #toAccount(action: Extract<Action, { readonly account: number }>, slot: SlotKey): void {
    const n = action.sidecar;
    const id = slot.accountId;
    switch (action.kind) {
      case "ask":
        // Callers at once come to every sidecar.
        for (let i = 0; i < action.callers; i += 1) this.#ask(n + i, action, slot, action.tries);
        return;
      case "refresh": {
        const trigger = action.bulk ? "bulk" : "operator";
        const ask = { key: slot, minValidityMs: 0, rejected: undefined, trigger } as const;
        void this.#let(n, `refresh ${id}`, (life) => life.heart.broker.refresh(ask, ACTOR));
        return;
      }
      case "reauthorise":
        void this.#reauthorise(n, slot);
        return;
      case "enable":
      case "disable":
        void this.#let(n, `${action.kind} ${id}`, (life) => life.heart.accounts[action.kind](id));
        return;
      case "delete":
        void this.#delete(action, id);
        return;
      case "label":
        this.#edit(n, slot, 0);
        return;
      case "storm":
        for (let i = 0; i < action.edits; i += 1)
          this.#sidecar(n).host.time.after(i * 45, () => this.#edit(n, slot, i));
        return;
      case "rewrap":
        this.#rewrap(slot);
        return;
      case "lock_lost":
        this.#loseLock(slot);
        return;
    }
  }

  #ask(n: number, action: Extract<Action, { readonly kind: "ask" }>, key: SlotKey, tries: number): void {
    const sidecar = this.#sidecar(n);
    this.#callers.ask(sidecar, { key, ...action }, (answer) => {
      if (answer !== undefined || tries === 0) return;
      sidecar.host.time.after(RETRY_MS, () => this.#ask(n + 1, action, key, tries - 1));
    });
  }

  async #delete(action: Extract<Action, { readonly kind: "delete" }>, id: string): Promise<void> {
    const over = action.revoke ? this.#shared.witness.mayRevoke(id) : undefined;
    await this.#let(action.sidecar, `delete ${id}${action.revoke ? " and revoke" : ""}`, (life) =>
      life.heart.accounts.delete(id, action.revoke, ACTOR),
    );
    over?.();
    const { againMs } = action;
    const [any] = this.#sidecars;
    if (againMs === undefined || any === undefined) return;
    const { pairs } = this.#shape;
    const first = pairs ? action.account - (action.account % 2) : action.account;
    any.host.time.after(againMs, () => void this.create(action.sidecar, first));
    if (pairs) any.host.time.after(againMs + 500, () => void this.create(action.sidecar, first + 1));
  }

  #edit(n: number, slot: SlotKey, turn: number): void {
    if (turn % 2 === 1) {
      this.#rewrap(slot);
      return;
    }
    const labels = { n: String(this.#nonce++) };
    const id = slot.accountId;
    void this.#let(n, `label ${id}`, (life) => life.heart.accounts.update(id, { labels }, undefined));
  }

  /** The same key under a newer KEK version: the record is written, its credential and generation stay. */
  #rewrap({ accountId, slot }: SlotKey): void {
    const { ledger } = this.#shared;
    const at = key("credential", accountId, slot);
    const entry = ledger.memory.readNow([at]).get(at);
    if (entry === undefined) return;
    const kekVersion = entry.value.sealed.kekVersion + 1;
    const value = { ...entry.value, sealed: { ...entry.value.sealed, kekVersion } };
    ledger.write(
      {
        nonce: `rewrap-${this.#nonce++}`,
        expect: [{ key: at, revision: entry.revision }],
        writes: [{ put: at, value }],
        events: [],
        reads: [],
      },
      "rewrap",
    );
  }

  #loseLock({ accountId, slot }: SlotKey): void {
    const at = key("lock", accountId, slot);
    const nonce = `lost-${this.#nonce++}`;
    this.#shared.ledger.write(
      { nonce, expect: [], writes: [{ remove: at }], events: [], reads: [] },
      "lease",
    );
  }

  #toFleet(action: Exclude<Action, { readonly account: number }>): void {
    const { weather } = this.#shared;
    switch (action.kind) {
      case "new_secret":
        void this.putClient(action.sidecar, this.#provider(action.provider));
        return;
      case "hold":
        this.#hold(action.sidecar, this.#provider(action.provider).name, action.forMs);
        return;
      case "blow":
        this.#sidecar(action.sidecar).strike(action.blow);
        return;
      case "trap": {
        const sidecar = this.#sidecar(action.sidecar);
        const { point, skip, blow } = action;
        sidecar.host.traps.push({ point, skip, snap: () => sidecar.strike(blow) });
        return;
      }
      case "store_trouble":
        weather.storeTrouble(this.#nameOf(action.sidecar), action.mode, action.share, action.forMs);
        return;
      case "vendor_trouble":
        weather.vendorTrouble(this.#provider(action.provider).name, action.mode, action.share, action.forMs);
        return;
      case "kek_down":
        weather.kekDown(this.#nameOf(action.sidecar), action.forMs);
        return;
      case "disk_full":
        weather.diskFull(this.#sidecar(action.sidecar).host.name, action.forMs);
        return;
      case "clock_jump":
        this.#sidecar(action.sidecar).host.jump(action.byMs);
    }
  }

  #hold(n: number, provider: string, forMs: number): void {
    void this.#let(n, `hold ${provider}`, (life) =>
      life.heart.clients.hold(provider, CLIENT, "simulation", ""),
    );
    this.#sidecar(n).host.time.after(forMs, () => void this.release(n, provider));
  }

  release(n: number, provider: string): Promise<unknown> {
    return this.#let(n, `release ${provider}`, (life) => life.heart.clients.release(provider, CLIENT));
  }

  #sidecar(n: number): Sidecar {
    const sidecar = this.#sidecars[n % this.#sidecars.length];
    if (sidecar === undefined) throw new RangeError("no sidecar");
    return sidecar;
  }

  #nameOf(n: number | undefined): string | undefined {
    return n === undefined ? undefined : this.#sidecar(n).host.name;
  }
}
