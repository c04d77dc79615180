import { isReason } from "../errors.ts";
import { isAccepted } from "./accepted.ts";
import { type Account, DEFAULT_SLOT } from "./account.ts";
import type { Alongside } from "./admission.ts";
import type { Authorizations, Found } from "./authorizations.ts";
import { FOR_NOW, stillOpen } from "./code-exchanges.ts";
import type { ConnectedWriter } from "./connected.ts";
import type { Credential } from "./credential.ts";
import { introduced } from "./introducing.ts";
import type { Minting } from "./minting.ts";
import { patiently } from "./patience.ts";
import type { Actor } from "./sealing.ts";
import type { World } from "./world.ts";

export interface ConsentedParts {
  readonly world: World;
  readonly authorizations: Authorizations;
  readonly minting: Minting;
  readonly writer: ConnectedWriter;
  /** Ends the waiting for neighbours. */
  readonly gone: AbortSignal;
}

/**
 * Accounts whose customers let our app in without a code coming back. What the redirect names is no more than the browser's
 * word, so a first token is minted and tried before anything is stored.
 */
export class ConsentedConnections {
  readonly #parts: ConsentedParts;

  constructor(parts: ConsentedParts) {
    this.#parts = parts;
  }

  /** `brought`: the redirect's fields. Errors say `authorization` = `open` when it may be completed again. */
  async connect(
    found: Found,
    brought: Readonly<Record<string, string>>,
    actor: Actor,
    untilBootMs: number,
  ): Promise<Account> {
    const spending = this.#parts.authorizations.spending(found);
    try {
      return await this.#connect(found, brought, { actor, untilBootMs }, spending);
    } catch (error) {
      // Minting spends nothing: what the provider has not said no to may be asked again.
      if (!isReason(error, ...FOR_NOW)) throw error;
      await spending.restore();
      throw stillOpen(error);
    }
  }

  async #connect(
    { account, intent }: Found,
    brought: Readonly<Record<string, string>>,
    who: { readonly actor: Actor; readonly untilBootMs: number },
    spending: Alongside,
  ): Promise<Account> {
    const { world, minting, writer, gone } = this.#parts;
    const note = { ...intent, fields: { ...intent.fields, ...brought } };
    const names = world.vendors.rules(account.provider)?.tokenNames ?? [DEFAULT_SLOT];
    const [slot = DEFAULT_SLOT] = names;
    const asked = { ...account, fields: { ...account.fields, ...note.fields } };
    const context = { account: asked, slot, credential: { kind: "unminted" } as const };
    const applicant = { account: asked, attemptId: world.newId(), ...who };
    const { client, credential, fields, subject } = await minting.mint(
      context,
      applicant,
      "consent",
      spending,
    );
    await isAccepted(world, { ...context, credential, client }, "consent");
    // The others are minted when somebody asks for them.
    const credentials = new Map<string, Credential>(names.map((name) => [name, { kind: "unminted" }]));
    const grant = { credentials: credentials.set(slot, credential), fields, subject };
    const connected = await introduced(world, { ...context, client }, grant, note, gone);
    const entry = await patiently(world.clock, gone, () => writer.write(asked, connected, who.actor));
    return entry?.value ?? asked;
  }
}
