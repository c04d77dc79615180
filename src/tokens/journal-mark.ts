import { Draft } from "./draft.ts";
import type { KekAdmin } from "./keys.ts";
import { STORE_PATIENCE_MS } from "./limits.ts";
import { key } from "./records.ts";
import { settle } from "./settle.ts";
import type { World } from "./world.ts";

/** Tells the others which KEK versions this instance's journal may need, so that none is retired under it. */
export class OwnJournalMark {
  readonly #world: World;
  readonly #kek: Pick<KekAdmin, "versions">;
  readonly #host: string;

  constructor(world: World, kek: Pick<KekAdmin, "versions">, host: string) {
    this.#world = world;
    this.#kek = kek;
    this.#host = host;
  }

  /** What is kept, and what may be kept from now on. */
  async tell(): Promise<void> {
    const { instance, clock, journal } = this.#world;
    const { newest } = await this.#kek.versions();
    const kept = (await journal.entries()).map(({ sealed }) => sealed.kekVersion);
    const oldestKekVersion = Math.min(newest, ...kept);
    const value = { instance, host: this.#host, atMs: clock.now(), oldestKekVersion };
    await this.#write(new Draft().put(key("journal_mark", instance), value));
  }

  /** At the end, when nothing is kept: nobody needs to ask for this disk. */
  async withdraw(): Promise<void> {
    if ((await this.#world.journal.entries()).length > 0) return this.tell();
    const at = key("journal_mark", this.#world.instance);
    await this.#write(new Draft().remove((await this.#world.store.read([at])).get(at)));
  }

  async #write(draft: Draft): Promise<void> {
    if (draft.isEmpty) return;
    const transaction = draft.done(this.#world.newId(), []);
    await settle(this.#world, transaction, this.#world.clock.boot() + STORE_PATIENCE_MS);
  }
}
