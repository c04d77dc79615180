import { keepOthersOff } from "./breaker.ts";
import { type Room, takeRoom } from "./caps.ts";
import type { Held } from "./commit.ts";
import { Draft } from "./draft.ts";
import { IN_DOUBT_HOLD_MS } from "./limits.ts";
import { key } from "./records.ts";
import type { Snapshot } from "./snapshot.ts";
import type { Read, View } from "./store.ts";
import type { World } from "./world.ts";

/** What an attempt writes beside its permit. */
function writtenAt({ key: { accountId, slot }, client }: Snapshot) {
  return {
    attempt: key("attempt", accountId, slot),
    hold: key("hold", accountId, slot),
    cooldown: key("cooldown", client.provider, client.client),
  };
}

/** What the attempt itself writes: everything else is expected to stand as it was read. */
export function attemptReads(snapshot: Snapshot, { permit }: Held): readonly Read[] {
  const at = writtenAt(snapshot);
  return [at.attempt, at.hold, at.cooldown, ...(permit === undefined ? [] : [permit])];
}

/** How everything stands when the attempt has been written. */
export function afterAttempt(snapshot: Snapshot, view: View): Snapshot {
  const at = writtenAt(snapshot);
  return {
    ...snapshot,
    attempt: view.get(at.attempt),
    hold: view.get(at.hold),
    cooldown: view.get(at.cooldown),
    permits: view.all("permit"),
  };
}

/** Durable before the first byte leaves; refused when anything the refresh depends on has moved since it was read. */
export function attemptDraft(
  snapshot: Snapshot,
  held: Held,
  kekVersion: number,
  world: World,
  room: Room,
): Draft {
  const { accountId, slot } = snapshot.key;
  const { provider, client } = snapshot.client;
  const { attemptId, incarnation, generation } = held;
  const { instance } = world;
  const at = writtenAt(snapshot);
  const draft = new Draft()
    .expect(key("lock", accountId, slot), snapshot.lock)
    .expect(key("account", accountId), snapshot.account)
    .expect(key("credential", accountId, slot), snapshot.credential)
    .expect(key("client", provider, client), snapshot.oauthClient)
    .expect(at.attempt, snapshot.attempt)
    .expect(at.cooldown, snapshot.cooldown)
    .put(at.attempt, {
      attemptId,
      incarnation,
      generation,
      instance,
      atMs: world.clock.now(),
      onAnswer: "commit",
      kekVersion,
    })
    .put(at.hold, { attemptId }, IN_DOUBT_HOLD_MS);
  takeRoom(draft, room, attemptId, instance);
  if (!held.probe) return draft;
  keepOthersOff(draft, snapshot, world.clock.now());
  return draft;
}
