import { invalid } from "../errors.ts";
import { clientSecretContext, credentialContext } from "./contexts.ts";
import { clientEvent, Draft } from "./draft.ts";
import { STORE_PATIENCE_MS } from "./limits.ts";
import { key } from "./records.ts";
import type { Actor, SealContext, Sealed, Sealer } from "./sealing.ts";
import type { Secret } from "./secret.ts";
import { settle } from "./settle.ts";
import type { Entry, Page } from "./store.ts";
import type { World } from "./world.ts";

const PAGE = 200;
const SAMPLE_AT_LEAST = 100;
const SAMPLE_SHARE = 0.01;
const ROTATION_DUE_MS = 90 * 86_400_000;

/** The KEK's own life, as its backend tells it. */
export interface KekAdmin {
  readonly id: string;
  versions(): Promise<{
    readonly newest: number;
    readonly versions: readonly {
      readonly version: number;
      readonly createdAtMs: number | undefined;
      readonly state: "active" | "retiring" | "retired";
    }[];
  }>;
  /** `authority` is the key administrator's credential, where the backend asks for one. */
  rotate(authority?: Secret): Promise<number>;
  retire(version: number, authority?: Secret): Promise<void>;
}

/** A sealer that can move a sealed value under the newest KEK version without opening it. */
export interface Rewrapper extends Sealer {
  rewrap(sealed: Sealed, actor: Actor, context?: SealContext): Promise<Sealed | undefined>;
}

export interface KekReport {
  readonly kekId: string;
  readonly newest: number;
  readonly versions: readonly {
    readonly version: number;
    readonly createdAtMs: number | undefined;
    readonly retired: boolean;
    readonly uses: number;
  }[];
  readonly rotationDue: boolean;
}

export interface RewrapProgress {
  readonly done: number;
  readonly total: number;
  /** Opened whole as a sample; counted at the end. */
  readonly verified: number;
  readonly finished: boolean;
}

type SealedEntry = Entry<"credential"> | Entry<"client_secrets">;

/** Rotation of the key-encryption key: rotate, rewrap every data key, verify a sample, retire. */
export class Keys {
  readonly #world: World;
  readonly #kek: KekAdmin;
  readonly #rewrapper: Rewrapper;

  constructor(world: World, kek: KekAdmin, rewrapper: Rewrapper) {
    this.#world = world;
    this.#kek = kek;
    this.#rewrapper = rewrapper;
  }

  /** The versions and how many sealed values, kept answers included, use each. */
  async status(): Promise<KekReport> {
    const uses = await this.#uses();
    const { newest, versions } = await this.#kek.versions();
    const current = versions.find(({ version }) => version === newest);
    return {
      kekId: this.#kek.id,
      newest,
      versions: versions.map(({ version, createdAtMs, state }) => ({
        version,
        createdAtMs,
        retired: state === "retired",
        uses: uses.get(version) ?? 0,
      })),
      rotationDue:
        current?.createdAtMs !== undefined && this.#world.clock.now() - current.createdAtMs > ROTATION_DUE_MS,
    };
  }

  async #uses(): Promise<ReadonlyMap<number, number>> {
    const uses = new Map<number, number>();
    const count = ({ kekId, kekVersion }: Sealed) => {
      if (kekId === this.#kek.id) uses.set(kekVersion, (uses.get(kekVersion) ?? 0) + 1);
    };
    for await (const entry of this.#sealed()) count(entry.value.sealed);
    for (const entry of await this.#world.journal.entries()) count(entry.sealed);
    return uses;
  }

  async *#sealed(): AsyncGenerator<SealedEntry> {
    yield* this.#all("credential");
    yield* this.#all("client_secrets");
  }

  async *#all<K extends "credential" | "client_secrets">(kind: K): AsyncGenerator<Entry<K>> {
    for (let after: string | undefined = ""; after !== undefined; ) {
      const page: Page<K> = await this.#world.store.scan(kind, after, PAGE);
      yield* page.entries;
      after = page.next;
    }
  }

  /** A new version; everything sealed from now on uses it. */
  async rotate(authority?: Secret): Promise<number> {
    const version = await this.#kek.rotate(authority);
    const detail = { kek_id: this.#kek.id, version: String(version) };
    const nobody = { provider: "", client: "" };
    const draft = new Draft().event(
      clientEvent("kek:rotated", nobody, this.#world.clock.now(), "rotated", detail),
    );
    await settle(
      this.#world,
      draft.done(this.#world.newId(), []),
      this.#world.clock.boot() + STORE_PATIENCE_MS,
    );
    return version;
  }

  /**
   * Moves every data key under the newest version. What is under it already is passed over, so a stopped run goes on
   * where it was. A refresh that commits meanwhile seals under the newest version anyway: the rewrap gives way.
   */
  async *rewrap(actor: Actor, maxPerSecond: number, signal: AbortSignal): AsyncGenerator<RewrapProgress> {
    let total = 0;
    for await (const _ of this.#sealed()) total += 1;
    let done = 0;
    const startedMs = this.#world.clock.boot();
    for await (const entry of this.#sealed()) {
      signal.throwIfAborted();
      await this.#rewrapOne(entry, actor);
      done += 1;
      if (maxPerSecond > 0) {
        const aheadMs = (done * 1_000) / maxPerSecond - (this.#world.clock.boot() - startedMs);
        if (aheadMs > 0) await this.#world.clock.sleep(aheadMs, signal);
      }
      if (done % PAGE === 0) yield { done, total, verified: 0, finished: false };
    }
    const verified = await this.#verifySample(done, actor);
    yield { done, total, verified, finished: true };
  }

  async #rewrapOne(entry: SealedEntry, actor: Actor): Promise<void> {
    const sealed = await this.#rewrapper.rewrap(entry.value.sealed, actor);
    if (sealed === undefined) return;
    const draft = new Draft().expect(entry.key, entry);
    if (isCredential(entry)) draft.put(entry.key, { ...entry.value, sealed });
    else draft.put(entry.key, { ...entry.value, sealed });
    // Refused: somebody sealed it anew meanwhile, under the newest version.
    await settle(
      this.#world,
      draft.done(this.#world.newId(), []),
      this.#world.clock.boot() + STORE_PATIENCE_MS,
    );
  }

  /** Opens at least 100 values, or one in a hundred, whole. SEAL_INVALID or KEK_MISMATCH when one does not open. */
  async #verifySample(count: number, actor: Actor): Promise<number> {
    const every = Math.max(1, Math.floor(count / Math.max(SAMPLE_AT_LEAST, count * SAMPLE_SHARE)));
    let seen = 0;
    let verified = 0;
    for await (const entry of this.#sealed()) {
      seen += 1;
      if (seen % every !== 0) continue;
      const context = await this.#contextOf(entry);
      if (context === undefined) continue;
      const plain = await this.#rewrapper.open(context, entry.value.sealed, {
        ...actor,
        purpose: "verify_rewrap",
      });
      plain.fill(0);
      verified += 1;
    }
    return verified;
  }

  /** Undefined when what it belongs to has gone or moved on meanwhile. */
  async #contextOf(entry: SealedEntry): Promise<SealContext | undefined> {
    if (!isCredential(entry)) {
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

  /** INVALID_REQUEST while anything uses it, with the count. Key material is never deleted. */
  async retire(version: number, authority?: Secret): Promise<void> {
    const uses = [...(await this.#uses())]
      .filter(([used]) => used <= version)
      .reduce((sum, [, count]) => sum + count, 0);
    if (uses > 0)
      throw invalid("version", `${uses} sealed values still use it or an older one; rewrap first`);
    await this.#kek.retire(version, authority);
  }
}

function isCredential(entry: SealedEntry): entry is Entry<"credential"> {
  return entry.key.kind === "credential";
}
