import { KeyturnError } from "../errors.ts";
import { type Account, DEFAULT_SLOT } from "./account.ts";
import type { ConnectedWriter } from "./connected.ts";
import { grantFault, mintFault } from "./connection-faults.ts";
import { type ConnectionSubjects, type Permit, requireUsable, type Wanted } from "./connection-subjects.ts";
import type { Credential } from "./credential.ts";
import { heldAs } from "./held-as.ts";
import { introduced } from "./introducing.ts";
import { EAR_MS } from "./limits.ts";
import type { Actor } from "./sealing.ts";
import type { RawAnswer, VendorContext } from "./vendor.ts";
import type { World } from "./world.ts";

export interface WantedWithSecret extends Wanted {
  /** In the clear, by the names of the provider's file. */
  readonly secrets: Readonly<Record<string, string>>;
  /** Undefined: not known, or never. */
  readonly expiresAtMs: number | undefined;
}

/** Accounts of customers who hand in a secret. */
export class SecretConnections {
  readonly #world: World;
  readonly #subjects: ConnectionSubjects;
  readonly #writer: ConnectedWriter;
  readonly #gone: AbortSignal;

  constructor(world: World, subjects: ConnectionSubjects, writer: ConnectedWriter, gone: AbortSignal) {
    this.#world = world;
    this.#subjects = subjects;
    this.#writer = writer;
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
    const context: VendorContext = {
      account: { ...account, fields: { ...account.fields, ...wanted.fields } },
      slot: DEFAULT_SLOT,
      credential: given,
      client: await this.#subjects.opened(client, actor),
    };
    const { credential, verified } = await this.#verified(context);
    const grant = { credentials: new Map([[DEFAULT_SLOT, credential]]), fields: {}, subject: undefined };
    const connected = await introduced(this.#world, context, grant, wanted, this.#gone);
    const isNew = entry === undefined;
    const stored = await this.#writer.write(account, connected, actor, { isNew });
    return { account: stored?.value ?? account, verified };
  }

  /** AUTHORIZATION_DENIED when the provider refuses it, PROVIDER_UNAVAILABLE when it does not say. */
  async #verified(
    context: VendorContext,
  ): Promise<{ readonly credential: Credential; readonly verified: boolean }> {
    const { credential } = context;
    if (credential.kind === "unminted") return { credential: await this.#minted(context), verified: true };
    const { id, provider } = context.account;
    if (this.#world.vendors.rules(provider)?.canVerify !== true) return { credential, verified: false };
    const verification = await this.#world.vendors.verify(context);
    const metadata = { account_id: id, provider };
    switch (verification.kind) {
      case "accepted":
        return { credential, verified: true };
      case "refused":
        throw new KeyturnError(
          "AUTHORIZATION_DENIED",
          "The provider does not accept this secret; nothing was stored.",
          { metadata: { ...metadata, cause: "secret_refused", http_status: String(verification.status) } },
        );
      case "unclear":
        throw new KeyturnError(
          "PROVIDER_UNAVAILABLE",
          "The provider did not say whether it accepts this secret; nothing was stored.",
          { metadata: { ...metadata, cause: verification.cause }, retryAfterMs: 5_000 },
        );
    }
  }

  /** A secret that tokens are minted from is accepted when it mints one; minting spends nothing. */
  async #minted(context: VendorContext): Promise<Credential> {
    const { vendors, clock } = this.#world;
    const answers: RawAnswer[] = [];
    const late = new AbortController();
    const done = new AbortController();
    void clock.sleep(EAR_MS, done.signal).then(
      () => late.abort(),
      () => undefined,
    );
    try {
      for (;;) {
        const sent = await vendors.exchange(context, () => !late.signal.aborted, late.signal, answers);
        if (sent.kind !== "answer") throw grantFault(context.account, sent);
        const read = await vendors.interpret(context, sent.answer, answers);
        if (read.kind === "granted" && read.unfinished === undefined) return read.credential;
        if (read.kind === "granted") throw grantFault(context.account, { kind: "more" });
        if (read.kind !== "more") throw mintFault(context.account, read);
        answers.push(sent.answer);
      }
    } finally {
      done.abort();
    }
  }
}
