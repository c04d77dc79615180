import type { Account, SlotState } from "./account.ts";
import { type ContentMarks, contentKeyAt, isBareMark } from "./content-mark.ts";
import { Draft, slotEvent } from "./draft.ts";
import { tellExpiringCertificates } from "./expiring-certificates.ts";
import { EXPIRING_WITHIN_MS, STORE_PATIENCE_MS } from "./limits.ts";
import { EVERYTHING, type Ownership } from "./membership.ts";
import { key } from "./records.ts";
import { settle } from "./settle.ts";
import type { Entry, Page } from "./store.ts";
import type { World } from "./world.ts";

const EVERY_MS = 3_600_000;
/** How long an account waits for its first authorization to be completed. */
const PENDING_FOR_MS = 86_400_000;
const PAGE = 100;

/** What is looked after once an hour: credentials and certificates that will end, authorizations nobody completed, last uses, old marks. */
export class Rounds {
  readonly #world: Pick<World, "clock" | "store" | "newId" | "report">;
  readonly #marks: Pick<ContentMarks, "of">;
  readonly #ownership: Ownership;
  /** Used since the last round, and when last. */
  #used = new Map<string, number>();

  constructor(
    world: Pick<World, "clock" | "store" | "newId" | "report">,
    marks: Pick<ContentMarks, "of">,
    ownership: Ownership = EVERYTHING,
  ) {
    this.#world = world;
    this.#marks = marks;
    this.#ownership = ownership;
  }

  /** A token was handed out; written down at most once an hour. */
  noteUse(accountId: string): void {
    this.#used.set(accountId, this.#world.clock.now());
  }

  /** Runs until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.once(signal).catch((error: unknown) => {
        if (!signal.aborted) this.#world.report("hourly round not finished", {}, error);
      });
      await this.#world.clock.sleep(EVERY_MS, signal).catch(() => undefined);
    }
    await this.#writeUses().catch((error: unknown) => this.#world.report("last uses not written", {}, error));
  }

  async once(signal: AbortSignal): Promise<void> {
    await this.#writeUses();
    if (this.#ownership.share === 0) return;
    await tellExpiringCertificates(this.#world, this.#ownership, signal);
    let canKey = true;
    for (let after: string | undefined = ""; after !== undefined; ) {
      signal.throwIfAborted();
      const page: Page<"account"> = await this.#world.store.scan("account", after, PAGE);
      for (const { value } of page.entries) {
        if (!this.#ownership.owns(value.id)) continue;
        if (this.#isAbandoned(value)) await this.#removeAbandoned(value.id);
        for (const [slot, state] of Object.entries(value.slots))
          if (this.#isNews(state)) await this.#tellExpiring(value.id, slot);
        // Without the KEK it is left to the next round, and the rest of this one is not.
        if (canKey && isBareMark(value.contentHash)) canKey = await this.#keyMark(value);
      }
      after = page.next;
    }
  }

  #isAbandoned({ pendingSinceMs }: Account): boolean {
    return pendingSinceMs !== undefined && this.#world.clock.now() - pendingSinceMs > PENDING_FOR_MS;
  }

  /** Nobody was told that it was created, so nobody is told that it is gone. */
  async #removeAbandoned(accountId: string): Promise<void> {
    const at = key("account", accountId);
    const entry = (await this.#world.store.read([at])).get(at);
    if (entry === undefined || !this.#isAbandoned(entry.value)) return;
    const nowMs = this.#world.clock.now();
    const draft = new Draft()
      .expect(at, entry)
      .remove(entry)
      .event(slotEvent("feed:account_changed", entry.value, "", undefined, nowMs, "abandoned"));
    await settle(
      this.#world,
      draft.done(this.#world.newId(), []),
      this.#world.clock.boot() + STORE_PATIENCE_MS,
    );
  }

  /** What an earlier release stored lets guesses at a weak secret be tried. */
  async #keyMark({ id, contentHash }: Account): Promise<boolean> {
    try {
      const view = await this.#world.store.read([contentKeyAt]);
      const keyed = await this.#marks.of(contentHash, true, view);
      await this.#amend(id, (account) =>
        account.contentHash === contentHash ? { ...account, contentHash: keyed } : undefined,
      );
      return true;
    } catch (error) {
      this.#world.report("content marks of an earlier release are not keyed yet", {}, error);
      return false;
    }
  }

  async #writeUses(): Promise<void> {
    const used = this.#used;
    this.#used = new Map();
    for (const [accountId, atMs] of used) {
      // Nothing that a cache or a schedule goes by, so it has no event.
      await this.#amend(accountId, (account) => {
        const isRecent = account.lastUsedAtMs !== undefined && atMs - account.lastUsedAtMs < EVERY_MS;
        return isRecent ? undefined : { ...account, lastUsedAtMs: atMs };
      });
    }
  }

  async #tellExpiring(accountId: string, slotName: string): Promise<void> {
    await this.#amend(accountId, (account, draft) => {
      const state = account.slots[slotName];
      const endsAtMs = state === undefined ? undefined : endOf(state);
      if (state === undefined || endsAtMs === undefined || !this.#isNews(state)) return undefined;
      const slot = { ...state, expiringNotifiedForMs: endsAtMs };
      const nowMs = this.#world.clock.now();
      const detail = { ends_at_ms: String(endsAtMs) };
      draft.event(
        slotEvent(
          "integrated_account:expiring",
          account,
          slotName,
          slot,
          nowMs,
          whatEnds(state, endsAtMs),
          detail,
        ),
      );
      return { ...account, slots: { ...account.slots, [slotName]: slot }, updatedAtMs: nowMs };
    });
  }

  #isNews(state: SlotState): boolean {
    const endsAtMs = endOf(state);
    if (endsAtMs === undefined || state.state !== "active" || state.expiringNotifiedForMs === endsAtMs)
      return false;
    return endsAtMs - this.#world.clock.now() <= EXPIRING_WITHIN_MS;
  }

  async #amend(
    accountId: string,
    next: (account: Account, draft: Draft) => Account | undefined,
  ): Promise<void> {
    const at = key("account", accountId);
    for (
      let entry: Entry<"account"> | undefined = (await this.#world.store.read([at])).get(at);
      entry !== undefined;
    ) {
      const draft = new Draft().expect(at, entry);
      const changed = next(entry.value, draft);
      if (changed === undefined) return;
      const transaction = draft.put(at, changed).done(this.#world.newId(), [at]);
      const result = await settle(this.#world, transaction, this.#world.clock.boot() + STORE_PATIENCE_MS);
      if (result.applied) return;
      entry = result.view.get(at);
    }
  }
}

/** When the customer will be needed; undefined: not by a date. */
function endOf(state: SlotState): number | undefined {
  const ends = [state.credentialExpiresAtMs, state.refreshTokenExpiresAtMs].filter((ms) => ms !== undefined);
  return ends.length === 0 ? undefined : Math.min(...ends);
}

function whatEnds(state: SlotState, endsAtMs: number): string {
  return state.credentialExpiresAtMs === endsAtMs ? "credential" : "refresh_token";
}
