import { KeyturnError } from "../errors.ts";
import type { Account, ReauthReason, SlotKey, SlotState } from "./account.ts";
import { rejectionPauseMs } from "./backoff.ts";
import { recordVerdict } from "./breaker.ts";
import { Draft, slotEvent } from "./draft.ts";
import type { Known } from "./known.ts";
import { STORE_PATIENCE_MS } from "./limits.ts";
import { openContext } from "./opening.ts";
import { key } from "./records.ts";
import type { Actor } from "./sealing.ts";
import { settle } from "./settle.ts";
import { clientKeyOf, type Snapshot, snapshotOf, snapshotReads } from "./snapshot.ts";
import type { World } from "./world.ts";

/** Credentials that cannot be refreshed: asked about at the provider, and flagged when they have ended. */
export class Verifier {
  readonly #world: World;
  readonly #known: Known;
  readonly #underway = new Map<string, Promise<Error | undefined>>();

  constructor(world: World, known: Known) {
    this.#world = world;
    this.#known = known;
  }

  /** Asks the provider once for everybody who asks meanwhile. A refusal flags the account; the error is returned. */
  verify(slot: SlotKey, account: Account, actor: Actor): Promise<Error | undefined> {
    const name = `${slot.accountId}/${slot.slot}`;
    const work =
      this.#underway.get(name) ??
      this.#verify(slot, account, actor)
        .catch((error: unknown) => (error instanceof Error ? error : new Error(String(error))))
        .finally(() => this.#underway.delete(name));
    this.#underway.set(name, work);
    return work;
  }

  async #verify(slot: SlotKey, account: Account, actor: Actor): Promise<Error | undefined> {
    const client = clientKeyOf(account);
    const snapshot = snapshotOf(slot, client, await this.#world.store.read(snapshotReads(slot, client)));
    const before = snapshot.slot;
    if (before === undefined || snapshot.account === undefined) return undefined;
    const context = await openContext(this.#world.sealer, snapshot, { ...actor, purpose: "verification" });
    const verification = await this.#world.vendors.verify(context);
    if (verification.kind === "unclear") {
      return new KeyturnError(
        "PROVIDER_UNAVAILABLE",
        "The provider did not say whether the credential still works.",
        {
          metadata: { account_id: slot.accountId, provider: account.provider, cause: verification.cause },
          retryAfterMs: 5_000,
        },
      );
    }
    const { incarnation } = snapshot.account.value;
    await this.#change(slot, snapshot, (now, draft, nowMs) => {
      if (now.account?.value.incarnation !== incarnation || now.slot?.generation !== before.generation)
        return undefined;
      if (verification.kind === "accepted") return accepted(now.slot, nowMs);
      const mark = { accountId: slot.accountId, slot: slot.slot, incarnation, generation: before.generation };
      return recordVerdict(draft, now, mark, false, nowMs) === "flag"
        ? flagged(now.slot, "verification_refused")
        : accepted(now.slot, nowMs);
    });
    return undefined;
  }

  /** It has ended, and nothing can renew it: the customer is needed. */
  async flag(slot: SlotKey, account: Account, reason: ReauthReason): Promise<void> {
    const client = clientKeyOf(account);
    const snapshot = snapshotOf(slot, client, await this.#world.store.read(snapshotReads(slot, client)));
    const generation = account.slots[slot.slot]?.generation;
    await this.#change(slot, snapshot, (now) => {
      const same =
        now.account?.value.incarnation === account.incarnation && now.slot?.generation === generation;
      return same && now.slot !== undefined ? flagged(now.slot, reason) : undefined;
    });
  }

  async #change(
    slot: SlotKey,
    start: Snapshot,
    next: (now: Snapshot, draft: Draft, nowMs: number) => SlotState | undefined,
  ): Promise<void> {
    const reads = snapshotReads(slot, start.client);
    for (let now = start; ; ) {
      const nowMs = this.#world.clock.now();
      const draft = new Draft();
      const state = next(now, draft, nowMs);
      const account = now.account?.value;
      if (state === undefined || account === undefined || now.slot?.state === "needs_reauth") {
        this.#known.learn(now);
        return;
      }
      const at = key("account", account.id);
      const type =
        state.state === "needs_reauth" ? "integrated_account:authentication_error" : "feed:slot_changed";
      draft
        .expect(at, now.account)
        .put(at, { ...account, slots: { ...account.slots, [slot.slot]: state }, updatedAtMs: nowMs })
        .event(slotEvent(type, account, slot.slot, state, nowMs, state.reauthReason ?? "verified"));
      const transaction = draft.done(this.#world.newId(), reads);
      const result = await settle(this.#world, transaction, this.#world.clock.boot() + STORE_PATIENCE_MS);
      now = snapshotOf(slot, start.client, result.view);
      if (result.applied) {
        this.#known.learn(now);
        return;
      }
    }
  }
}

/** It works, so the next reports are not believed for a while, and a first check is done. */
function accepted(slot: SlotState, nowMs: number): SlotState {
  const strikes = (slot.rejection?.strikes ?? 0) + 1;
  const rejection = { strikes, notBeforeMs: nowMs + rejectionPauseMs(strikes) };
  return { ...slot, rejection, nextRefreshAtMs: slot.expiresAtMs };
}

function flagged(slot: SlotState, reason: ReauthReason): SlotState {
  return { ...slot, state: "needs_reauth", reauthReason: reason, nextRefreshAtMs: undefined };
}
