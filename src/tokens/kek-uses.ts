import type { JournalMark } from "./records.ts";
import { entriesOf } from "./sealed-entries.ts";
import type { Sealed } from "./sealing.ts";
import type { World } from "./world.ts";

/** Something that needs a version of the KEK. */
export interface KekUse {
  readonly what:
    | "credentials"
    | "client secrets"
    | "content keys"
    | "open authorizations"
    | "kept answers"
    | "open attempts"
    | "journal";
  /** Whose; empty for what lies in the store. */
  readonly instance: string;
  readonly version: number;
  readonly count: number;
}

export interface KekUses {
  readonly uses: readonly KekUse[];
  /** Instances that are gone without having said that their journals are empty. */
  readonly unseen: readonly JournalMark[];
}

/** A mark is told every minute. */
const MARK_IS_OLD_MS = 5 * 60_000;

/** Everything sealed under the KEK, by whom and under which version, and whose journal cannot be asked. */
export async function kekUses(world: World, kekId: string): Promise<KekUses> {
  const counts = new Map<string, KekUse>();
  const count = (what: KekUse["what"], instance: string, version: number, by = 1) => {
    const name = JSON.stringify([what, instance, version]);
    counts.set(name, { what, instance, version, count: (counts.get(name)?.count ?? 0) + by });
  };
  const sealed = (what: KekUse["what"], instance: string, of: Sealed | undefined) => {
    if (of?.kekId === kekId) count(what, instance, of.kekVersion);
  };
  const { store, journal, instance, clock } = world;
  // Their answers and credentials will be sealed with keys that are wrapped already. First, for what ends meanwhile has
  // become a credential by the time that those are counted.
  for await (const { value } of entriesOf(store, "attempt"))
    count("open attempts", value.instance, value.kekVersion);
  for await (const { value } of entriesOf(store, "credential")) sealed("credentials", "", value.sealed);
  for await (const { value } of entriesOf(store, "client_secrets"))
    sealed("client secrets", "", value.sealed);
  for await (const { value } of entriesOf(store, "content_key")) sealed("content keys", "", value.sealed);
  for await (const { value } of entriesOf(store, "authorization"))
    sealed("open authorizations", "", value.sealed);
  for (const entry of await journal.entries()) sealed("kept answers", instance, entry.sealed);
  const keptAtMs = await lastUnmapped(store);
  const unseen: JournalMark[] = [];
  for await (const { value } of entriesOf(store, "journal_mark")) {
    if (value.instance === instance) continue;
    const isGone = world.isGone === undefined || (await world.isGone(value.instance));
    if (isGone || clock.now() - value.atMs > MARK_IS_OLD_MS) unseen.push(value);
    // Kept since it told: its next word is waited for.
    else if ((keptAtMs.get(value.instance) ?? 0) >= value.atMs) count("journal", value.instance, 0, 0);
    else count("journal", value.instance, value.oldestKekVersion, 0);
  }
  return { uses: [...counts.values()], unseen };
}

/** When each instance last kept an answer that it could not map, by its own clock. */
async function lastUnmapped(store: World["store"]): Promise<ReadonlyMap<string, number>> {
  const last = new Map<string, number>();
  for await (const { value } of entriesOf(store, "account")) {
    for (const { unmapped } of Object.values(value.slots)) {
      if (unmapped === undefined) continue;
      last.set(unmapped.instance, Math.max(last.get(unmapped.instance) ?? 0, unmapped.atMs));
    }
  }
  return last;
}

/** For people. */
export function usesText({ what, instance, version, count }: KekUse): string {
  const whose = instance === "" ? "" : ` of instance ${instance}`;
  const known = version === 0 ? "unknown" : version;
  return count === 0
    ? `the ${what}${whose} may hold answers under version ${known} (it says so once a minute)`
    : `${count} ${what}${whose} under version ${known}`;
}
