import { invalid, KeyturnError } from "../errors.ts";
import { clientEvent, Draft } from "./draft.ts";
import { withFloor } from "./kek-floor.ts";
import { kekUses, usesText } from "./kek-uses.ts";
import { STORE_PATIENCE_MS } from "./limits.ts";
import { Rewrap, type RewrapProgress, type Rewrapper } from "./rewrap.ts";
import type { Actor } from "./sealing.ts";
import type { Secret } from "./secret.ts";
import { settle } from "./settle.ts";
import type { World } from "./world.ts";

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

/** Rotation of the key-encryption key: rotate, rewrap every data key, retire. */
export class Keys {
  readonly #world: World;
  readonly #kek: KekAdmin;
  readonly #rewrap: Rewrap;

  constructor(world: World, kek: KekAdmin, rewrapper: Rewrapper) {
    this.#world = world;
    this.#kek = kek;
    this.#rewrap = new Rewrap(world, kek, rewrapper);
  }

  /** Why the key cannot be used now, as the cause of the error that says so. Undefined: it answers. */
  async fault(): Promise<string | undefined> {
    try {
      await this.#kek.versions();
      return undefined;
    } catch (error) {
      if (!(error instanceof KeyturnError)) {
        this.#world.report("the key was not looked into", {}, error);
        return undefined;
      }
      return error.metadata["cause"] ?? error.reason.toLowerCase();
    }
  }

  /** The versions and how many sealed values, kept answers included, use each. */
  async status(): Promise<KekReport> {
    const { uses } = await kekUses(this.#world, this.#kek.id);
    const { newest, versions } = await this.#kek.versions();
    const current = versions.find(({ version }) => version === newest);
    return {
      kekId: this.#kek.id,
      newest,
      versions: versions.map(({ version, createdAtMs, state }) => ({
        version,
        createdAtMs,
        retired: state === "retired",
        uses: uses.filter((use) => use.version === version).reduce((sum, { count }) => sum + count, 0),
      })),
      rotationDue:
        current?.createdAtMs !== undefined && this.#world.clock.now() - current.createdAtMs > ROTATION_DUE_MS,
    };
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

  /** Moves every data key under the newest version; goes on where a stopped run was. */
  rewrap(actor: Actor, maxPerSecond: number, signal: AbortSignal): AsyncGenerator<RewrapProgress, void> {
    return this.#rewrap.run(actor, maxPerSecond, signal);
  }

  /**
   * INVALID_REQUEST while anything uses it or an older one, naming what and who; and while an instance that cannot be
   * asked may have answers under it on its disk, unless `acceptUnseen`. Key material is never deleted.
   */
  async retire(
    version: number,
    {
      acceptUnseen = false,
      authority,
    }: { readonly acceptUnseen?: boolean; readonly authority?: Secret | undefined } = {},
  ): Promise<void> {
    const { newest } = await this.#kek.versions();
    const check = () => this.#requireUnused(version, acceptUnseen);
    // The active one cannot be retired, and everything is sealed under it.
    if (version >= newest) await check();
    else await withFloor(this.#world, this.#kek.id, version, check);
    await this.#kek.retire(version, authority);
  }

  async #requireUnused(version: number, acceptUnseen: boolean): Promise<void> {
    const { uses, unseen } = await kekUses(this.#world, this.#kek.id);
    const blocking = uses.filter((use) => use.version <= version);
    const { newest } = await this.#kek.versions();
    if (version > newest) throw invalid("version", `there is none of this number; the newest is ${newest}`);
    if (blocking.length > 0)
      throw invalid("version", `it or an older one is still needed: ${blocking.map(usesText).join("; ")}`);
    const hidden = unseen
      .filter((mark) => mark.oldestKekVersion <= version)
      .map(({ instance, host }) => `${instance} (${host})`);
    if (hidden.length > 0 && !acceptUnseen)
      throw invalid(
        "accept_unseen_journals",
        `these instances are gone and did not say that their journals are empty: ${hidden.join(", ")}; replay what their disks keep (journal replay DIR), or accept its loss`,
      );
  }
}
