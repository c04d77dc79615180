import { Draft } from "./draft.ts";
import type { KeyOf } from "./records.ts";
import type { World } from "./world.ts";

const FIRST_LOOK_MS = 500;
/** Longer than its record can last. */
const LOOK_FOR_MS = 60_000;

/**
 * Removes a lock that this process has given up while nobody had said that it was written, or that it was removed: it
 * may stand in the store, or come to stand there late, and others would wait for it to be void. Looked for less and less
 * often, from when the store answers; only this very one is removed, and as it may be written once more that is not
 * the end of it. Never rejects; ends when `stopping` aborts.
 */
export async function removeGivenUp(
  world: Pick<World, "clock" | "store" | "newId">,
  at: KeyOf<"lock">,
  lockId: string,
  stopping: AbortSignal,
): Promise<void> {
  const { clock, store, newId } = world;
  const untilBootMs = clock.boot() + LOOK_FOR_MS;
  for (let pauseMs = FIRST_LOOK_MS; clock.boot() + pauseMs < untilBootMs; ) {
    await clock.sleep(pauseMs, stopping).catch(() => undefined);
    if (stopping.aborted) return;
    try {
      const entry = (await store.read([at])).get(at);
      if (entry?.value.lockId === lockId)
        await store.write(new Draft().expect(at, entry).remove(entry).done(newId(), []));
      pauseMs *= 2;
    } catch {
      // The store is still away.
    }
  }
}
