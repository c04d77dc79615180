import { isAccepted } from "./accepted.ts";
import { type Account, DEFAULT_SLOT } from "./account.ts";
import type { ConnectedWriter } from "./connected.ts";
import { type ConnectionSubjects, type Permit, requireUsable, type Wanted } from "./connection-subjects.ts";
import { heldAs } from "./held-as.ts";
import { introduced } from "./introducing.ts";
import type { Minted, Minting } from "./minting.ts";
import type { Actor } from "./sealing.ts";
import type { VendorContext } from "./vendor.ts";
import type { World } from "./world.ts";

export interface WantedWithSecret extends Wanted {
  /** In the clear, by the names of the provider's file. */
  readonly secrets: Readonly<Record<string, string>>;
  /** Undefined: not known, or never. */
  readonly expiresAtMs: number | undefined;
  /** Boot clock: how long the caller waits for its turn at the provider. */
  readonly untilBootMs: number;
}

/** A secret that the provider has been asked about. */
interface Verified extends Minted {
  /** False where it cannot be asked. */
  readonly verified: boolean;
}

/** What secrets are connected with. */
export interface SecretConnectionParts {
  readonly world: World;
  readonly subjects: ConnectionSubjects;
  readonly writer: ConnectedWriter;
  readonly minting: Minting;
  /** Ends the waiting between tries. */
  readonly gone: AbortSignal;
}

/** Accounts of customers who hand in a secret. */
export class SecretConnections {
  readonly #world: World;
  readonly #subjects: ConnectionSubjects;
  readonly #writer: ConnectedWriter;
  readonly #minting: Minting;
  readonly #gone: AbortSignal;

  constructor({ world, subjects, writer, minting, gone }: SecretConnectionParts) {
    this.#world = world;
    this.#subjects = subjects;
    this.#writer = writer;
    this.#minting = minting;
    this.#gone = gone;
  }

  /** The secret, checked at the provider before it is stored. `verified`: false where it cannot be. */
  async connect(
    wanted: WantedWithSecret,
    permit: Permit,
    actor: Actor,
  ): Promise<{ readonly account: Account; readonly verified: boolean }> {
    const { account, entry, client } = await this.#subjects.of(wanted, permit);
    if (client !== undefined) requireUsable(client.record);
    const nowMs = this.#world.clock.now();
    const { provider } = account;
    const { secrets, expiresAtMs } = wanted;
    const asked = this.#world.consents.credential(provider, secrets, nowMs, expiresAtMs);
    const given = heldAs(DEFAULT_SLOT, asked, this.#world.vendors.rules(provider));
    const context = {
      account: { ...account, fields: { ...account.fields, ...wanted.fields } },
      slot: DEFAULT_SLOT,
      credential: given,
    };
    const known =
      given.kind === "unminted"
        ? await this.#minted(context, actor, wanted.untilBootMs)
        : await this.#verified({ ...context, client: await this.#subjects.opened(client, actor) });
    const { credential, fields, subject, verified } = known;
    const grant = { credentials: new Map([[DEFAULT_SLOT, credential]]), fields, subject };
    const connected = await introduced(this.#world, { ...context, ...known }, grant, wanted, this.#gone);
    const isNew = entry === undefined;
    const stored = await this.#writer.write(account, connected, actor, { isNew });
    return { account: stored?.value ?? account, verified };
  }

  /** Rejects as `isAccepted`. */
  async #verified(context: VendorContext): Promise<Verified> {
    const verified = await isAccepted(this.#world, context, "secret");
    const { credential, client } = context;
    return { credential, client, fields: {}, subject: undefined, verified };
  }

  /** A secret that tokens are minted from is accepted when it mints one. */
  async #minted(
    context: Omit<VendorContext, "client">,
    actor: Actor,
    untilBootMs: number,
  ): Promise<Verified> {
    const { account } = context;
    const applicant = { account, attemptId: this.#world.newId(), actor, untilBootMs };
    return { ...(await this.#minting.mint(context, applicant, "secret")), verified: true };
  }
}
