import { KeyturnError } from "../errors.ts";
import type { Account } from "./account.ts";
import { answerToBytes } from "./answer.ts";
import { breakerOf } from "./breaker.ts";
import { unmade } from "./client-fault.ts";
import type { Held, Outcome } from "./commit.ts";
import { Concluder } from "./concluder.ts";
import { answerContext, credentialContext } from "./contexts.ts";
import { credentialToBytes } from "./credential.ts";
import { openEar } from "./ear.ts";
import type { Flight } from "./flight.ts";
import { inTime } from "./in-time.ts";
import type { JournalSlot } from "./journal.ts";
import type { Known } from "./known.ts";
import { DISK_PATIENCE_MS } from "./limits.ts";
import { carriesClient } from "./opening.ts";
import { revertFlag } from "./revert.ts";
import type { PreparedSeal } from "./sealing.ts";
import type { Snapshot, Standing } from "./snapshot.ts";
import type { RawAnswer, SendResult, VendorContext } from "./vendor.ts";
import { OWN_WORK, type World } from "./world.ts";

/** Everything an exchange will need of the KEK and the disk, had before anything is sent. */
export interface Ready {
  readonly attemptId: string;
  readonly generation: number;
  readonly account: Account;
  /** One for each answer that the exchange may have, in order. */
  readonly forAnswers: readonly AnswerRoom[];
  readonly forCredential: PreparedSeal;
  /** Wipes the data keys and gives the journal's room back, as far as they have not been used. */
  discard(): void;
}

/** Of the versions that its data keys are wrapped under. */
export function oldestKekVersion({ forAnswers, forCredential }: Ready): number {
  return Math.min(forCredential.kekVersion, ...forAnswers.map(({ seal }) => seal.kekVersion));
}

type NoAnswer = Exclude<SendResult, { kind: "answer" }>;

/** What keeping one answer takes. */
interface AnswerRoom {
  readonly seal: PreparedSeal;
  readonly slot: JournalSlot;
}

export interface Underway {
  readonly flight: Flight;
  readonly context: VendorContext;
  readonly held: Held;
  readonly ready: Ready;
  /** The records as they stood when the attempt was written. */
  readonly snapshot: Snapshot;
  /** Boot clock: no first byte leaves after it. */
  readonly sendUntilMs: number;
  readonly lockUntilMs: number;
}

/** From the first byte to the commit: send, keep, read, write down. Nobody can abort it. */
export class Exchanges {
  readonly #world: World;
  readonly #known: Known;
  readonly #concluder: Concluder;
  readonly #underway = new Set<string>();
  readonly #running = new Set<Promise<unknown>>();
  readonly #reverting = new Set<string>();
  /** Answers that the disk has not taken in time, and may take yet, by attempt. */
  readonly #late = new Map<string, Promise<unknown>>();
  readonly #stopping = new AbortController();
  readonly #gone = new AbortController();

  constructor(world: World, known: Known) {
    this.#world = world;
    this.#known = known;
    this.#concluder = new Concluder(world, known);
  }

  get isStopping(): boolean {
    return this.#stopping.signal.aborted;
  }

  /** Aborts, with SHUTTING_DOWN, when nothing more is to be sent. */
  get stopping(): AbortSignal {
    return this.#stopping.signal;
  }

  get concluder(): Concluder {
    return this.#concluder;
  }

  /** Aborts when what is not saved by then is left to the next start. */
  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  /** True while this process may still hear, or has not yet written down, what became of an attempt. */
  isUnderway(attemptId: string): boolean {
    return this.#underway.has(attemptId);
  }

  /** The data keys, wrapped, and room on the disk. KEK down or disk full: it throws, and no exchange starts. */
  async prepare(snapshot: Snapshot, account: Account, attemptId: string): Promise<Ready> {
    const { sealer, journal } = this.#world;
    const generation = snapshot.slot?.generation ?? 0;
    const slot = snapshot.key.slot;
    const identity = {
      accountId: account.id,
      tenant: account.tenant,
      incarnation: account.incarnation,
      slot,
      generation,
      attemptId,
    };
    const steps = this.#world.vendors.rules(account.provider, slot)?.steps ?? 1;
    const rooms = Array.from({ length: steps }, (_, step) => ({
      seal: sealer.prepare(answerContext({ ...identity, step }), OWN_WORK),
      slot: journal.reserve(),
    }));
    const credential = sealer.prepare(credentialContext(account, slot, generation + 1), OWN_WORK);
    const had: (() => void)[] = [];
    const discard = () => {
      for (const give of had.splice(0)) give();
    };
    const parts = [
      ...[...rooms.map((room) => room.seal), credential].map((part) =>
        part.then((seal) => had.push(() => seal.discard())),
      ),
      ...rooms.map((room) => room.slot.then((taken) => had.push(() => taken.free()))),
    ];
    const failed = (await Promise.allSettled(parts)).find((part) => part.status === "rejected");
    if (failed !== undefined) {
      discard();
      throw failed.reason;
    }
    const forAnswers = await Promise.all(
      rooms.map(async (room) => ({ seal: await room.seal, slot: await room.slot })),
    );
    return { attemptId, generation, account, forAnswers, forCredential: await credential, discard };
  }

  /** Resolves when the outcome is written down; rejects only with what stopped the request from being made. */
  run(underway: Underway): Promise<void> {
    return this.track(underway.held.attemptId, () => this.#run(underway));
  }

  async #run(underway: Underway): Promise<void> {
    const { held, ready, snapshot } = underway;
    const ear = openEar(this.#world.clock);
    const answers: RawAnswer[] = [];
    let fault: KeyturnError | undefined;
    let outcome: Outcome;
    try {
      outcome = await this.#exchange(underway, answers, ear.signal);
    } catch (error) {
      if (!(error instanceof KeyturnError)) throw error;
      fault = error;
      outcome = { ...unmade(error), httpStatus: undefined };
    } finally {
      ear.close();
      // What has been used is no longer among it.
      ready.discard();
    }
    await this.#conclude(underway, snapshot, held, outcome, answers.length > 0);
    if (fault !== undefined) throw fault;
  }

  /** All requests of one exchange; each answer is on the disk before the next request goes out. */
  async #exchange(underway: Underway, answers: RawAnswer[], ear: AbortSignal): Promise<Outcome> {
    const { context, ready, sendUntilMs } = underway;
    const { clock } = this.#world;
    const first = await this.#send(underway, [], ear, () => !this.isStopping && clock.boot() < sendUntilMs);
    if (first.kind === "unknown") return { ...first, httpStatus: undefined };
    if (first.kind === "not_sent") return this.#notSent(underway, first.cause);
    let newest = first.answer;
    for (let sent: SendResult = first; ; ) {
      if (sent.kind !== "answer") return this.#ended(context, newest, answers.slice(0, -1), ready, sent);
      newest = sent.answer;
      answers.push(newest);
      const isKept = await this.#keep(underway, newest, answers.length - 1);
      const read = await this.#read(context, newest, answers.slice(0, -1), ready);
      if (read !== "more") return read;
      // What the first request has spent goes on from the disk after a crash, so it has to be there.
      sent = isKept
        ? await this.#sendNext(underway, answers, ear)
        : { kind: "not_sent", cause: "answer_not_kept" };
    }
  }

  /** A later request: nothing that stops it may cost what the earlier ones have got. */
  async #sendNext(underway: Underway, answers: readonly RawAnswer[], ear: AbortSignal): Promise<SendResult> {
    try {
      return await this.#send(underway, answers, ear, () => !ear.aborted);
    } catch (error) {
      if (!(error instanceof KeyturnError)) throw error;
      const about = { account_id: underway.context.account.id, attempt_id: underway.held.attemptId };
      this.#world.report("next request not made", about, error);
      return { kind: "not_sent", cause: error.reason.toLowerCase() };
    }
  }

  async #send(
    { context, held }: Underway,
    before: readonly RawAnswer[],
    ear: AbortSignal,
    go: () => boolean,
  ): Promise<SendResult> {
    try {
      return await this.#world.vendors.exchange(context, go, ear, before);
    } catch (error) {
      if (error instanceof KeyturnError) throw error;
      // A fault of ours: bytes may have left, so it counts as if they had.
      this.#world.report(
        "exchange failed",
        { account_id: context.account.id, attempt_id: held.attemptId },
        error,
      );
      return { kind: "unknown", cause: "internal_error" };
    }
  }

  #notSent({ sendUntilMs }: Underway, cause: string): Outcome {
    const ours = this.isStopping || this.#world.clock.boot() >= sendUntilMs;
    return ours ? { kind: "withdrawn", cause } : { kind: "not_sent", cause };
  }

  /** The raw answer, on the disk for good, before anything looks into it. */
  async #keep({ held, ready, snapshot }: Underway, answer: RawAnswer, step: number): Promise<boolean> {
    const { id: accountId, tenant, provider, client, incarnation } = ready.account;
    const slot = snapshot.key.slot;
    const identity = {
      accountId,
      tenant,
      incarnation,
      slot,
      generation: held.generation,
      attemptId: held.attemptId,
      step,
    };
    const plain = answerToBytes(answer);
    const room = ready.forAnswers[step];
    try {
      if (room === undefined) throw new RangeError("the provider's file has grown by a request meanwhile");
      const sealed = room.seal.seal(answerContext(identity), plain);
      const { instance, clock } = this.#world;
      const keptAtMs = clock.now();
      const keeping = room.slot.keep({ ...identity, provider, client, instance, keptAtMs, sealed });
      if (await this.#inTime(keeping)) return true;
      this.#late.set(held.attemptId, keeping);
      throw new KeyturnError("STATE_DISK_FULL", "The disk has not taken the answer in time.", {
        metadata: { cause: "disk_stalled" },
      });
    } catch (error) {
      // The answer is still in memory and goes on to the store; only a crash before that would lose it.
      this.#world.report("answer not kept", { account_id: accountId, attempt_id: held.attemptId }, error);
      return false;
    } finally {
      plain.fill(0);
    }
  }

  /** The later request came to nothing; what the answers so far have got is saved. */
  async #ended(
    context: VendorContext,
    newest: RawAnswer,
    before: readonly RawAnswer[],
    ready: Ready,
    ended: NoAnswer,
  ): Promise<Outcome> {
    const read = await this.#read(context, newest, before, ready, ended);
    return read === "more" ? { kind: "unmapped", cause: "more_requests", httpStatus: newest.status } : read;
  }

  async #read(
    context: VendorContext,
    newest: RawAnswer,
    before: readonly RawAnswer[],
    ready: Ready,
    ended?: NoAnswer,
  ): Promise<Outcome | "more"> {
    const httpStatus = newest.status;
    try {
      const read = await this.#world.vendors.interpret(context, newest, before, ended);
      if (read.kind === "more") return "more";
      if (read.kind !== "granted") return { ...read, httpStatus };
      const plain = credentialToBytes(read.credential);
      try {
        const sealed = ready.forCredential.seal(
          credentialContext(ready.account, context.slot, ready.generation + 1),
          plain,
        );
        return { ...read, sealed, httpStatus };
      } finally {
        plain.fill(0);
      }
    } catch (error) {
      this.#world.report("answer not read", { account_id: context.account.id }, error);
      return { kind: "unmapped", cause: "interpretation_failed", httpStatus };
    }
  }

  async #conclude(
    underway: Underway,
    start: Snapshot,
    held: Held,
    outcome: Outcome,
    kept: boolean,
  ): Promise<void> {
    const { context, flight } = underway;
    // Callers are answered with the kept token while the store cannot take it.
    const onStoreAway = (account: Account | undefined) => {
      if (outcome.kind !== "granted" || outcome.unfinished !== undefined || account === undefined) return;
      this.#known.foresee(account);
      this.#remember({ ...context, account, credential: outcome.credential }, held);
      flight.end(undefined);
    };
    const { effect, standing } = await this.#concluder.conclude(
      start,
      start,
      held,
      outcome,
      this.gone,
      onStoreAway,
    );
    const isWhole = outcome.kind === "granted" && outcome.unfinished === undefined;
    if (effect === "granted" && isWhole && standing.account !== undefined) {
      this.#remember({ ...context, account: standing.account.value, credential: outcome.credential }, held);
    }
    if (effect === "revoke" && outcome.kind === "granted") {
      const live = await this.#world.vendors.revoke({ ...context, credential: outcome.credential });
      if (live !== "revoked")
        this.#world.report("token of a deleted account not revoked", {
          account_id: context.account.id,
          why: live,
        });
    }
    if (kept && outcome.kind !== "unmapped") await this.#giveUp(held.attemptId);
    this.revertFlags(standing);
  }

  /** What is written down in the store needs no place on the disk any more. */
  async #giveUp(attemptId: string): Promise<void> {
    const late = this.#late.get(attemptId);
    this.#late.delete(attemptId);
    const removing = (late ?? Promise.resolve())
      .catch(() => undefined)
      .then(() => this.#world.journal.remove(attemptId));
    // One that stays is settled by the next start, which finds it superseded.
    const failed = (error: unknown) =>
      this.#world.report("kept answer not removed", { attempt_id: attemptId }, error);
    await this.#inTime(removing.catch(failed));
  }

  /** False when the disk takes longer than anybody should wait for it. Rejects as `work` does. */
  #inTime(work: Promise<unknown>): Promise<boolean> {
    return inTime(this.#world.clock, DISK_PATIENCE_MS, work);
  }

  /** So that the first call after a refresh is a warm one. */
  #remember(context: VendorContext, held: Held): void {
    const { account, slot } = context;
    const state = account.slots[slot];
    // A commit that had landed long before it was heard of shows the records of today.
    if (account.incarnation !== held.incarnation || state?.generation !== held.generation + 1) return;
    try {
      const client = carriesClient(this.#world.vendors, account, slot) ? context.client : undefined;
      const sealed = this.#world.vault.seal(this.#world.render({ ...context, client }));
      this.#known.setAnswer(
        { accountId: account.id, slot },
        {
          incarnation: account.incarnation,
          generation: state.generation,
          material: client?.record.materialGeneration,
        },
        sealed,
      );
    } catch (error) {
      this.#world.report("answer not rendered", { account_id: account.id }, error);
    }
  }

  /** Writes down, in the background, that an attempt ended without an answer. */
  declare(
    snapshot: Snapshot,
    held: Held,
    outcome: Extract<Outcome, { kind: "withdrawn" | "unknown" }>,
  ): void {
    const work = () =>
      this.#concluder.conclude(undefined, snapshot, held, outcome, this.gone, () => undefined);
    void this.track(held.attemptId, work).catch((error: unknown) =>
      this.#world.report("attempt left open", { attempt_id: held.attemptId }, error),
    );
  }

  /** After an outage that only looked like refusals: the accounts it had flagged are taken back. */
  revertFlags(snapshot: Standing): void {
    for (const mark of breakerOf(snapshot).reverting) {
      const name = `${mark.accountId}/${mark.slot}`;
      if (this.#reverting.has(name)) continue;
      this.#reverting.add(name);
      const work = revertFlag(this.#world, snapshot.client, mark)
        .catch((error: unknown) =>
          this.#world.report("flag not reverted", { account_id: mark.accountId }, error),
        )
        .finally(() => this.#reverting.delete(name));
      this.watch(work);
    }
  }

  /** `work` settles what became of an attempt; stopping waits for it. */
  async track<T>(attemptId: string, work: () => Promise<T>): Promise<T> {
    this.#underway.add(attemptId);
    const running = work().finally(() => this.#underway.delete(attemptId));
    this.watch(running);
    return running;
  }

  /** Stopping waits for it: an attempt being written is an exchange that may begin. */
  watch(work: Promise<unknown>): void {
    const settled = work.then(
      () => undefined,
      () => undefined,
    );
    this.#running.add(settled);
    void settled.then(() => this.#running.delete(settled));
  }

  /** From now on nothing is sent. */
  refuseNew(): void {
    this.#stopping.abort(shuttingDown());
  }

  async #settled(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
  }

  /** Resolves when everything on its way is written down, or after `limitMs`; returns the attempts left open. */
  async stop(limitMs: number): Promise<readonly string[]> {
    this.#stopping.abort(shuttingDown());
    const timer = new AbortController();
    void this.#settled().then(() => timer.abort());
    await this.#world.clock.sleep(limitMs, timer.signal).catch(() => undefined);
    const left = [...this.#underway];
    this.#gone.abort(shuttingDown());
    return left;
  }
}

/** Nothing is sent any more; another sidecar, or the next one here, goes on. */
export function shuttingDown(): KeyturnError {
  return new KeyturnError("SHUTTING_DOWN", "This sidecar is shutting down.", { retryAfterMs: 1_000 });
}
