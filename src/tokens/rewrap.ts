import { KeyturnError } from "../errors.ts";
import { clientSecretContext, contentKeyContext, credentialContext } from "./contexts.ts";
import { Draft } from "./draft.ts";
import { inOrder } from "./in-order.ts";
import type { KekAdmin } from "./keys.ts";
import { STORE_PATIENCE_MS } from "./limits.ts";
import { key, type RewrapMark } from "./records.ts";
import { entriesOf } from "./sealed-entries.ts";
import type { Actor, SealContext, Sealed, Sealer } from "./sealing.ts";
import { settle } from "./settle.ts";
import type { Entry, Page } from "./store.ts";
import type { World } from "./world.ts";

const PAGE = 200;
/** Calls of the KEK at one time, so that a backend that takes batches gets them. */
const AT_ONCE = 32;
const SAMPLE_AT_LEAST = 100;
const SAMPLE_SHARE = 0.01;
const TELL_EVERY_MS = 250;
/** What a sidecar with an older view of the KEK seals meanwhile is found by going through once more. */
const MOST_ROUNDS = 3;

const KINDS = ["credential", "client_secrets", "content_key"] as const;
type SealedKind = (typeof KINDS)[number];
type SealedEntry = { readonly [K in SealedKind]: Entry<K> }[SealedKind];

/** A sealer that can move a sealed value under the newest KEK version without opening it. */
export interface Rewrapper extends Sealer {
  rewrap(sealed: Sealed, actor: Actor, context?: SealContext): Promise<Sealed | undefined>;
}

export interface RewrapProgress {
  readonly toVersion: number;
  /** Sealed values dealt with, those of earlier runs included. At the end: those under the newest version. */
  readonly done: number;
  readonly total: number;
  /** Opened whole as a sample; counted at the end. */
  readonly verified: number;
  readonly finished: boolean;
}

/** Brings every data key under the newest version of the KEK, while everything goes on. */
export class Rewrap {
  readonly #world: World;
  readonly #kek: Pick<KekAdmin, "id" | "versions">;
  readonly #rewrapper: Rewrapper;

  constructor(world: World, kek: Pick<KekAdmin, "id" | "versions">, rewrapper: Rewrapper) {
    this.#world = world;
    this.#kek = kek;
    this.#rewrapper = rewrapper;
  }

  /**
   * What is under the newest version already costs no call. A refresh that commits meanwhile seals under it anyway: the
   * rewrap gives way. Goes on where a stopped run to the same version was.
   */
  async *run(actor: Actor, maxPerSecond: number, signal: AbortSignal): AsyncGenerator<RewrapProgress, void> {
    const { newest } = await this.#kek.versions();
    let total = (await this.#count(newest)).all;
    let mark = await this.#markOf(newest, actor);
    const pace = new Pace(this.#world, maxPerSecond, signal);
    yield { toVersion: newest, done: Math.min(mark.done, total), total, verified: 0, finished: false };
    for (let round = 0; ; round += 1) {
      for await (mark of this.#pass(mark, actor, pace, signal))
        yield { toVersion: newest, done: Math.min(mark.done, total), total, verified: 0, finished: false };
      const { all, moved } = await this.#count(newest);
      total = all;
      if (moved === all) break;
      if (round === MOST_ROUNDS)
        throw new KeyturnError(
          "KEK_UNAVAILABLE",
          `${all - moved} data keys are still sealed anew under older versions; run the rewrap again.`,
          { metadata: { cause: "older_versions_in_use" } },
        );
      mark = { ...mark, kind: "credential", after: "", done: 0 };
    }
    const verified = await this.#verifySample(total, actor, signal);
    const at = key("rewrap", this.#kek.id);
    await this.#write(new Draft().remove((await this.#world.store.read([at])).get(at)));
    yield { toVersion: newest, done: total, total, verified, finished: true };
  }

  /** How many values there are, and how many of them are under `version` or a newer one. */
  async #count(version: number): Promise<{ readonly all: number; readonly moved: number }> {
    let all = 0;
    let moved = 0;
    for (const kind of KINDS) {
      for await (const { value } of entriesOf(this.#world.store, kind)) {
        all += 1;
        if (value.sealed.kekId === this.#kek.id && value.sealed.kekVersion >= version) moved += 1;
      }
    }
    return { all, moved };
  }

  async #markOf(toVersion: number, actor: Actor): Promise<RewrapMark> {
    const at = key("rewrap", this.#kek.id);
    const found = (await this.#world.store.read([at])).get(at)?.value;
    if (found?.toVersion === toVersion) return found;
    const startedAtMs = this.#world.clock.now();
    return { toVersion, kind: "credential", after: "", done: 0, startedAtMs, initiator: actor.caller };
  }

  /** Through all values from the mark on; a new mark is written after every page, and given from time to time. */
  async *#pass(
    from: RewrapMark,
    actor: Actor,
    pace: Pace,
    signal: AbortSignal,
  ): AsyncGenerator<RewrapMark, void> {
    let mark = from;
    let toldAtMs = this.#world.clock.boot();
    for (const kind of KINDS.slice(KINDS.indexOf(from.kind))) {
      for (let after: string | undefined = kind === from.kind ? from.after : ""; after !== undefined; ) {
        const page: Page<SealedKind> = await this.#world.store.scan(kind, after, PAGE);
        const work = async (entry: Entry<SealedKind>) =>
          this.#one(entry as SealedEntry, mark.toVersion, actor, pace);
        for await (const failure of inOrder(each(page.entries), AT_ONCE, (entry) => settled(work(entry)))) {
          signal.throwIfAborted();
          if (failure !== undefined) throw failure.error;
          mark = { ...mark, done: mark.done + 1 };
          if (this.#world.clock.boot() - toldAtMs < TELL_EVERY_MS) continue;
          toldAtMs = this.#world.clock.boot();
          yield mark;
        }
        after = page.next;
        // After the last page of a kind its place stays: what is gone through again is under the newest version.
        mark = { ...mark, kind, after: after ?? (mark.kind === kind ? mark.after : "") };
        await this.#write(new Draft().put(key("rewrap", this.#kek.id), mark));
      }
    }
    yield mark;
  }

  async #one(entry: SealedEntry, toVersion: number, actor: Actor, pace: Pace): Promise<void> {
    const { kekId, kekVersion } = entry.value.sealed;
    if (kekId === this.#kek.id && kekVersion >= toVersion) return;
    await pace.turn();
    const sealed = await this.#rewrapper.rewrap(entry.value.sealed, actor);
    if (sealed === undefined) return;
    const draft = new Draft().expect(entry.key, entry);
    if (isOf("credential", entry)) draft.put(entry.key, { ...entry.value, sealed });
    else if (isOf("client_secrets", entry)) draft.put(entry.key, { ...entry.value, sealed });
    else draft.put(entry.key, { ...entry.value, sealed });
    // Refused: somebody sealed it anew meanwhile.
    await this.#write(draft);
  }

  async #write(draft: Draft): Promise<void> {
    const transaction = draft.done(this.#world.newId(), []);
    await settle(this.#world, transaction, this.#world.clock.boot() + STORE_PATIENCE_MS);
  }

  /** Opens at least 100 values, or one in a hundred, whole. SEAL_INVALID or KEK_MISMATCH when one does not open. */
  async #verifySample(count: number, actor: Actor, signal: AbortSignal): Promise<number> {
    const every = Math.max(1, Math.floor(count / Math.max(SAMPLE_AT_LEAST, count * SAMPLE_SHARE)));
    let seen = Math.floor(this.#world.random() * every);
    let verified = 0;
    for (const kind of KINDS) {
      for await (const entry of entriesOf(this.#world.store, kind)) {
        signal.throwIfAborted();
        seen += 1;
        if (seen % every === 0 && (await this.#opens(entry as SealedEntry, actor))) verified += 1;
      }
    }
    return verified;
  }

  /** False when what it belongs to has gone or moved on meanwhile. */
  async #opens(entry: SealedEntry, actor: Actor): Promise<boolean> {
    const context = await this.#contextOf(entry);
    if (context === undefined) return false;
    const plain = await this.#rewrapper.open(context, entry.value.sealed, {
      ...actor,
      purpose: "verify_rewrap",
    });
    plain.fill(0);
    return true;
  }

  async #contextOf(entry: SealedEntry): Promise<SealContext | undefined> {
    if (isOf("content_key", entry)) return contentKeyContext(entry.value.keyId);
    if (isOf("client_secrets", entry)) {
      const [provider, client] = entry.key.parts;
      return clientSecretContext(provider, client, entry.value.generation);
    }
    const [accountId, slot] = entry.key.parts;
    const at = key("account", accountId);
    const account = (await this.#world.store.read([at])).get(at)?.value;
    const generation = account?.slots[slot]?.generation;
    return account === undefined || generation !== entry.value.generation
      ? undefined
      : credentialContext(account, slot, generation);
  }
}

/** So many turns a second, evenly. */
class Pace {
  readonly #world: Pick<World, "clock">;
  readonly #everyMs: number;
  readonly #signal: AbortSignal;
  #nextAtMs: number;

  /** 0: as fast as it goes. */
  constructor(world: Pick<World, "clock">, perSecond: number, signal: AbortSignal) {
    this.#world = world;
    this.#everyMs = perSecond === 0 ? 0 : 1_000 / perSecond;
    this.#signal = signal;
    this.#nextAtMs = world.clock.boot();
  }

  async turn(): Promise<void> {
    const bootMs = this.#world.clock.boot();
    const atMs = Math.max(bootMs, this.#nextAtMs);
    this.#nextAtMs = atMs + this.#everyMs;
    if (atMs > bootMs) await this.#world.clock.sleep(atMs - bootMs, this.#signal);
  }
}

async function* each<T>(items: readonly T[]): AsyncGenerator<T, void> {
  yield* items;
}

async function settled(work: Promise<void>): Promise<{ readonly error: unknown } | undefined> {
  return work.then(
    () => undefined,
    (error: unknown) => ({ error }),
  );
}

function isOf<K extends SealedKind>(kind: K, entry: SealedEntry): entry is Extract<SealedEntry, Entry<K>> {
  return entry.key.kind === kind;
}
