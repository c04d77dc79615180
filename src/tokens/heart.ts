import { Accounts } from "./accounts.ts";
import { Admission } from "./admission.ts";
import { Broker } from "./broker.ts";
import { BulkRefresh } from "./bulk-refresh.ts";
import { Caps } from "./caps.ts";
import { Certificates } from "./certificates.ts";
import { Clients } from "./clients.ts";
import { Connections } from "./connections.ts";
import { ContentMarks } from "./content-mark.ts";
import type { StoredEvent } from "./events.ts";
import { Exchanges } from "./exchanges.ts";
import { Gates } from "./gate.ts";
import { Known } from "./known.ts";
import { EVERYTHING, type Ownership } from "./membership.ts";
import { Refresher } from "./refresher.ts";
import { Replay } from "./replay.ts";
import { Rounds } from "./rounds.ts";
import { Scheduler } from "./scheduler.ts";
import { Verifier } from "./verifier.ts";
import { OWN_WORK, type World } from "./world.ts";

const RETRY_MS = 1_000;
/** How long a stop waits for last uses to be written: they are worth no more. */
const LAST_ROUND_MS = 1_000;

/** The parts of one sidecar's heart, wired. */
export class Heart {
  readonly broker: Broker;
  readonly accounts: Accounts;
  readonly clients: Clients;
  readonly certificates: Certificates;
  readonly connections: Connections;
  readonly replay: Replay;
  readonly scheduler: Scheduler;
  readonly rounds: Rounds;
  readonly bulkRefresh: BulkRefresh;
  readonly #world: World;
  readonly #known: Known;
  readonly #ownership: Ownership;
  readonly #exchanges: Exchanges;
  readonly #stopped = new AbortController();
  #rounding: Promise<void> = Promise.resolve();
  #unfollow: () => void = () => undefined;

  constructor(world: World, ownership: Ownership = EVERYTHING) {
    const known = new Known(world.clock, world.maxKnownAccounts);
    const gates = new Gates(world.clock);
    this.#world = world;
    this.#known = known;
    this.#ownership = ownership;
    this.#exchanges = new Exchanges(world, known);
    const caps = new Caps(world, known);
    const refresher = new Refresher(world, known, gates, caps, this.#exchanges);
    const admission = new Admission(world, known, gates, caps, this.#exchanges);
    const verifier = new Verifier(world, known);
    this.broker = new Broker(world, known, refresher, verifier);
    this.scheduler = new Scheduler(world, known, gates, caps, this.broker, ownership);
    const marks = new ContentMarks(world);
    this.rounds = new Rounds(world, marks, ownership);
    this.bulkRefresh = new BulkRefresh(world, this.broker);
    this.accounts = new Accounts(world, known, marks);
    this.connections = new Connections(world, known, admission, this.#exchanges, this.accounts);
    this.replay = new Replay(world, this.#exchanges, this.connections);
    this.clients = new Clients(world);
    this.certificates = new Certificates(world);
    this.#unfollow = world.events.follow((events: readonly StoredEvent[]) => {
      for (const event of events) {
        known.apply(event);
        this.scheduler.apply(event);
      }
    });
  }

  /**
   * Settles what an earlier life left behind, then starts the schedule. Resolves when the sidecar may say it is ready;
   * while the KEK or the store is away that is tried again every second.
   */
  async start(): Promise<void> {
    for (;;) {
      try {
        await this.replay.start(OWN_WORK);
        break;
      } catch (error) {
        if (this.#stopped.signal.aborted) return;
        this.#world.report("journal not replayed yet", {}, error);
        await this.#world.clock.sleep(RETRY_MS, this.#stopped.signal).catch(() => undefined);
      }
    }
    void this.#schedule();
  }

  async #schedule(): Promise<void> {
    const { signal } = this.#stopped;
    void this.scheduler.run(signal);
    // Shards that come later are loaded when they come.
    if (this.#ownership.share > 0) await this.#load(undefined);
    if (!signal.aborted) this.#rounding = this.rounds.run(signal);
  }

  async #load(shard: string | undefined): Promise<void> {
    const { signal } = this.#stopped;
    while (!signal.aborted) {
      try {
        await this.scheduler.load(signal, shard);
        return;
      } catch (error) {
        this.#world.report("schedule not loaded yet", {}, error);
        await this.#world.clock.sleep(RETRY_MS, signal).catch(() => undefined);
      }
    }
  }

  /** These shards' accounts are refreshed ahead by this sidecar from now on. */
  async takeShards(shards: readonly string[]): Promise<void> {
    for (const shard of shards) await this.#load(shard);
  }

  /** The feed has lost something for good: everything remembered is read again before it is used. */
  async forgetAll(): Promise<void> {
    this.#known.forgetAll();
    if (this.#ownership.share === 0) return;
    this.scheduler.forgetAll();
    await this.#load(undefined);
  }

  /** The provider files were read again: what was made by the old ones is made anew. */
  filesChanged(): void {
    this.#known.forgetAnswers();
  }

  /** Nothing new is sent; what is on its way has `limitMs` to be written down. Returns the attempts left open. */
  async stop(limitMs: number): Promise<readonly string[]> {
    this.#stopped.abort();
    const left = await this.#exchanges.stop(limitMs);
    await Promise.race([this.#rounding, this.#world.clock.sleep(LAST_ROUND_MS)]);
    this.#unfollow();
    return left;
  }
}
