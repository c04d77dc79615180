import { KeyturnError } from "../errors.ts";
import { storeIsAway } from "./settle.ts";
import type { World } from "./world.ts";

const ASK_AGAIN_MS = 500;

/** Whether what this process remembers may be served unread. */
export class Trust {
  readonly #world: Pick<World, "clock" | "events" | "store" | "maxStaleMs">;
  #isAway = false;
  #askedAtBootMs = Number.NEGATIVE_INFINITY;

  constructor(world: Pick<World, "clock" | "events" | "store" | "maxStaleMs">) {
    this.#world = world;
  }

  /** False when the feed may have missed something: what is remembered is read again before it is used. */
  get isGiven(): boolean {
    return this.#world.events.isCurrent !== false;
  }

  /**
   * Reads again what the feed may not have told of. While the store is away that is not waited for a second time, and
   * what is remembered is served as it is: STORE_UNAVAILABLE once it is older than `cache.max_stale`.
   */
  async recheck(read: () => Promise<unknown>): Promise<void> {
    if (!this.#isAway) {
      try {
        await read();
        return;
      } catch (error) {
        if (!storeIsAway(error)) throw error;
        this.#isAway = true;
      }
    }
    void this.#ask();
    this.#checkAge();
  }

  async #ask(): Promise<void> {
    const { clock, store } = this.#world;
    if (clock.boot() - this.#askedAtBootMs < ASK_AGAIN_MS) return;
    this.#askedAtBootMs = clock.boot();
    try {
      await store.read([]);
      this.#isAway = false;
    } catch {
      // still away: the next call asks again
    }
  }

  #checkAge(): void {
    const { clock, events, maxStaleMs } = this.#world;
    const ageMs = clock.boot() - (events.currentAtBootMs ?? clock.boot());
    if (maxStaleMs === undefined || ageMs <= maxStaleMs) return;
    throw new KeyturnError(
      "STORE_UNAVAILABLE",
      "The store is away, and what this sidecar remembers is older than cache.max_stale.",
      { metadata: { cause: "cache_too_old" }, retryAfterMs: 1_000 },
    );
  }
}
