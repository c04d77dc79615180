import { createHmac, createSecretKey, type KeyObject, randomBytes } from "node:crypto";
import { KeyturnError } from "../errors.ts";
import { contentKeyContext } from "./contexts.ts";
import { Draft } from "./draft.ts";
import { STORE_PATIENCE_MS } from "./limits.ts";
import { type ContentKey, key } from "./records.ts";
import type { Actor } from "./sealing.ts";
import { settle } from "./settle.ts";
import type { View } from "./store.ts";
import { OWN_WORK, type World } from "./world.ts";

/** Where the key lies that marks are made with. Read it together with what the marks are on. */
export const contentKeyAt = key("content_key", "current");

const KEYED = "hmac-sha256:";
const OPEN = "sha256:";
const KEY_BYTES = 32;
const ACTOR: Actor = { ...OWN_WORK, purpose: "content_key" };
/** What releases before 0.2 stored: the bare SHA-256 of everything, secrets included. */
const BARE = /^[0-9a-f]{64}$/;

/** True when whoever reads the store could try guesses at the secrets behind this mark. */
export function isBareMark(mark: string): boolean {
  return BARE.test(mark);
}

/**
 * Tells a repeated creation from another one, by a mark on what creation was given: an HMAC under a key that lies sealed
 * in the store, one for all sidecars, so that who reads the store cannot try guesses at a weak password. Errors are those
 * of the store and of the sealer; a key that has been opened is kept for the process's life.
 */
export class ContentMarks {
  readonly #world: Pick<World, "clock" | "newId" | "sealer" | "store">;
  #opened: { readonly keyId: string; readonly key: Promise<KeyObject> } | undefined;
  #making: Promise<ContentKey> | undefined;

  constructor(world: Pick<World, "clock" | "newId" | "sealer" | "store">) {
    this.#world = world;
  }

  /** A new mark. `digest`: SHA-256 (hex) of the content; `isSecret`: secrets are part of it. */
  async of(digest: string, isSecret: boolean, view: View): Promise<string> {
    if (!isSecret) return OPEN + digest;
    const mac = createHmac("sha256", await this.#key(view)).update(digest);
    return KEYED + mac.digest("hex");
  }

  /** Whether `mark`, of this release or an earlier one, is one of this content. */
  async fits(mark: string, digest: string, view: View): Promise<boolean> {
    if (isBareMark(mark)) return mark === digest;
    return mark === (await this.of(digest, mark.startsWith(KEYED), view));
  }

  /** Makes the key where there is none, and opens it. */
  async ready(): Promise<void> {
    await this.#key(await this.#world.store.read([contentKeyAt]));
  }

  async #key(view: View): Promise<KeyObject> {
    const record = view.get(contentKeyAt)?.value ?? (await this.#made());
    if (this.#opened?.keyId !== record.keyId) this.#opened = { keyId: record.keyId, key: this.#open(record) };
    const opened = this.#opened;
    try {
      return await opened.key;
    } catch (error) {
      if (this.#opened === opened) this.#opened = undefined;
      throw error;
    }
  }

  async #open({ keyId, sealed }: ContentKey): Promise<KeyObject> {
    const bytes = await this.#world.sealer.open(contentKeyContext(keyId), sealed, ACTOR);
    try {
      return createSecretKey(bytes);
    } finally {
      bytes.fill(0);
    }
  }

  /** Many creations at once make one. */
  #made(): Promise<ContentKey> {
    this.#making ??= this.#make().finally(() => (this.#making = undefined));
    return this.#making;
  }

  /** Of two sidecars the first one's stays; both then open that one. */
  async #make(): Promise<ContentKey> {
    const { newId, sealer, clock } = this.#world;
    const keyId = newId();
    const context = contentKeyContext(keyId);
    const prepared = await sealer.prepare(context, ACTOR);
    const bytes = randomBytes(KEY_BYTES);
    const sealed = prepared.seal(context, bytes);
    bytes.fill(0);
    const draft = new Draft().expect(contentKeyAt, undefined).put(contentKeyAt, { keyId, sealed });
    const result = await settle(
      this.#world,
      draft.done(newId(), [contentKeyAt]),
      clock.boot() + STORE_PATIENCE_MS,
    );
    const entry = result.view.get(contentKeyAt);
    if (entry !== undefined) return entry.value;
    throw new KeyturnError("STORE_UNAVAILABLE", "The key of content marks was removed while it was made.");
  }
}
