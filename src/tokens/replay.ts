import { KeyturnError } from "../errors.ts";
import type { SlotKey } from "./account.ts";
import { answerFromBytes } from "./answer.ts";
import type { Held, Outcome } from "./commit.ts";
import { answerContext, credentialContext } from "./contexts.ts";
import { type Credential, credentialToBytes } from "./credential.ts";
import type { Exchanges } from "./exchanges.ts";
import type { JournalEntry } from "./journal.ts";
import { openClientSecret, openCredential } from "./opening.ts";
import type { Actor } from "./sealing.ts";
import { type ClientKey, clientKeyOf, type Snapshot, snapshotOf, snapshotReads } from "./snapshot.ts";
import type { Page } from "./store.ts";
import type { VendorContext } from "./vendor.ts";
import type { World } from "./world.ts";

const PAGE = 500;

/** What became of a kept answer: committed or otherwise settled, or kept because the file still does not map it. */
export type Replayed = "settled" | "unmapped";

/** Answers and attempts that an earlier life of this process left behind. */
export class Replay {
  readonly #world: World;
  readonly #exchanges: Exchanges;

  constructor(world: World, exchanges: Exchanges) {
    this.#world = world;
    this.#exchanges = exchanges;
  }

  /**
   * Settles every kept answer, then declares this instance's open attempts without one as lost: nobody else has to
   * wait for them. Rejects with the first entry's error when the KEK or the store is away; call it again then.
   */
  async start(actor: Actor): Promise<void> {
    const entries = await this.#world.journal.entries();
    for (const entry of entries) await this.entry(entry, actor);
    await this.#declareLost(new Set(entries.map((entry) => entry.attemptId)));
  }

  async #declareLost(kept: ReadonlySet<string>): Promise<void> {
    for (let after: string | undefined = ""; after !== undefined; ) {
      const page: Page<"attempt"> = await this.#world.store.scan("attempt", after, PAGE);
      for (const { key, value } of page.entries) {
        const mine = value.instance === this.#world.instance && !this.#exchanges.isUnderway(value.attemptId);
        if (!mine || kept.has(value.attemptId)) continue;
        const slot = { accountId: key.parts[0], slot: key.parts[1] };
        const client = await this.#clientOf(slot.accountId);
        const outcome: Outcome = { kind: "unknown", cause: "process_died", httpStatus: undefined };
        await this.#settle(undefined, slot, client, heldBy(value, value.attemptId), outcome);
      }
      after = page.next;
    }
  }

  /** An account that is gone has no client to speak of. */
  async #clientOf(accountId: string): Promise<ClientKey> {
    const at = { kind: "account", parts: [accountId] } as const;
    const account = (await this.#world.store.read([at])).get(at)?.value;
    return account === undefined ? { provider: "-", client: "-" } : clientKeyOf(account);
  }

  /** Settles one kept answer. Idempotent: incarnation and generation decide. */
  async entry(entry: JournalEntry, actor: Actor): Promise<Replayed> {
    const slot = { accountId: entry.accountId, slot: entry.slot };
    const client = clientKeyOf(entry);
    const snapshot = snapshotOf(slot, client, await this.#world.store.read(snapshotReads(slot, client)));
    const { outcome, context } = await this.#read(entry, snapshot, actor);
    if (outcome.kind === "unmapped" && snapshot.slot?.unmapped?.attemptId === entry.attemptId)
      return "unmapped";
    const effect = await this.#settle(snapshot, slot, client, heldBy(entry, entry.attemptId), outcome);
    if (outcome.kind === "unmapped" && effect === "failed") return "unmapped";
    if (effect === "revoke" && outcome.kind === "granted") {
      await this.#world.vendors.revoke({ ...context, credential: outcome.credential });
    }
    await this.#world.journal.remove(entry.attemptId);
    return "settled";
  }

  /** After its provider's file was mended: reads the kept answer again. */
  async remap(slot: SlotKey, actor: Actor): Promise<Replayed> {
    const entries = await this.#world.journal.entries();
    const kept = entries.filter((one) => one.accountId === slot.accountId && one.slot === slot.slot);
    if (kept.length === 0) {
      const field = "account_id";
      const text = `${field}: this sidecar's journal keeps no answer for this account`;
      const description = "an account whose kept answer lies on this sidecar's disk";
      throw new KeyturnError("INVALID_REQUEST", text, { violations: [{ field, description }] });
    }
    // An answer that a new credential has superseded lies before the one that counts.
    let replayed: Replayed = "settled";
    for (const entry of kept) replayed = await this.entry(entry, actor);
    return replayed;
  }

  async #settle(
    snapshot: Snapshot | undefined,
    slot: SlotKey,
    client: ClientKey,
    held: Held,
    outcome: Outcome,
  ) {
    const { concluder, gone } = this.#exchanges;
    const at = { key: slot, client };
    return (await concluder.conclude(snapshot, at, held, outcome, gone, () => undefined)).effect;
  }

  async #read(
    entry: JournalEntry,
    snapshot: Snapshot,
    actor: Actor,
  ): Promise<{ outcome: Outcome; context: VendorContext }> {
    const { sealer, vendors } = this.#world;
    const context = await this.#contextFor(entry, snapshot, actor);
    const bytes = await sealer.open(answerContext(entry), entry.sealed, actor);
    const answer = answerFromBytes(bytes);
    try {
      const read = await vendors.interpret(context, answer).catch((error: unknown) => {
        this.#world.report("kept answer not read", { account_id: entry.accountId }, error);
        return { kind: "unmapped", cause: "interpretation_failed" } as const;
      });
      const httpStatus = answer.status;
      if (read.kind !== "granted") return { outcome: { ...read, httpStatus }, context };
      const sealContext = credentialContext(context.account, entry.slot, entry.generation + 1);
      const prepared = await sealer.prepare(sealContext, actor);
      const plain = credentialToBytes(read.credential);
      const sealed = prepared.seal(sealContext, plain);
      plain.fill(0);
      return { outcome: { ...read, sealed, httpStatus }, context };
    } finally {
      bytes.fill(0);
    }
  }

  /** The answer is merged with what it refreshed; when that has moved on or gone, it will not be stored anyway. */
  async #contextFor(entry: JournalEntry, snapshot: Snapshot, actor: Actor): Promise<VendorContext> {
    const found = snapshot.account?.value;
    const account = found?.incarnation === entry.incarnation ? found : undefined;
    const current = account !== undefined && snapshot.slot?.generation === entry.generation;
    const credential: Credential = current
      ? await openCredential(this.#world.sealer, snapshot, actor)
      : { kind: "unminted" };
    const secret = await openClientSecret(
      this.#world.sealer,
      snapshot.oauthClient?.value,
      snapshot.clientSecrets?.value,
      actor,
    );
    const record = snapshot.oauthClient?.value;
    return {
      account: account ?? strangerOf(entry),
      slot: entry.slot,
      credential,
      client: record === undefined ? undefined : { record, secret },
    };
  }
}

/** Stands in for an account that is gone, so that its answer can still be read and revoked. */
function strangerOf(entry: JournalEntry): VendorContext["account"] {
  const { accountId: id, incarnation, tenant, provider, client } = entry;
  const nothing = {
    labels: {},
    displayName: "",
    externalSubject: "",
    fields: {},
    slots: {},
    contentHash: "",
  };
  return {
    ...nothing,
    id,
    incarnation,
    tenant,
    provider,
    client,
    disabled: true,
    createdAtMs: 0,
    updatedAtMs: 0,
    lastUsedAtMs: undefined,
  };
}

function heldBy(of: { readonly incarnation: string; readonly generation: number }, attemptId: string): Held {
  return {
    attemptId,
    lockId: undefined,
    incarnation: of.incarnation,
    generation: of.generation,
    // Which secrets were sent is not known any more, so this answer condemns no client.
    clientGeneration: -1,
    permit: undefined,
    probe: false,
    trigger: "replay",
    afterRejection: false,
    minValidityMs: 0,
  };
}
