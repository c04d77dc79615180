import { KeyturnError } from "../errors.ts";
import { type Account, DEFAULT_SLOT } from "./account.ts";
import { answerToBytes } from "./answer.ts";
import type { Grant } from "./consent.ts";
import { answerContext } from "./contexts.ts";
import type { JournalEntry, JournalSlot } from "./journal.ts";
import { EAR_MS } from "./limits.ts";
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
  readonly answers: readonly RawAnswer[];
}

/** Whose answers room is made for. */
export interface Preparing extends Pick<Redeeming, "attemptId" | "generation"> {
  readonly account: Account;
  /** The first one, from 0, and how many there may be in all. */
  readonly from: number;
  readonly steps: number;
}

/** What an exchange has come to, and the answers that came. */
export interface Redeemed {
  readonly grant: Grant;
  readonly answers: readonly RawAnswer[];
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
    const ear = new AbortController();
    const heard = new AbortController();
    void clock.sleep(EAR_MS, heard.signal).then(
      () => ear.abort(),
      () => undefined,
    );
    const answers = [...redeeming.answers];
    const go = () => answers.length > 0 || (!this.#isStopping() && clock.boot() < sendUntilMs);
    try {
      for (;;) {
        const grant = await this.read({ ...redeeming, answers });
        if (grant.kind !== "more") return { grant, answers };
        const sent = await this.#send(redeeming, answers, go, ear.signal);
        if (sent.kind !== "answer") return { grant: sent, answers };
        await this.#keep(redeeming, sent.answer, answers.length, rooms);
        answers.push(sent.answer);
      }
    } finally {
      heard.abort();
      rooms.discard();
    }
  }

  /** Without an answer, the exchange has still to be sent. */
  async read({ context, code, note, answers }: Redeeming): Promise<Grant> {
    if (answers.length === 0) return { kind: "more" };
    try {
      return await this.#world.consents.grant(context, code, note.scopes, answers);
    } catch (error) {
      this.#world.report("answer not read", { account_id: context.account.id }, error);
      return { kind: "unmapped", cause: "interpretation_failed" };
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
