import { breakerOf } from "./breaker.ts";
import { Draft, slotEvent } from "./draft.ts";
import { STORE_PATIENCE_MS } from "./limits.ts";
import { type Breaker, key, type VerdictMark } from "./records.ts";
import { settle } from "./settle.ts";
import { type ClientKey, type Snapshot, snapshotOf, snapshotReads } from "./snapshot.ts";
import type { World } from "./world.ts";

/** Takes one flag back that a provider's outage had caused, and strikes it off the breaker's list, at once. */
export async function revertFlag(world: World, client: ClientKey, mark: VerdictMark): Promise<void> {
  const slot = { accountId: mark.accountId, slot: mark.slot };
  const reads = snapshotReads(slot, client);
  for (let view = await world.store.read(reads); ; ) {
    const draft = revertDraft(snapshotOf(slot, client, view), mark, world.clock.now());
    if (draft.isEmpty) return;
    const result = await settle(
      world,
      draft.done(world.newId(), reads),
      world.clock.boot() + STORE_PATIENCE_MS,
    );
    if (result.applied) return;
    view = result.view;
  }
}

function revertDraft(snapshot: Snapshot, mark: VerdictMark, nowMs: number): Draft {
  const draft = new Draft();
  const breaker = breakerOf(snapshot);
  const reverting = breaker.reverting.filter(
    (other) => other.accountId !== mark.accountId || other.slot !== mark.slot,
  );
  if (snapshot.breaker === undefined || reverting.length === breaker.reverting.length) return draft;
  const next: Breaker = { ...breaker, reverting };
  const at = key("breaker", snapshot.client.provider, snapshot.client.client);
  draft.expect(at, snapshot.breaker).put(at, next);

  const account = snapshot.account?.value;
  const flagged = snapshot.slot;
  const same = account?.incarnation === mark.incarnation && flagged?.generation === mark.generation;
  if (account === undefined || flagged === undefined || !same || flagged.state !== "needs_reauth")
    return draft;
  const slot = { ...flagged, state: "active", reauthReason: undefined, nextRefreshAtMs: nowMs } as const;
  const slots = { ...account.slots, [mark.slot]: slot };
  const accountKey = key("account", account.id);
  return draft
    .expect(accountKey, snapshot.account)
    .put(accountKey, { ...account, slots, updatedAtMs: nowMs })
    .event(slotEvent("integrated_account:reactivated", account, mark.slot, slot, nowMs, "outage_cleared"));
}
