import type { Clock } from "../clock.ts";
import { KeyturnError } from "../errors.ts";
import { STORE_PATIENCE_MS } from "./limits.ts";
import { key, type Member } from "./records.ts";
import { entriesOf } from "./sealed-entries.ts";
import { settle } from "./settle.ts";
import { SHARDS, shardOf, sharesOf } from "./shard.ts";
import type { Entry, Store, Transaction, View, Write } from "./store.ts";
import type { Report } from "./world.ts";

/** How often a member looks at the others: with what the store's session takes, a death is noticed within 12 s. */
const LOOK_EVERY_MS = 1_500;
/** So much longer between looks for every member, so that many of them do not load the store. */
const LOOK_PER_MEMBER_MS = 10;
const FIRST_SHARD = "00";
/** Shards claimed by one transaction. */
const CLAIMS = 32;

/** How long a dead sidecar's record may outlive it, etcd's own restart included. */
const GONE_WITHIN_MS = 20_000;
const ASK_AGAIN_MS = 500;

/** What a sidecar does: answer callers, and refresh ahead of expiry. */
export type Role = "serve" | "schedule";

/** The store's word that this process lives. Keys under it end with it. */
export interface Session {
  /** Another number is another session: what was put under the one before is gone, or will be. */
  readonly number: number;
  readonly isValid: boolean;
}

export interface MembershipDeps {
  readonly store: Store;
  readonly clock: Clock;
  readonly session: Session;
  readonly instance: string;
  /** The machine's or pod's name, for people. */
  readonly host: string;
  readonly roles: readonly Role[];
  /** Which disk this process holds, alone: the same after a restart on it, another one for a copy of it. */
  readonly place: string;
  readonly newId: () => string;
  readonly report: Report;
}

/** Which slices of the accounts are this member's to refresh ahead. */
export interface Ownership {
  owns(accountId: string): boolean;
  /** The part of all accounts that is owned, from 0 to 1. */
  readonly share: number;
}

/** Where there is only one sidecar, all accounts are its own. */
export const EVERYTHING: Ownership = { owns: () => true, share: 1 };

/** This sidecar among the others: its own record, and the shards that it owns. */
export class Membership implements Ownership {
  readonly #deps: MembershipDeps;
  readonly #owned = new Set<string>();
  /** Session under which the member's record and the shards were put. */
  #session = 0;
  #membersBefore = "";

  constructor(deps: MembershipDeps) {
    this.#deps = deps;
  }

  owns(accountId: string): boolean {
    return this.#isValid && this.#owned.has(shardOf(accountId));
  }

  get share(): number {
    return this.#isValid ? this.#owned.size / SHARDS.length : 0;
  }

  /** True for one member at most: the one that does what one is enough for. */
  get isFirst(): boolean {
    return this.#isValid && this.#owned.has(FIRST_SHARD);
  }

  get shards(): readonly string[] {
    return this.#isValid ? [...this.#owned].sort() : [];
  }

  /** True when no such member lives: nobody waits for its locks any more. */
  async isGone(instance: string): Promise<boolean> {
    const at = key("member", instance);
    return (await this.#deps.store.read([at])).get(at) === undefined;
  }

  /**
   * Says that this member is there. An earlier life on this disk is dead, since the disk is held. One of the same name
   * on another disk is waited for until the store has ended it: INVALID_REQUEST when it lives, for then this state
   * directory is a copy, and its attempts are not ours. STORE_UNAVAILABLE when that cannot be written now.
   */
  async join(): Promise<void> {
    const { store, clock, instance, host, roles, place, session, report } = this.#deps;
    const at = key("member", instance);
    const untilBootMs = clock.boot() + GONE_WITHIN_MS;
    let isTold = false;
    for (;;) {
      const { number } = session;
      const view = await store.read([at]);
      const found = view.get(at);
      if (found !== undefined && found.value.place !== "" && found.value.place !== place) {
        if (clock.boot() >= untilBootMs) throw copied(found.value);
        if (!isTold)
          report("a sidecar of this name is recorded on another disk: waiting for its end", {
            host: found.value.host,
          });
        isTold = true;
        await clock.sleep(ASK_AGAIN_MS);
        continue;
      }
      const startedAtMs = clock.now();
      const appliedRevision = view.storeRevision;
      const value = { instance, host, roles, startedAtMs, appliedRevision, place };
      const expect = [{ key: at, revision: found?.revision ?? 0 }];
      if (!(await this.#write([{ put: at, value }], expect)).applied) continue;
      this.#owned.clear();
      this.#session = number;
      return;
    }
  }

  /** Keeps being a member until `signal` aborts. `onMoved` is told when shards have come, which ones, or gone. */
  async run(signal: AbortSignal, onMoved: (gained: readonly string[]) => void): Promise<void> {
    const { clock, report } = this.#deps;
    let members = 0;
    let isAway = false;
    while (!signal.aborted) {
      try {
        if (!this.#isValid) await this.join();
        if (this.#deps.roles.includes("schedule")) members = await this.#look(onMoved);
        if (isAway) report("membership kept again", {});
        isAway = false;
      } catch (error) {
        // The first of several in a row.
        if (!isAway) report("membership not kept", {}, error);
        isAway = true;
      }
      await clock.sleep(LOOK_EVERY_MS + members * LOOK_PER_MEMBER_MS, signal).catch(() => undefined);
    }
  }

  get #isValid(): boolean {
    const { session } = this.#deps;
    return session.isValid && session.number === this.#session;
  }

  /** Returns how many members there are. */
  async #look(onMoved: (gained: readonly string[]) => void): Promise<number> {
    const { store } = this.#deps;
    let count = 0;
    const members: string[] = [];
    // Not of the shards' instant: whoever has come or gone meanwhile is seen by the next look.
    for await (const { value } of entriesOf(store, "member")) {
      count += 1;
      if (value.roles.includes("schedule")) members.push(value.instance);
    }
    members.sort();
    const view = await store.read([{ under: "shard", parts: [] }]);
    // Two looks must agree: a rolling deployment moves less then.
    const isSettled = members.join() === this.#membersBefore;
    this.#membersBefore = members.join();
    if (isSettled) await this.#take(view, sharesOf(members), onMoved);
    return count;
  }

  async #take(
    view: View,
    shares: ReadonlyMap<string, string>,
    onMoved: (gained: readonly string[]) => void,
  ): Promise<void> {
    const { instance } = this.#deps;
    const entries = new Map(view.all("shard").map((entry) => [entry.key.parts[0], entry]));
    for (const shard of this.#owned) {
      // Gone without us: somebody removed it.
      if (entries.get(shard)?.value.instance !== instance) this.#owned.delete(shard);
    }
    const surplus = [...this.#owned].filter((shard) => shares.get(shard) !== instance);
    await this.#release(surplus, entries);
    if (surplus.length > 0) onMoved([]);
    const wanted = SHARDS.filter((shard) => {
      const holder = entries.get(shard)?.value.instance;
      // Our own one of an earlier session is put anew under this one.
      const isFree = holder === undefined || holder === instance;
      return shares.get(shard) === instance && isFree && !this.#owned.has(shard);
    });
    for (let n = 0; n < wanted.length; n += CLAIMS) {
      const gained = await this.#claim(wanted.slice(n, n + CLAIMS), entries);
      if (gained.length > 0) onMoved(gained);
    }
  }

  async #release(shards: readonly string[], entries: ReadonlyMap<string, Entry<"shard">>): Promise<void> {
    for (let n = 0; n < shards.length; n += CLAIMS) {
      const some = shards.slice(n, n + CLAIMS);
      // Not ours from before it is given away, however the giving ends: a look later it is tried again.
      for (const shard of some) this.#owned.delete(shard);
      await this.#write(
        some.map((shard) => ({ remove: key("shard", shard) })),
        some.map((shard) => ({ key: key("shard", shard), revision: entries.get(shard)?.revision ?? 0 })),
      );
    }
  }

  async #claim(
    shards: readonly string[],
    entries: ReadonlyMap<string, Entry<"shard">>,
  ): Promise<readonly string[]> {
    const { instance, session } = this.#deps;
    const { number } = session;
    const { applied } = await this.#write(
      shards.map((shard) => ({ put: key("shard", shard), value: { instance } })),
      shards.map((shard) => ({ key: key("shard", shard), revision: entries.get(shard)?.revision ?? 0 })),
    );
    if (!applied || number !== this.#session) return [];
    for (const shard of shards) this.#owned.add(shard);
    return shards;
  }

  #write(writes: readonly Write[], expect: Transaction["expect"] = []) {
    const { store, clock, newId } = this.#deps;
    const transaction = { nonce: newId(), expect, writes, events: [], reads: [] };
    return settle({ store, clock }, transaction, clock.boot() + STORE_PATIENCE_MS);
  }
}

function copied({ instance, host }: Member): KeyturnError {
  const description = `a directory of this sidecar's own; in a copy remove "instance" and "journal"`;
  return new KeyturnError(
    "INVALID_REQUEST",
    `state_dir: it is a copy: the sidecar ${instance} on ${host} lives by the same identity`,
    { violations: [{ field: "state_dir", description }], metadata: { instance, host } },
  );
}
