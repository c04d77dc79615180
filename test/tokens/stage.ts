import { KeyturnError } from "../../src/errors.ts";
import type { Account, SlotState } from "../../src/tokens/account.ts";
import type { Credential } from "../../src/tokens/credential.ts";
import type { StoredEvent } from "../../src/tokens/events.ts";
import { Heart } from "../../src/tokens/heart.ts";
import type { Ownership } from "../../src/tokens/membership.ts";
import type { ClientCaps } from "../../src/tokens/records.ts";
import { key } from "../../src/tokens/records.ts";
import type { Actor } from "../../src/tokens/sealing.ts";
import { Secret } from "../../src/tokens/secret.ts";
import type { Store } from "../../src/tokens/store.ts";
import type { Ask, RenderAnswer } from "../../src/tokens/token.ts";
import type { Vendors } from "../../src/tokens/vendor.ts";
import type { World } from "../../src/tokens/world.ts";
import { FakeConsents } from "../fakes/consents.ts";
import { FakeJournal } from "../fakes/journal.ts";
import { Life } from "../fakes/life.ts";
import { MemoryStore } from "../fakes/memory-store.ts";
import { FakeSealer } from "../fakes/sealer.ts";
import { Trouble } from "../fakes/trouble.ts";
import { FakeVendors, oauth } from "../fakes/vendors.ts";
import { Random } from "../simulation/random.ts";
import { VirtualTime } from "../simulation/virtual-time.ts";

export const SECOND_MS = 1_000;
export const MINUTE_MS = 60_000;
export const HOUR_MS = 3_600_000;
export const DAY_MS = 24 * HOUR_MS;
export const EPOCH_MS = 1_767_225_600_000;

const OPERATOR: Actor = { caller: "operator", purpose: "test" };
const NO_CAPS: ClientCaps = { maxConcurrent: undefined, budget: undefined };

export interface StageOptions {
  readonly caps?: Partial<ClientCaps>;
  /** Which accounts this sidecar refreshes ahead. Default: all. */
  readonly ownership?: Ownership;
  /** Third parties other than the scripted ones. */
  readonly vendors?: (vendors: FakeVendors) => Vendors;
  /** Between the heart and the store: of its calls those that a test takes part in. */
  readonly store?: (store: Store) => Partial<Store>;
  /** Between the heart and the world made here. */
  readonly around?: (world: World) => World;
}

/** What one `GetToken` came to: the token and when, or the error's reason. */
export interface Got {
  readonly token: string | undefined;
  readonly reason: string | undefined;
  readonly cause: string | undefined;
  readonly retryAfterMs: number | undefined;
  readonly atMs: number;
  readonly generation: number;
  readonly incarnation: string;
}

/** One sidecar's heart on virtual time, everything around it scripted, and its OAuth client `main` in place. */
export class Stage {
  readonly time = new VirtualTime();
  readonly store: MemoryStore;
  readonly vendors: FakeVendors;
  readonly consents: FakeConsents;
  readonly sealer = new FakeSealer();
  readonly journal = new FakeJournal();
  readonly storeTrouble = new Trouble();
  readonly reports: string[] = [];
  /** Reported errors that are not ours: bugs, unless a test threw them. */
  readonly faults: Error[] = [];
  readonly storeCalls = { read: 0, write: 0, scan: 0 };
  readonly #options: StageOptions;
  readonly #random = new Random("stage");
  #asleepMs = 0;
  #lives = 0;
  #ids = 0;
  #life: Life;
  #world: World;
  #heart: Heart;

  private constructor(options: StageOptions) {
    this.#options = options;
    const storeLife = this.#newLife();
    this.store = new MemoryStore(storeLife.clock);
    this.vendors = new FakeVendors(this.time, () => storeLife.clock.now());
    this.consents = new FakeConsents(this.time, () => storeLife.clock.now());
    this.#life = this.#newLife();
    this.#world = this.#newWorld();
    this.#heart = new Heart(this.#world, this.#options.ownership);
  }

  static async open(options: StageOptions = {}): Promise<Stage> {
    const stage = new Stage(options);
    const clientId = "id";
    const { caps } = options;
    await stage.putClient("secret-1", { ...NO_CAPS, ...caps }, clientId);
    return stage;
  }

  get heart(): Heart {
    return this.#heart;
  }

  get world(): World {
    return this.#world;
  }

  get nowMs(): number {
    return this.#life.clock.now();
  }

  get events(): readonly StoredEvent[] {
    return this.store.events;
  }

  #newLife(): Life {
    return new Life(this.time, EPOCH_MS, () => ({ wall: this.#asleepMs, boot: this.#asleepMs }));
  }

  #newWorld(): World {
    const life = this.#life;
    const name = `life-${this.#lives}`;
    this.#lives += 1;
    const { store, events } = this.store.client({
      around: async ({ phase, call }) => {
        if (phase === "before" && (call === "read" || call === "write" || call === "scan"))
          this.storeCalls[call] += 1;
        await life.hear(this.storeTrouble.pass());
      },
    });
    const journal = this.journal;
    const vendors = this.#options.vendors?.(this.vendors) ?? this.vendors;
    const world: World = {
      instance: "here",
      clock: life.clock,
      random: () => this.#random.next(),
      newId: () => {
        this.#ids += 1;
        return `${name}.${this.#ids}`;
      },
      store: {
        read: (reads) => life.hear(store.read(reads)),
        write: (transaction) => life.hear(store.write(transaction)),
        scan: (kind, after, limit, shard) => life.hear(store.scan(kind, after, limit, shard)),
      },
      events,
      sealer: {
        prepare: (context) => life.hear(this.sealer.prepare(context)),
        open: (context, sealed) => life.hear(this.sealer.open(context, sealed)),
      },
      journal: {
        reserve: async () => {
          const slot = await life.hear(journal.reserve());
          return { keep: (entry) => life.hear(slot.keep(entry)), free: () => slot.free() };
        },
        entries: () => life.hear(journal.entries()),
        remove: (attemptId) => life.hear(journal.remove(attemptId)),
      },
      vendors: {
        rules: (provider, slot) => vendors.rules(provider, slot),
        exchange: (...asked) => life.hear(vendors.exchange(...asked)),
        interpret: (...read) => life.hear(vendors.interpret(...read)),
        verify: (context) => life.hear(vendors.verify(context)),
        revoke: (context) => life.hear(vendors.revoke(context)),
        revokeAccessToken: (context) => life.hear(vendors.revokeAccessToken(context)),
        authorize: (context) => vendors.authorize(context),
      },
      consents: {
        url: (request) => this.consents.url(request),
        reply: (provider, query) => this.consents.reply(provider, query),
        subject: () => this.consents.subject(),
        steps: () => this.consents.steps(),
        redeem: (...of) => life.hear(this.consents.redeem(...of)),
        grant: (...of) => life.hear(this.consents.grant(...of)),
        introduce: () => life.hear(this.consents.introduce()),
        credential: (...of) => this.consents.credential(...of),
      },
      vault: { seal: (answer) => Buffer.from(answer), open: (sealed) => Buffer.from(sealed) },
      render,
      report: (what, _context, cause) => {
        this.reports.push(what);
        if (cause instanceof Error && !(cause instanceof KeyturnError)) this.faults.push(cause);
      },
      maxKnownAccounts: 100_000,
      defaultMaxConcurrent: 8,
    };
    const shown = { ...world, store: { ...world.store, ...this.#options.store?.(world.store) } };
    return this.#options.around?.(shown) ?? shown;
  }

  /** kill -9; the disk stays. */
  kill(): void {
    this.#life.kill();
  }

  /** A new life on the same disk. `start` of it is not awaited. */
  revive(): void {
    this.#life = this.#newLife();
    this.#world = this.#newWorld();
    this.#heart = new Heart(this.#world, this.#options.ownership);
  }

  /** Replays the journal and starts the schedule. */
  async start(): Promise<void> {
    await this.within(MINUTE_MS, this.heart.start());
  }

  /** The machine sleeps: both clocks go on, no timer does. */
  suspend(ms: number): void {
    this.#asleepMs += ms;
  }

  /** Time passes. */
  async pass(ms: number): Promise<void> {
    await this.time.run(this.time.nowMs + ms);
  }

  /** Time passes until `work` is done; an error when that takes longer than `ms`. */
  async within<T>(ms: number, work: Promise<T>): Promise<T> {
    let isDone = false;
    const noticed = work.then(
      () => (isDone = true),
      () => (isDone = true),
    );
    await this.time.run(this.time.nowMs + ms, () => isDone);
    if (!isDone) throw new Error(`not done within ${ms} ms`);
    await noticed;
    return work;
  }

  /** An account whose refresh token is `rt-ID`, its access token `at-ID`, expired unless said otherwise. */
  async connect(id: string, leftMs = 0, lifetimeMs = HOUR_MS): Promise<void> {
    const expiresAtMs = this.nowMs + leftMs;
    await this.create(id, oauth(`at-${id}`, `rt-${id}`, expiresAtMs - lifetimeMs, expiresAtMs));
  }

  async create(id: string, credential: Credential): Promise<void> {
    const about = {
      tenant: "acme",
      provider: "vendor",
      client: "main",
      displayName: "",
      externalSubject: "",
    };
    await this.heart.accounts.create({ id, ...about, labels: {}, fields: {}, credential }, OPERATOR);
  }

  async putCredential(id: string, access: string, refresh: string, leftMs = HOUR_MS): Promise<void> {
    const credential = oauth(access, refresh, this.nowMs, this.nowMs + leftMs);
    await this.heart.accounts.putCredential({ accountId: id, slot: "default" }, credential, OPERATOR);
  }

  async putClient(secret: string, caps: ClientCaps = NO_CAPS, clientId = "id"): Promise<void> {
    const wanted = {
      provider: "vendor",
      name: "main",
      clientId,
      secret: new Secret(secret),
      caps,
      labels: {},
    };
    await this.heart.clients.put(wanted, OPERATOR);
  }

  /** A caller with a deadline; time does not pass by itself. */
  async get(id: string, more: Partial<Ask> & { readonly deadlineMs?: number } = {}): Promise<Got> {
    const { deadlineMs = 10 * SECOND_MS, ...ask } = more;
    const life = this.#life;
    const at = { minValidityMs: 0, rejected: undefined, trigger: "demand", ...ask } as const;
    const blank = { token: undefined, reason: undefined, cause: undefined, retryAfterMs: undefined };
    try {
      const waiting = { untilBootMs: life.clock.boot() + deadlineMs, actor: OPERATOR };
      const bytes = await this.heart.broker.getToken(
        { key: { accountId: id, slot: "default" }, ...at },
        waiting,
      );
      const { access, generation, incarnation } = JSON.parse(Buffer.from(bytes).toString("utf8"));
      return { ...blank, token: access, atMs: this.time.nowMs, generation, incarnation };
    } catch (error) {
      if (!(error instanceof KeyturnError)) throw error;
      const { reason, metadata, retryAfterMs } = error;
      const where = { atMs: this.time.nowMs, generation: 0, incarnation: "" };
      return { ...blank, ...where, reason, cause: metadata["cause"], retryAfterMs };
    }
  }

  /** As `get`, and time passes until it is answered. */
  ask(id: string, more: Partial<Ask> & { readonly deadlineMs?: number } = {}): Promise<Got> {
    return this.within((more.deadlineMs ?? 10 * SECOND_MS) + SECOND_MS, this.get(id, more));
  }

  account(id: string): Account {
    const at = key("account", id);
    const account = this.store.readNow([at]).get(at)?.value;
    if (account === undefined) throw new Error(`no account ${id}`);
    return account;
  }

  slot(id: string): SlotState {
    const slot = this.account(id).slots["default"];
    if (slot === undefined) throw new Error(`account ${id} has no credential`);
    return slot;
  }

  /** Of the stored kinds a refresh leaves nothing behind of. */
  leftovers(id: string): readonly string[] {
    const reads = [key("attempt", id, "default"), key("lock", id, "default"), key("hold", id, "default")];
    const view = this.store.readNow(reads);
    return reads.filter((at) => view.get(at) !== undefined).map((at) => at.kind);
  }

  /** How many events of a type there are, of one account when it is named. */
  count(type: StoredEvent["type"], id?: string): number {
    return this.events.filter((event) => event.type === type && (id === undefined || event.accountId === id))
      .length;
  }
}

const render: RenderAnswer = ({ account, slot, credential }) =>
  Buffer.from(
    JSON.stringify({
      access: credential.kind === "oauth" ? credential.accessToken.reveal() : credential.kind,
      generation: account.slots[slot]?.generation ?? 0,
      incarnation: account.incarnation,
    }),
  );

/** True for the errors that a store out of reach makes. */
export function storeAway(ambiguous = false): KeyturnError {
  const metadata = ambiguous ? { ambiguous: "true" } : {};
  return new KeyturnError("STORE_UNAVAILABLE", "the store is away", { metadata });
}

export function kekAway(): KeyturnError {
  return new KeyturnError("KEK_UNAVAILABLE", "the KEK is away", { retryAfterMs: 1_000 });
}
