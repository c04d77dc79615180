import { KeyturnError } from "../errors.ts";
import type { Account } from "./account.ts";
import { answerToBytes } from "./answer.ts";
import { breakerOf } from "./breaker.ts";
import type { Held, Outcome } from "./commit.ts";
import { Concluder } from "./concluder.ts";
import { answerContext, credentialContext } from "./contexts.ts";
import { credentialToBytes } from "./credential.ts";
import type { Flight } from "./flight.ts";
import type { JournalSlot } from "./journal.ts";
import type { Known } from "./known.ts";
import { EAR_MS } from "./limits.ts";
import { revertFlag } from "./revert.ts";
import type { PreparedSeal } from "./sealing.ts";
import type { Snapshot } from "./snapshot.ts";
import type { RawAnswer, SendResult, VendorContext } from "./vendor.ts";
import { OWN_WORK, type World } from "./world.ts";

/** Everything an exchange will need of the KEK and the disk, had before anything is sent. */
export interface Ready {
  readonly attemptId: string;
  readonly generation: number;
  readonly account: Account;
  readonly forAnswer: PreparedSeal;
  readonly forCredential: PreparedSeal;
  readonly journalSlot: JournalSlot;
  /** Wipes the data keys and gives the journal's room back, as far as they have not been used. */
  discard(): void;
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
  readonly #gone = new AbortController();
  #stopping = false;

  constructor(world: World, known: Known) {
    this.#world = world;
    this.#known = known;
    this.#concluder = new Concluder(world, known);
  }

  get isStopping(): boolean {
    return this.#stopping;
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
    const [answer, credential, room] = await Promise.allSettled([
      sealer.prepare(answerContext(identity), OWN_WORK),
      sealer.prepare(credentialContext(account, slot, generation + 1), OWN_WORK),
      journal.reserve(),
    ]);
    if (answer.status === "fulfilled" && credential.status === "fulfilled" && room.status === "fulfilled") {
      let discarded = false;
      const discard = () => {
        if (discarded) return;
        discarded = true;
        answer.value.discard();
        credential.value.discard();
        room.value.free();
      };
      return {
        attemptId,
        generation,
        account,
        forAnswer: answer.value,
        forCredential: credential.value,
        journalSlot: room.value,
        discard,
      };
    }
    if (answer.status === "fulfilled") answer.value.discard();
    if (credential.status === "fulfilled") credential.value.discard();
    if (room.status === "fulfilled") room.value.free();
    throw [answer, credential, room].find((part) => part.status === "rejected")?.reason;
  }

  /** Resolves when the outcome is written down; rejects only with what stopped the request from being made. */
  run(underway: Underway): Promise<void> {
    return this.#track(underway.held.attemptId, () => this.#run(underway));
  }

  async #run(underway: Underway): Promise<void> {
    const { context, held, ready, snapshot } = underway;
    let fault: KeyturnError | undefined;
    let outcome: Outcome;
    let kept = false;
    try {
      const result = await this.#send(underway);
      if (result.kind === "answer") {
        kept = await this.#keep(underway, result.answer);
        outcome = await this.#read(context, result.answer, ready);
      } else {
        outcome =
          result.kind === "unknown"
            ? { ...result, httpStatus: undefined }
            : this.#notSent(underway, result.cause);
      }
    } catch (error) {
      if (!(error instanceof KeyturnError)) throw error;
      fault = error;
      outcome = {
        kind: "refused",
        class: "fix_configuration",
        code: error.reason,
        message: error.message,
        rule: "request",
        retryAfterMs: undefined,
        rateLimit: undefined,
        clientFault: false,
        httpStatus: undefined,
      };
    } finally {
      if (!kept) ready.discard();
    }
    ready.forCredential.discard();
    await this.#conclude(underway, snapshot, held, outcome, kept);
    if (fault !== undefined) throw fault;
  }

  async #send({ context, held, sendUntilMs }: Underway): Promise<SendResult> {
    const ear = new AbortController();
    const heard = new AbortController();
    const { clock, vendors } = this.#world;
    const go = () => !this.#stopping && clock.boot() < sendUntilMs;
    void clock.sleep(EAR_MS, heard.signal).then(
      () => ear.abort(),
      () => undefined,
    );
    try {
      return await vendors.exchange(context, go, ear.signal);
    } catch (error) {
      if (error instanceof KeyturnError) throw error;
      // A fault of ours: bytes may have left, so it counts as if they had.
      this.#world.report(
        "exchange failed",
        { account_id: context.account.id, attempt_id: held.attemptId },
        error,
      );
      return { kind: "unknown", cause: "internal_error" };
    } finally {
      heard.abort();
    }
  }

  #notSent({ sendUntilMs }: Underway, cause: string): Outcome {
    const ours = this.#stopping || this.#world.clock.boot() >= sendUntilMs;
    return ours ? { kind: "withdrawn", cause } : { kind: "not_sent", cause };
  }

  /** The raw answer, on the disk for good, before anything looks into it. */
  async #keep({ held, ready, snapshot }: Underway, answer: RawAnswer): Promise<boolean> {
    const { id: accountId, tenant, provider, client, incarnation } = ready.account;
    const slot = snapshot.key.slot;
    const identity = {
      accountId,
      tenant,
      incarnation,
      slot,
      generation: held.generation,
      attemptId: held.attemptId,
    };
    const plain = answerToBytes(answer);
    try {
      const sealed = ready.forAnswer.seal(answerContext(identity), plain);
      const { instance, clock } = this.#world;
      await ready.journalSlot.keep({
        ...identity,
        provider,
        client,
        instance,
        keptAtMs: clock.now(),
        sealed,
      });
      return true;
    } catch (error) {
      // The answer is still in memory and goes on to the store; only a crash before that would lose it.
      this.#world.report("answer not kept", { account_id: accountId, attempt_id: held.attemptId }, error);
      return false;
    } finally {
      plain.fill(0);
    }
  }

  async #read(context: VendorContext, answer: RawAnswer, ready: Ready): Promise<Outcome> {
    const httpStatus = answer.status;
    try {
      const read = await this.#world.vendors.interpret(context, answer);
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
      if (outcome.kind !== "granted" || account === undefined) return;
      this.#known.foresee(account);
      this.#remember(account, context.slot, held, outcome);
      flight.end(undefined);
    };
    const { effect, snapshot } = await this.#concluder.conclude(
      start,
      start,
      held,
      outcome,
      this.gone,
      onStoreAway,
    );
    if (effect === "granted" && outcome.kind === "granted" && snapshot.account !== undefined) {
      this.#remember(snapshot.account.value, context.slot, held, outcome);
    }
    if (effect === "revoke" && outcome.kind === "granted") {
      const live = await this.#world.vendors.revoke({ ...context, credential: outcome.credential });
      if (live !== "revoked")
        this.#world.report("token of a deleted account not revoked", {
          account_id: context.account.id,
          why: live,
        });
    }
    if (kept && outcome.kind !== "unmapped") await this.#world.journal.remove(held.attemptId);
    this.revertFlags(snapshot);
  }

  /** So that the first call after a refresh is a warm one. */
  #remember(
    account: Account,
    slot: string,
    held: Held,
    outcome: Extract<Outcome, { kind: "granted" }>,
  ): void {
    const state = account.slots[slot];
    // A commit that had landed long before it was heard of shows the records of today.
    if (account.incarnation !== held.incarnation || state?.generation !== held.generation + 1) return;
    try {
      const sealed = this.#world.vault.seal(this.#world.render(account, slot, outcome.credential));
      this.#known.setAnswer({ accountId: account.id, slot }, account.incarnation, state.generation, sealed);
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
    void this.#track(held.attemptId, work).catch((error: unknown) =>
      this.#world.report("attempt left open", { attempt_id: held.attemptId }, error),
    );
  }

  /** After an outage that only looked like refusals: the accounts it had flagged are taken back. */
  revertFlags(snapshot: Snapshot): void {
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

  async #track<T>(attemptId: string, work: () => Promise<T>): Promise<T> {
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
    this.#stopping = true;
  }

  async #settled(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
  }

  /** Resolves when everything on its way is written down, or after `limitMs`; returns the attempts left open. */
  async stop(limitMs: number): Promise<readonly string[]> {
    this.#stopping = true;
    const timer = new AbortController();
    void this.#settled().then(() => timer.abort());
    await this.#world.clock.sleep(limitMs, timer.signal).catch(() => undefined);
    const left = [...this.#underway];
    this.#gone.abort(new KeyturnError("SHUTTING_DOWN", "This sidecar is shutting down."));
    return left;
  }
}
