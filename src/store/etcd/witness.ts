import { markOf, NO_MARK } from "../event-log.ts";
import { eventClassOf, eventMarkPath } from "../keys.ts";
import type { Kv, KvRow } from "../kv.ts";

/** A row that is there, at this revision or a later one, for as long as nobody sets the store back. */
export type Seen = Pick<KvRow, "key" | "revision">;

export interface WitnessDeps {
  /** Reads whatever the witness says. */
  readonly read: Kv["read"];
  /** The prefix of the environment's keys. */
  readonly root: string;
  /** The store, at this revision now, is an older one than it was. */
  readonly onSetBack: (revision: number) => void;
}

/**
 * Notices an etcd that was set back, by what it has forgotten. Its revision and its cluster's id do not always show it:
 * `etcdutl snapshot restore --bump-revision` makes the revision greater than it was, and a cluster that is restored with
 * the names and addresses it was made with has the id that it had (etcd.io, Disaster recovery).
 *
 * Nobody sets back an etcd that a connection is open to. So an answer that may have come over a newer connection is
 * believed only when what was seen before has been looked for.
 */
export class Witness {
  readonly #deps: WitnessDeps;
  /** The newest event that was told. */
  #event: Seen | undefined;
  /** What this process wrote last of what nobody else writes, and nobody removes. */
  #own: Seen | undefined;
  /** Connections that have ended, and how many had when this was looked into. */
  #ended = 0;
  #endedAtLook = 0;
  #looking: Promise<boolean> | undefined;

  constructor(deps: WitnessDeps) {
    this.#deps = deps;
  }

  /** A connection has ended: the next one may lead to an older state. */
  doubt(): void {
    // Without anything seen there is nothing to look for.
    if (this.#event !== undefined || this.#own !== undefined) this.#ended += 1;
  }

  /** An event was told. One that is told in doubt proves nothing, and of a newer release's nobody knows when it goes. */
  told({ key, revision }: KvRow): void {
    const isKnown = eventClassOf(key.slice(this.#deps.root.length)) !== undefined;
    if (isKnown && !this.#isInDoubt) this.#event = { key, revision };
  }

  /** This process has written a row that nobody else writes, and nobody removes. */
  wrote({ key, revision }: Seen): void {
    if (!this.#isInDoubt) this.#own = { key, revision };
  }

  /** The store has shown itself to be another one: what was seen in the old one says nothing of it. */
  forget(): void {
    this.#event = undefined;
    this.#own = undefined;
    this.#endedAtLook = this.#ended;
  }

  /**
   * Undefined: there is no doubt. Otherwise resolves when there is none any more, with false when the store turned out to
   * be another one than the waiting answer may be of; rejects when etcd does not say.
   */
  sure(): Promise<boolean> | undefined {
    if (!this.#isInDoubt) return undefined;
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined;
    });
    return this.#looking;
  }

  get #isInDoubt(): boolean {
    return this.#endedAtLook !== this.#ended;
  }

  async #look(): Promise<boolean> {
    let isSame = true;
    while (this.#isInDoubt) {
      const ended = this.#ended;
      const revision = await this.#missesAt();
      this.#endedAtLook = Math.max(this.#endedAtLook, ended);
      if (revision === undefined) continue;
      isSame = false;
      this.#deps.onSetBack(revision);
    }
    return isSame;
  }

  /** The store's revision, when something is missing there. */
  async #missesAt(): Promise<number | undefined> {
    const [event, own] = [this.#event, this.#own];
    const { read, root } = this.#deps;
    const eventClass = event && eventClassOf(event.key.slice(root.length));
    const markKey = eventClass && root + eventMarkPath(eventClass);
    const keys = [event?.key, markKey, own?.key].filter((key) => key !== undefined);
    const { revision, rows } = await read(keys.map((key) => ({ key })));
    // It has shown itself to be another one.
    if (this.#event !== event || this.#own !== own) return undefined;
    const row = (key: string | undefined) => rows.flat().find((one) => one.key === key);
    const isThere = (seen: Seen) => (row(seen.key)?.revision ?? 0) >= seen.revision;
    const hasEvent = event === undefined || isThere(event) || droppedUpTo(row(markKey)) >= event.revision;
    return hasEvent && (own === undefined || isThere(own)) ? undefined : revision;
  }
}

/** The revision up to where events may have been dropped. */
function droppedUpTo(mark: KvRow | undefined): number {
  try {
    return (markOf(mark) ?? NO_MARK).storeRevision;
  } catch {
    // A newer release's: the event proves nothing then.
    return Number.POSITIVE_INFINITY;
  }
}
