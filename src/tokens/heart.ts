import { Accounts } from "./accounts.ts";
import { Broker } from "./broker.ts";
import { Clients } from "./clients.ts";
import type { StoredEvent } from "./events.ts";
import { Exchanges } from "./exchanges.ts";
import { Gates } from "./gate.ts";
import { Known } from "./known.ts";
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
  readonly replay: Replay;
  readonly scheduler: Scheduler;
  readonly rounds: Rounds;
  readonly #world: World;
  readonly #exchanges: Exchanges;
  readonly #stopped = new AbortController();
  #rounding: Promise<void> = Promise.resolve();
  #unfollow: () => void = () => undefined;

  constructor(world: World, owns?: (accountId: string) => boolean) {
    const known = new Known(world.clock, world.maxKnownAccounts);
    const gates = new Gates(world.clock);
    this.#world = world;
    this.#exchanges = new Exchanges(world, known);
    const refresher = new Refresher(world, known, gates, this.#exchanges);
    const verifier = new Verifier(world, known);
    this.broker = new Broker(world, known, refresher, verifier);
    this.replay = new Replay(world, this.#exchanges);
    this.scheduler = new Scheduler(world, known, gates, this.broker, owns);
    this.rounds = new Rounds(world, owns);
    this.accounts = new Accounts(world, known);
    this.clients = new Clients(world);
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
    while (!signal.aborted) {
      try {
        await this.scheduler.load(signal);
        this.#rounding = this.rounds.run(signal);
        return;
      } catch (error) {
        this.#world.report("schedule not loaded yet", {}, error);
        await this.#world.clock.sleep(RETRY_MS, signal).catch(() => undefined);
      }
    }
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
