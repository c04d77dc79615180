import type { Account } from "./account.ts";
import { commitReads, type Effect, type Held, type Outcome, planCommit } from "./commit.ts";
import type { Known } from "./known.ts";
import { STORE_PATIENCE_MS } from "./limits.ts";
import { settle, storeIsAway } from "./settle.ts";
import {
  type ClientKey,
  type Snapshot,
  type Standing,
  snapshotOf,
  standingOf,
  standingReads,
} from "./snapshot.ts";
import type { World } from "./world.ts";

const MAX_PAUSE_MS = 1_000;

/** Writes outcomes down, however long the store is away. */
export class Concluder {
  readonly #world: World;
  readonly #known: Known;

  constructor(world: World, known: Known) {
    this.#world = world;
    this.#known = known;
  }

  /**
   * Commits until the store has taken the outcome or what happened meanwhile has made it void. `onStoreAway` is told
   * once, with the account as it will stand, when the store cannot take it now. Rejects only when `gone` aborts.
   */
  async conclude(
    start: Snapshot | undefined,
    at: { readonly key: Snapshot["key"]; readonly client: ClientKey },
    held: Held,
    outcome: Outcome,
    gone: AbortSignal,
    onStoreAway: (account: Account | undefined) => void,
  ): Promise<{ readonly effect: Effect; readonly standing: Standing }> {
    const reads = commitReads(at, held);
    const afterwards = standingReads(at.key, at.client);
    let told = false;
    const patiently = async <T>(work: () => Promise<T>, onAway: () => void): Promise<T> => {
      for (let pauseMs = 100; ; pauseMs = Math.min(pauseMs * 2, MAX_PAUSE_MS)) {
        gone.throwIfAborted();
        try {
          return await work();
        } catch (error) {
          if (!storeIsAway(error)) throw error;
          onAway();
          await this.#world.clock.sleep(pauseMs, gone);
        }
      }
    };
    // Nothing is foreseen of records that have still to be read.
    const read = () =>
      patiently(
        async () => snapshotOf(at.key, at.client, await this.#world.store.read(reads)),
        () => undefined,
      );
    let snapshot = start ?? (await read());
    for (;;) {
      const plan = planCommit(snapshot, held, outcome, {
        nowMs: this.#world.clock.now(),
        random: this.#world.random(),
        instance: this.#world.instance,
        rules: this.#world.vendors.rules(at.client.provider, at.key.slot),
      });
      if (plan.draft.isEmpty) return { effect: plan.effect, standing: snapshot };
      // One nonce for as long as this very transaction is tried: it may have landed in a call that never answered.
      const transaction = plan.draft.done(this.#world.newId(), afterwards);
      const result = await patiently(
        () => settle(this.#world, transaction, this.#world.clock.boot() + STORE_PATIENCE_MS),
        () => {
          if (!told) onStoreAway(plan.account);
          told = true;
        },
      );
      if (result.applied) {
        const standing = standingOf(at.key, at.client, result.view);
        this.#known.learn(standing);
        return { effect: plan.effect, standing };
      }
      snapshot = await read();
      this.#known.learn(snapshot);
    }
  }
}
