import type { Clock } from "../clock.ts";
import { Draft } from "./draft.ts";
import { STORE_PATIENCE_MS } from "./limits.ts";
import { key, type RestoreHold } from "./records.ts";
import { settle } from "./settle.ts";
import type { EventLog, Store } from "./store.ts";
import type { Report } from "./world.ts";

/** An operator's word, on whichever sidecar it was given, is heard within this. */
const LOOK_EVERY_MS = 2_000;
const AT = key("restore_hold", "current");

export interface RestoreWatchDeps {
  readonly store: Store;
  readonly clock: Clock;
  readonly newId: () => string;
  readonly instance: string;
  readonly report: Report;
}

/**
 * Notices a store that was set back to an earlier state. It brings spent refresh tokens back, and sending one again can
 * end its grant: until an operator accepts, nothing is refreshed whose refresh cannot safely be sent twice.
 */
export class RestoreWatch {
  readonly #deps: RestoreWatchDeps;
  /** The highest revision that any answer of the store has shown. */
  #highest = 0;
  #isHeld = false;
  /** The hold, until it is written down. */
  #unwritten: RestoreHold | undefined;

  constructor(deps: RestoreWatchDeps) {
    this.#deps = deps;
  }

  get isHeld(): boolean {
    return this.#isHeld;
  }

  get highestRevision(): number {
    return this.#highest;
  }

  /** The same store, its revisions looked at. */
  get store(): Store {
    const { store } = this.#deps;
    return {
      read: async (reads) => this.#look(this.#highest, await store.read(reads)),
      write: async (transaction) => {
        const before = this.#highest;
        const result = await store.write(transaction);
        this.#look(before, result.view);
        return result;
      },
      scan: (kind, after, limit, shard) => store.scan(kind, after, limit, shard),
    };
  }

  /** What others write is seen too, by a sidecar that asks for nothing itself. Returns how to stop. */
  follow(events: EventLog): () => void {
    return events.follow((some) => {
      const newest = some.at(-1)?.position.storeRevision ?? 0;
      if (!this.#isHeld) this.#highest = Math.max(this.#highest, newest);
    });
  }

  /**
   * Before anything is refreshed. `known` is the highest revision of an earlier life on this disk; `isOther`: the store
   * shows by something else that it is not the one of that life; `afterRestore`: an operator says that it was set back,
   * which a fresh disk cannot know.
   */
  async start(
    {
      known,
      isOther,
      afterRestore,
    }: { readonly known: number; readonly isOther: boolean; readonly afterRestore: boolean },
    signal: AbortSignal,
  ): Promise<void> {
    const view = await this.#deps.store.read([AT]);
    const found = view.storeRevision;
    if (afterRestore || isOther || found < known)
      await this.#hold(known, found, afterRestore ? "after_restore" : "set_back");
    else if (view.get(AT) !== undefined) this.#isHeld = true;
    this.#highest = Math.max(this.#highest, found);
    void this.#run(signal);
  }

  /**
   * The store shows by something else than its revision, which is `found`, that it was set back: perhaps once more, to
   * a state that has no hold.
   */
  async notice(found: number): Promise<void> {
    await this.#hold(this.#highest, found, "set_back");
  }

  /** Undefined: nothing is held. */
  async held(): Promise<RestoreHold | undefined> {
    return (await this.#deps.store.read([AT])).get(AT)?.value;
  }

  /** What is refreshed from now on may be a spent token; what the provider refuses then is flagged. Idempotent. */
  async accept(): Promise<void> {
    const view = await this.#deps.store.read([AT]);
    await this.#write(new Draft().remove(view.get(AT)));
    this.#release(view.storeRevision);
  }

  /** An answer is compared with what was known when it was asked for: two of them may come in either order. */
  #look<T extends { readonly storeRevision: number }>(before: number, view: T): T {
    if (view.storeRevision >= before) this.#highest = Math.max(this.#highest, view.storeRevision);
    else if (!this.#isHeld || view.storeRevision < this.#highest) {
      this.#isHeld = true;
      void this.#hold(before, view.storeRevision, "set_back").catch((error: unknown) =>
        this.#deps.report(
          "store set back: the hold is not written yet, and is kept by this sidecar alone",
          {},
          error,
        ),
      );
    }
    return view;
  }

  async #hold(seen: number, found: number, why: RestoreHold["why"]): Promise<void> {
    const { clock, instance, report } = this.#deps;
    this.#isHeld = true;
    this.#highest = found;
    report(
      "the store was set back: refreshes wait until an operator accepts (keyturn journal accept-restore)",
      {
        seen_revision: seen,
        found_revision: found,
        why,
      },
    );
    this.#unwritten = { sinceMs: clock.now(), instance, seenRevision: seen, foundRevision: found, why };
    await this.#writeHold();
  }

  async #writeHold(): Promise<void> {
    const hold = this.#unwritten;
    if (hold === undefined) return;
    await this.#write(new Draft().put(AT, hold));
    if (this.#unwritten === hold) this.#unwritten = undefined;
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#deps.clock.sleep(LOOK_EVERY_MS, signal).catch(() => undefined);
      if (!this.#isHeld || signal.aborted) continue;
      // That it is not there is an operator's word only when it was.
      if (this.#unwritten !== undefined) {
        await this.#writeHold().catch(() => undefined);
        continue;
      }
      const view = await this.#deps.store.read([AT]).catch(() => undefined);
      // What the answer shows may be a store that was set back again meanwhile.
      if (view === undefined || view.get(AT) !== undefined || this.#unwritten !== undefined) continue;
      this.#release(view.storeRevision);
      this.#deps.report("the store's state is accepted: refreshes go on", {});
    }
  }

  /** What the store shows now is what it is from here on. */
  #release(storeRevision: number): void {
    this.#unwritten = undefined;
    this.#isHeld = false;
    this.#highest = storeRevision;
  }

  async #write(draft: Draft): Promise<void> {
    if (draft.isEmpty) return;
    const { clock, newId } = this.#deps;
    await settle(this.#deps, draft.done(newId(), []), clock.boot() + STORE_PATIENCE_MS);
  }
}
