import { KeyturnError } from "../errors.ts";
import { type Account, DEFAULT_SLOT } from "./account.ts";
import { answerToBytes } from "./answer.ts";
import type { Grant } from "./consent.ts";
import { answerContext } from "./contexts.ts";
import { openEar } from "./ear.ts";
import type { JournalEntry, JournalSlot } from "./journal.ts";
import type { PreparedSeal } from "./sealing.ts";
import type { CodeGrant, RawAnswer, SendResult, VendorContext } from "./vendor.ts";
import { OWN_WORK, type World } from "./world.ts";

/** What a code's exchange needs besides the answers, kept with each of them so that a crash in between loses nothing. */
export interface Note {
  readonly redirectUri: string;
  /** Asked for. */
  readonly scopes: readonly string[];
  /** Given at the start, and brought by the redirect. */
  readonly fields: Readonly<Record<string, string>>;
  readonly allowIdentityChange: boolean;
}

/** One exchange of a code: whose, and what has come of it so far. */
export interface Redeeming {
  readonly attemptId: string;
  /** Of the account's first token when the code was redeemed. */
  readonly generation: number;
  readonly context: VendorContext;
  readonly code: CodeGrant;
  readonly note: Note;
  /** The good ones, in order; those of an earlier life that failed may be among them. */
  readonly answers: readonly RawAnswer[];
  /** How many answers have been kept, those that failed included. */
  readonly kept: number;
  /** It has outlived whoever waited for it. */
  readonly isResumed: boolean;
}

/** Whose answers room is made for. */
export interface Preparing extends Pick<Redeeming, "attemptId" | "generation"> {
  readonly account: Account;
  /** The first one, from 0, and how many there may be in all. */
  readonly from: number;
  readonly steps: number;
}

/** What an exchange has come to, and the answers that lead there. */
export interface Redeemed extends Pick<Redeeming, "answers" | "kept"> {
  readonly grant: Grant;
}

/** Room for one answer: the data key wrapped, the place on the disk taken. */
interface AnswerRoom {
  readonly seal: PreparedSeal;
  readonly slot: JournalSlot;
}

/** The exchange of a code: like a refresh it is sent once, and each answer is on the disk before anything looks into it. */
export class Redemption {
  readonly #world: World;
  readonly #isStopping: () => boolean;

  constructor(world: World, isStopping: () => boolean) {
    this.#world = world;
    this.#isStopping = isStopping;
  }

  /** All that the answers will need of the KEK and the disk, as far as it is not had already; before a code is spent. */
  async prepare(rooms: Rooms, { account, attemptId, generation, from, steps }: Preparing): Promise<void> {
    for (let step = from + rooms.size; step < steps; step += 1) {
      const identity = identityOf(account, attemptId, generation, step);
      const seal = await this.#world.sealer.prepare(answerContext(identity), OWN_WORK);
      try {
        rooms.add({ seal, slot: await this.#world.journal.reserve() });
      } catch (error) {
        seal.discard();
        throw error;
      }
    }
  }

  /**
   * Sends what is still to be sent and reads it. The first byte leaves only while nobody is stopping, and not after
   * `sendUntilMs` of the boot clock. Rejects with the error of a first request that cannot be made.
   */
  async run(redeeming: Redeeming, rooms: Rooms, sendUntilMs: number): Promise<Redeemed> {
    const { clock } = this.#world;
    const ear = openEar(clock);
    try {
      let at = await this.read(redeeming);
      const go = () => at.answers.length > 0 || (!this.#isStopping() && clock.boot() < sendUntilMs);
      while (at.grant.kind === "more") {
        const sent = await this.#send(redeeming, at.answers, go, ear.signal);
        if (sent.kind !== "answer") return { ...at, grant: sent };
        await this.#keep(redeeming, sent.answer, at.kept, rooms);
        at = await this.#with(redeeming, { ...at, kept: at.kept + 1 }, sent.answer);
        // One that failed does not count: what was good before it is gone on from.
        if (isFailure(at.grant)) break;
      }
      return at;
    } finally {
      ear.close();
      rooms.discard();
    }
  }

  /** What the answers there are come to; `more`: there is something to be sent. */
  async read(redeeming: Redeeming): Promise<Redeemed> {
    const { kept } = redeeming;
    let at: Redeemed = { grant: { kind: "more" }, answers: [], kept };
    for (const answer of redeeming.answers) {
      const next = await this.#with(redeeming, at, answer);
      if (isFailure(next.grant) && at.answers.length > 0) continue;
      at = next;
      if (at.grant.kind !== "more") return at;
    }
    return at;
  }

  async #with(redeeming: Redeeming, { answers, kept }: Redeemed, answer: RawAnswer): Promise<Redeemed> {
    const { context, code, note } = redeeming;
    const all = [...answers, answer];
    try {
      const grant = await this.#world.consents.grant(context, code, note.scopes, all);
      return { grant, answers: isFailure(grant) ? answers : all, kept };
    } catch (error) {
      this.#world.report("answer not read", { account_id: context.account.id }, error);
      return { grant: { kind: "unmapped", cause: "interpretation_failed" }, answers: all, kept };
    }
  }

  async #send(
    { attemptId, context, code }: Redeeming,
    answers: readonly RawAnswer[],
    go: () => boolean,
    ear: AbortSignal,
  ): Promise<SendResult> {
    try {
      return await this.#world.consents.redeem(context, code, go, ear, answers);
    } catch (error) {
      if (error instanceof KeyturnError && answers.length === 0) throw error;
      const about = { account_id: context.account.id, attempt_id: attemptId };
      this.#world.report("code's request failed", about, error);
      // A fault of ours: bytes may have left, so it counts as if they had.
      if (!(error instanceof KeyturnError)) return { kind: "unknown", cause: "internal_error" };
      return { kind: "not_sent", cause: error.reason.toLowerCase() };
    }
  }

  async #keep(redeeming: Redeeming, answer: RawAnswer, step: number, rooms: Rooms): Promise<void> {
    const { attemptId, generation, context, note } = redeeming;
    const { account } = context;
    const room = rooms.take();
    const identity = identityOf(account, attemptId, generation, step);
    const plain = answerToBytes({ ...answer, note });
    try {
      if (room === undefined) throw new Error("more answers than the file says");
      const sealed = room.seal.seal(answerContext(identity), plain);
      const { instance, clock } = this.#world;
      const { provider, client } = account;
      const about = { ...identity, provider, client, instance, keptAtMs: clock.now(), connection: true };
      const entry: JournalEntry = { ...about, connection: true, sealed };
      await room.slot.keep(entry);
    } catch (error) {
      // The answer is still in memory and goes on to the store; only a crash before that would lose it.
      this.#world.report("answer not kept", { account_id: account.id, attempt_id: attemptId }, error);
      room?.slot.free();
    } finally {
      plain.fill(0);
    }
  }
}

/** The newest answer is of no use. */
function isFailure(grant: Grant): boolean {
  return grant.kind === "refused" || grant.kind === "unknown" || grant.kind === "not_sent";
}

/** Rooms that have not been used yet. */
export class Rooms {
  readonly #free: AnswerRoom[] = [];

  get size(): number {
    return this.#free.length;
  }

  add(room: AnswerRoom): void {
    this.#free.push(room);
  }

  take(): AnswerRoom | undefined {
    return this.#free.shift();
  }

  /** Wipes the data keys and gives the journal's room back. */
  discard(): void {
    for (const { seal, slot } of this.#free.splice(0)) {
      seal.discard();
      slot.free();
    }
  }
}

function identityOf(account: Account, attemptId: string, generation: number, step: number) {
  const { id: accountId, tenant, incarnation } = account;
  return { accountId, tenant, incarnation, slot: DEFAULT_SLOT, generation, attemptId, step };
}
