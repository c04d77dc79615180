import { invalid, isReason, KeyturnError } from "../errors.ts";
import type { SlotKey } from "./account.ts";
import { answerFromBytes, answerToBytes } from "./answer.ts";
import type { Held, Outcome } from "./commit.ts";
import type { Connections } from "./connections.ts";
import { answerContext, credentialContext } from "./contexts.ts";
import { type Credential, credentialToBytes } from "./credential.ts";
import { Draft } from "./draft.ts";
import { openEar } from "./ear.ts";
import type { Exchanges } from "./exchanges.ts";
import type { Journal, JournalEntry } from "./journal.ts";
import { STORE_PATIENCE_MS } from "./limits.ts";
import { openClient, openCredential } from "./opening.ts";
import { mayPass } from "./patience.ts";
import { key } from "./records.ts";
import type { Actor } from "./sealing.ts";
import { settle } from "./settle.ts";
import { type ClientKey, clientKeyOf, type Snapshot, snapshotOf, snapshotReads } from "./snapshot.ts";
import type { Page } from "./store.ts";
import type { Interpretation, RawAnswer, SendResult, VendorContext } from "./vendor.ts";
import type { World } from "./world.ts";

const PAGE = 500;

/** The journal of another instance, which does not run. */
export interface GoneJournal {
  readonly journal: Journal;
  readonly instance: string;
}

/** What became of a kept answer: committed or otherwise settled, or kept because the file still does not map it. */
export type Replayed = "settled" | "unmapped";

/** Answers and attempts that an earlier life of this process left behind. */
export class Replay {
  readonly #world: World;
  readonly #exchanges: Exchanges;
  readonly #connections: Pick<Connections, "replay">;

  constructor(world: World, exchanges: Exchanges, connections: Pick<Connections, "replay">) {
    this.#world = world;
    this.#exchanges = exchanges;
    this.#connections = connections;
  }

  /**
   * Settles every kept answer, then declares this instance's open attempts without one as lost: nobody else has to
   * wait for them. Rejects with the first entry's error when the KEK or the store is away; call it again then. An entry
   * that will not be settled by waiting stays, and keeps nobody else waiting.
   */
  async start(actor: Actor): Promise<void> {
    const { journal } = this.#world;
    const entries = await journal.entries();
    for (const exchange of exchangesIn(entries)) await this.#one(exchange, actor, journal);
    await this.#declareLost(new Set(entries.map((entry) => entry.attemptId)));
  }

  /**
   * Settles every kept answer; returns what became of each exchange. Those on their way in this process are left alone.
   * Rejects, after the others, with the error of one that cannot be opened or written: it stays in the journal.
   */
  all(actor: Actor): Promise<readonly Replayed[]> {
    return this.#all(this.#world.journal, actor);
  }

  /**
   * The same for the journal of an instance that is gone, whose open attempts without an answer are lost then.
   * INVALID_REQUEST while it lives.
   */
  async adopt({ journal, instance }: GoneJournal, actor: Actor): Promise<readonly Replayed[]> {
    const entries = await journal.entries();
    for (const owner of new Set([instance, ...entries.map((entry) => entry.instance)])) {
      const isMine = owner === this.#world.instance;
      const isLive = this.#world.isGone !== undefined && !(await this.#world.isGone(owner));
      if (isMine || isLive)
        throw invalid(
          "directory",
          `of an instance that is gone; ${owner} ${isMine ? "is this one" : "lives"}`,
        );
    }
    const replayed = await this.#all(journal, actor);
    const left = new Set((await journal.entries()).map((entry) => entry.attemptId));
    await this.#declareLost(left, instance);
    if (left.size === 0) await this.#forgetMark(instance);
    return replayed;
  }

  async #all(journal: Journal, actor: Actor): Promise<readonly Replayed[]> {
    const done: (Replayed | { readonly failure: unknown })[] = [];
    for (const exchange of exchangesIn(await journal.entries())) {
      if (!this.#exchanges.isUnderway(exchange[0].attemptId))
        done.push(await this.#one(exchange, actor, journal));
    }
    return done.map((one) => {
      if (typeof one === "object") throw one.failure;
      return one;
    });
  }

  /** Settles it, or returns what will not pass by waiting: it keeps no other entry waiting. */
  async #one(kept: Kept, actor: Actor, journal: Journal): Promise<Replayed | { readonly failure: unknown }> {
    try {
      return await this.#exchange(kept, actor, journal);
    } catch (failure) {
      if (mayPass(failure) || isReason(failure, "SHUTTING_DOWN")) throw failure;
      const [{ accountId, attemptId }] = kept;
      const about = { account_id: accountId, attempt_id: attemptId };
      this.#world.report("kept answer not settled: it stays in the journal", about, failure);
      return { failure };
    }
  }

  /** Its disk keeps nothing any more. */
  async #forgetMark(instance: string): Promise<void> {
    const at = key("journal_mark", instance);
    const draft = new Draft().remove((await this.#world.store.read([at])).get(at));
    if (draft.isEmpty) return;
    const transaction = draft.done(this.#world.newId(), []);
    await settle(this.#world, transaction, this.#world.clock.boot() + STORE_PATIENCE_MS);
  }

  async #declareLost(kept: ReadonlySet<string>, instance = this.#world.instance): Promise<void> {
    for (let after: string | undefined = ""; after !== undefined; ) {
      const page: Page<"attempt"> = await this.#world.store.scan("attempt", after, PAGE);
      for (const { key, value } of page.entries) {
        const mine = value.instance === instance && !this.#exchanges.isUnderway(value.attemptId);
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

  /** Settles the kept answers of one exchange. Idempotent: incarnation and generation decide. */
  async #exchange(kept: Kept, actor: Actor, journal = this.#world.journal): Promise<Replayed> {
    const [entry] = kept;
    if (entry.connection)
      return (await this.#connections.replay(kept, journal, actor)) ? "settled" : "unmapped";
    const slot = { accountId: entry.accountId, slot: entry.slot };
    const client = clientKeyOf(entry);
    const snapshot = snapshotOf(slot, client, await this.#world.store.read(snapshotReads(slot, client)));
    const { outcome, context } = await this.#read(kept, snapshot, actor);
    if (outcome.kind === "unmapped" && snapshot.slot?.unmapped?.attemptId === entry.attemptId)
      return "unmapped";
    const effect = await this.#settle(snapshot, slot, client, heldBy(entry, entry.attemptId), outcome);
    if (outcome.kind === "unmapped" && effect === "failed") return "unmapped";
    if (effect === "revoke" && outcome.kind === "granted") {
      await this.#world.vendors.revoke({ ...context, credential: outcome.credential });
    }
    await journal.remove(entry.attemptId);
    return "settled";
  }

  /** After its provider's file was mended: reads the kept answer again. */
  async remap(slot: SlotKey, actor: Actor): Promise<Replayed> {
    const entries = await this.#world.journal.entries();
    const kept = entries.filter(
      (one) =>
        one.accountId === slot.accountId &&
        one.slot === slot.slot &&
        !this.#exchanges.isUnderway(one.attemptId),
    );
    if (kept.length === 0) {
      const field = "account_id";
      const text = `${field}: this sidecar's journal keeps no answer for this account`;
      const description = "an account whose kept answer lies on this sidecar's disk";
      throw new KeyturnError("INVALID_REQUEST", text, { violations: [{ field, description }] });
    }
    // An answer that a new credential has superseded lies before the one that counts.
    let replayed: Replayed = "settled";
    for (const exchange of exchangesIn(kept)) replayed = await this.#exchange(exchange, actor);
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
    kept: Kept,
    snapshot: Snapshot,
    actor: Actor,
  ): Promise<{ outcome: Outcome; context: VendorContext }> {
    const { sealer } = this.#world;
    const [entry] = kept;
    const context = await this.#contextFor(entry, snapshot, actor);
    const opened: Buffer[] = [];
    try {
      for (const each of kept) opened.push(await sealer.open(answerContext(each), each.sealed, actor));
      const answers = opened.map(answerFromBytes);
      const read = await this.#whole(kept, snapshot, context, answers, actor);
      const httpStatus = answers.at(-1)?.status;
      if (read.kind === "more")
        return { outcome: { kind: "unmapped", cause: "more_requests", httpStatus }, context };
      if (read.kind !== "granted") return { outcome: { ...read, httpStatus }, context };
      const sealContext = credentialContext(context.account, entry.slot, entry.generation + 1);
      const prepared = await sealer.prepare(sealContext, actor);
      const plain = credentialToBytes(read.credential);
      const sealed = prepared.seal(sealContext, plain);
      plain.fill(0);
      return { outcome: { ...read, sealed, httpStatus }, context };
    } finally {
      for (const bytes of opened) bytes.fill(0);
    }
  }

  /** Goes on where the process died: what the kept answers ask for is sent, and never again what they came from. */
  async #whole(
    kept: Kept,
    snapshot: Snapshot,
    context: VendorContext,
    answers: RawAnswer[],
    actor: Actor,
  ): Promise<Interpretation> {
    const [entry] = kept;
    if (kept.some(({ step = 0 }, index) => step !== index))
      return { kind: "unmapped", cause: "earlier_answer_lost" };
    for (let ended: NoAnswer | undefined; ; ) {
      const [newest, before] = [answers.at(-1), answers.slice(0, -1)];
      if (newest === undefined) return { kind: "unmapped", cause: "no_answer" };
      const read = await this.#interpret(entry, context, newest, before, ended);
      if (read.kind !== "more" || ended !== undefined) return read;
      const result: SendResult = isCurrent(entry, snapshot)
        ? await this.#resume(entry, context, answers, actor)
        : { kind: "not_sent", cause: "superseded" };
      if (result.kind === "answer") answers.push(result.answer);
      else ended = result;
    }
  }

  async #interpret(
    entry: JournalEntry,
    context: VendorContext,
    newest: RawAnswer,
    before: readonly RawAnswer[],
    ended: NoAnswer | undefined,
  ): Promise<Interpretation> {
    try {
      return await this.#world.vendors.interpret(context, newest, before, ended);
    } catch (error) {
      this.#world.report("kept answer not read", { account_id: entry.accountId }, error);
      return { kind: "unmapped", cause: "interpretation_failed" };
    }
  }

  /** Rejects when the KEK or the disk is away: then nothing has been sent, and it is tried again. */
  async #resume(
    entry: JournalEntry,
    context: VendorContext,
    answers: readonly RawAnswer[],
    actor: Actor,
  ): Promise<SendResult> {
    const { sealer, journal, vendors, clock } = this.#world;
    if (context.client?.record.onHold !== undefined) return { kind: "not_sent", cause: "on_hold" };
    const next = { ...entry, step: answers.length };
    const [prepared, room] = await Promise.all([
      sealer.prepare(answerContext(next), actor),
      journal.reserve(),
    ]);
    const ear = openEar(clock);
    try {
      const result = await vendors.exchange(context, () => true, ear.signal, answers);
      if (result.kind !== "answer") return result;
      const plain = answerToBytes(result.answer);
      const sealed = prepared.seal(answerContext(next), plain);
      plain.fill(0);
      await room.keep({ ...next, keptAtMs: clock.now(), sealed });
      return result;
    } catch (error) {
      this.#world.report("exchange not resumed", { account_id: entry.accountId }, error);
      return { kind: "not_sent", cause: "not_resumed" };
    } finally {
      ear.close();
      prepared.discard();
      room.free();
    }
  }

  /** The answer is merged with what it refreshed; when that has moved on or gone, it will not be stored anyway. */
  async #contextFor(entry: JournalEntry, snapshot: Snapshot, actor: Actor): Promise<VendorContext> {
    const found = snapshot.account?.value;
    const account = found?.incarnation === entry.incarnation ? found : undefined;
    const credential: Credential = isNewest(entry, snapshot)
      ? await openCredential(this.#world.sealer, snapshot, actor)
      : { kind: "unminted" };
    const { oauthClient, clientSecrets } = snapshot;
    const client =
      oauthClient && (await openClient(this.#world.sealer, oauthClient.value, clientSecrets?.value, actor));
    return {
      account: account ?? strangerOf(entry),
      slot: entry.slot,
      credential,
      client,
    };
  }
}

type NoAnswer = Exclude<SendResult, { kind: "answer" }>;

/** The kept answers of one exchange, in order. */
type Kept = readonly [JournalEntry, ...JournalEntry[]];

/** Exchanges by their first answers' age. An answer whose predecessors are gone was settled before the process died. */
function exchangesIn(entries: readonly JournalEntry[]): readonly Kept[] {
  const byAttempt = Map.groupBy(entries, (entry) => entry.attemptId);
  return [...byAttempt.values()].flatMap((group) => {
    const [first, ...rest] = group.toSorted((a, b) => (a.step ?? 0) - (b.step ?? 0));
    return first === undefined ? [] : [[first, ...rest] as const];
  });
}

/** What was asked with is still what the account has. */
function isCurrent(entry: JournalEntry, snapshot: Snapshot): boolean {
  return (
    snapshot.account?.value.incarnation === entry.incarnation &&
    snapshot.slot?.generation === entry.generation
  );
}

/** Nothing newer than the answer is stored. Older than it: the store was set back behind what had been committed. */
function isNewest(entry: JournalEntry, snapshot: Snapshot): boolean {
  return (
    snapshot.account?.value.incarnation === entry.incarnation &&
    snapshot.slot !== undefined &&
    snapshot.slot.generation <= entry.generation
  );
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
