import { isReason, KeyturnError } from "../errors.ts";
import type { Account, SlotKey } from "./account.ts";
import { afterAttempt, attemptDraft, attemptReads } from "./attempt.ts";
import { breakerOf, isProbing } from "./breaker.ts";
import type { Caps, Room } from "./caps.ts";
import type { Held } from "./commit.ts";
import { type Decision, type Doubt, decide } from "./decide.ts";
import { Draft } from "./draft.ts";
import { type Exchanges, oldestKekVersion, type Ready, shuttingDown, type Underway } from "./exchanges.ts";
import { Flight } from "./flight.ts";
import type { Gates } from "./gate.ts";
import { removeGivenUp } from "./given-up-lock.ts";
import type { Known } from "./known.ts";
import { LOCK_MS, LOCK_TTL_MS, SEND_WITHIN_MS, STORE_PATIENCE_MS } from "./limits.ts";
import { openContext } from "./opening.ts";
import { key } from "./records.ts";
import { isAmbiguous, settle } from "./settle.ts";
import {
  type ClientKey,
  capsReads,
  clientKeyOf,
  clientKeyText,
  clientStateOf,
  type Snapshot,
  snapshotOf,
  snapshotReads,
} from "./snapshot.ts";
import type { Entry, Read, TransactionResult } from "./store.ts";
import type { Ask } from "./token.ts";
import type { VendorContext } from "./vendor.ts";
import { OWN_WORK, type World } from "./world.ts";

const POLL_MS = 500;

/** A lock that this flight holds, and until when by this process's own clock. */
interface HeldLock {
  readonly lockId: string;
  readonly untilBootMs: number;
}

type Step =
  | { readonly kind: "done" }
  | { readonly kind: "refused"; readonly error: KeyturnError }
  /** `afterMs`: only this flight has to wait; others may go first. */
  | { readonly kind: "again"; readonly afterMs?: number }
  /** The exchange has begun: its own bookkeeping ends the flight. */
  | { readonly kind: "sent"; readonly finished: Promise<void> };

/** The refresh algorithm: lock and read, prepare, attempt, exchange. What follows the answer is `Exchanges`. */
export class Refresher {
  readonly #world: World;
  readonly #known: Known;
  readonly #gates: Gates;
  readonly #exchanges: Exchanges;
  readonly #caps: Caps;
  readonly #flights = new Map<string, Flight>();
  /** Locks of this process that are not void yet. */
  readonly #ownLocks = new Set<string>();
  /** When this process first saw somebody else's lock, by lock id: no two clocks are compared. */
  readonly #seenAtBootMs = new Map<string, number>();

  constructor(world: World, known: Known, gates: Gates, caps: Caps, exchanges: Exchanges) {
    this.#world = world;
    this.#known = known;
    this.#gates = gates;
    this.#caps = caps;
    this.#exchanges = exchanges;
  }

  /** The one flight for a slot: joined when there is one. No caller's deadline reaches in here. */
  refresh(ask: Ask, client: ClientKey): Flight {
    const name = slotText(ask.key);
    const underway = this.#flights.get(name);
    if (underway !== undefined) return underway.join(ask);
    const flight = new Flight(ask);
    this.#flights.set(name, flight);
    void flight.ended.then(() => {
      if (this.#flights.get(name) === flight) this.#flights.delete(name);
    });
    void this.#fly(flight, client);
    return flight;
  }

  /** How many refreshes are on their way in this process. */
  get inFlight(): number {
    return this.#flights.size;
  }

  async #fly(flight: Flight, client: ClientKey): Promise<void> {
    const line = () => this.#gates.queue(client, this.#caps.local(client), flight.priority);
    let ticket = line();
    const raised = new AbortController();
    flight.onRaise(() => {
      raised.abort("raised");
      ticket.raise();
    });
    try {
      for (;;) {
        await ticket.entered;
        if (this.#exchanges.isStopping) throw shuttingDown();
        const step = await this.#once(flight, client);
        if (step.kind === "again" && !flight.isEnded) {
          // Back into the queue: whoever has callers waiting goes first.
          flight.queued = true;
          ticket.leave();
          if (step.afterMs !== undefined)
            await this.#world.clock.sleep(step.afterMs, raised.signal).catch(() => undefined);
          ticket = line();
          continue;
        }
        if (step.kind === "sent") await step.finished;
        flight.end(step.kind === "refused" ? step.error : undefined);
        return;
      }
    } catch (error) {
      flight.end(error instanceof Error ? error : new Error(String(error)));
    } finally {
      ticket.leave();
    }
  }

  async #once(flight: Flight, client: ClientKey): Promise<Step> {
    flight.queued = false;
    const locked = await this.#lockAndRead(flight, client);
    if (!("lock" in locked)) return locked;
    const { lock, snapshot } = locked;
    void this.#freeWaiters(flight, lock);
    try {
      const step = await this.#underLock(flight, lock, snapshot);
      if (step.kind !== "sent") await this.#unlock(lock, snapshot);
      return step;
    } catch (error) {
      await this.#unlock(lock, snapshot);
      throw error;
    }
  }

  /** One transaction: takes the lock if it is free, and reads everything the refresh depends on. */
  async #lockAndRead(
    flight: Flight,
    client: ClientKey,
  ): Promise<Step | { readonly lock: HeldLock; readonly snapshot: Snapshot }> {
    let takeOver: Snapshot["lock"];
    for (let round = 0; ; round += 1) {
      const { clock } = this.#world;
      const lock = { lockId: this.#world.newId(), untilBootMs: clock.boot() + LOCK_MS };
      const at = key("lock", flight.key.accountId, flight.key.slot);
      const value = {
        lockId: lock.lockId,
        instance: this.#world.instance,
        notAfterMs: clock.now() + LOCK_MS,
      };
      const draft = new Draft().expect(at, takeOver).put(at, value, LOCK_TTL_MS);
      this.#ownLocks.add(lock.lockId);
      const reads = [...snapshotReads(flight.key, client), ...capsReads(client)];
      const result = await this.#send(draft, reads).catch((error: unknown) => {
        this.#ownLocks.delete(lock.lockId);
        if (isAmbiguous(error)) void removeGivenUp(this.#world, at, lock.lockId, this.#exchanges.stopping);
        throw error;
      });
      const snapshot = snapshotOf(flight.key, client, result.view);
      this.#known.learn(snapshot);
      if (result.applied) return { lock, snapshot };
      this.#ownLocks.delete(lock.lockId);
      // Most locks are gone before they are looked at a second time.
      const isVoid = this.#isVoid(snapshot.lock) || (round > 0 && (await this.#isOrphan(snapshot.lock)));
      const decision = this.#decide(flight, snapshot);
      if (decision.kind !== "refresh") {
        // An open attempt under a lock that stands is no doubt yet, only somebody else's refresh on its way.
        const isUnderway = !isVoid && isReason(errorOf(decision), "REFRESH_UNCERTAIN");
        if (!isUnderway) return ended(decision);
        this.#known.setDoubt(flight.key, undefined);
      }
      takeOver = isVoid ? snapshot.lock : undefined;
      if (!isVoid) await this.#known.change(flight.key.accountId, POLL_MS);
      if (this.#exchanges.isStopping) return { kind: "refused", error: shuttingDown() };
    }
  }

  /** A lock is void 30 s after this process first saw it, or when it was this process's and has been given up. */
  #isVoid(lock: Snapshot["lock"]): boolean {
    if (lock === undefined) return true;
    const { lockId, instance } = lock.value;
    if (instance === this.#world.instance) return !this.#ownLocks.has(lockId);
    const bootMs = this.#world.clock.boot();
    const seenMs = this.#seenAtBootMs.get(lockId) ?? bootMs;
    this.#seenAtBootMs.set(lockId, seenMs);
    for (const [id, atMs] of this.#seenAtBootMs)
      if (bootMs - atMs > 4 * LOCK_MS) this.#seenAtBootMs.delete(id);
    return bootMs - seenMs >= LOCK_MS;
  }

  /** Its holder's session has ended: whatever becomes of the holder, its lock is nobody's. */
  async #isOrphan(lock: Snapshot["lock"]): Promise<boolean> {
    const { isGone, instance } = this.#world;
    if (lock === undefined || isGone === undefined || lock.value.instance === instance) return false;
    return isGone(lock.value.instance);
  }

  /** Whatever hangs, those who wait are freed when the lock is void; what was sent is still listened to. */
  async #freeWaiters(flight: Flight, lock: HeldLock): Promise<void> {
    const done = new AbortController();
    void flight.ended.then(() => done.abort("ended"));
    const leftMs = lock.untilBootMs - this.#world.clock.boot();
    await this.#world.clock.sleep(leftMs, done.signal).catch(() => undefined);
    if (flight.isEnded || !this.#ownLocks.delete(lock.lockId)) return;
    const text = "The refresh has taken longer than its lock; its answer is still listened to.";
    flight.end(
      new KeyturnError("REFRESH_UNCERTAIN", text, {
        metadata: { account_id: flight.key.accountId, cause: "overdue" },
        retryAfterMs: 5_000,
      }),
    );
  }

  #decide(flight: Flight, snapshot: Snapshot): Decision {
    const { vendors, clock } = this.#world;
    const doubt = this.#doubtOf(snapshot);
    this.#known.setDoubt(snapshot.key, doubt);
    return decide(flight.ask, {
      account: snapshot.account?.value,
      client: clientStateOf(snapshot),
      rules: vendors.rules(snapshot.client.provider, snapshot.key.slot),
      doubt,
      isHeld: this.#world.isHeld?.(),
      nowMs: clock.now(),
    });
  }

  #doubtOf(snapshot: Snapshot): Doubt {
    const attempt = snapshot.attempt?.value;
    const stale =
      attempt?.incarnation !== snapshot.account?.value.incarnation ||
      attempt?.generation !== snapshot.slot?.generation;
    if (attempt === undefined || stale) return undefined;
    if (this.#exchanges.isUnderway(attempt.attemptId)) return "listening";
    return snapshot.hold === undefined ? "hold_passed" : "held";
  }

  async #underLock(flight: Flight, lock: HeldLock, snapshot: Snapshot): Promise<Step> {
    const account = snapshot.account?.value;
    if (account !== undefined && clientKeyText(clientKeyOf(account)) !== clientKeyText(snapshot.client)) {
      this.#known.forgetAccount(account.id);
      return { kind: "done" };
    }
    this.#exchanges.revertFlags(snapshot);
    const decision = this.#decide(flight, snapshot);
    if (decision.kind !== "refresh" || account === undefined) return ended(decision);

    const isBulk = flight.priority === "bulk";
    const room = this.#caps.room(snapshot, isBulk);
    if (room === undefined) {
      const forMs = this.#caps.fullForMs();
      // What bulk work has to leave is there for others: their gate stays open.
      if (isBulk) return { kind: "again", afterMs: forMs };
      this.#gates.close(snapshot.client, forMs);
      return { kind: "again" };
    }
    return this.#attempt(flight, lock, snapshot, { account, room });
  }

  /** Prepares, and writes down that it is about to send; the exchange itself then goes on by itself. */
  async #attempt(
    flight: Flight,
    lock: HeldLock,
    snapshot: Snapshot,
    { account, room: firstRoom }: { readonly account: Account; readonly room: Room },
  ): Promise<Step> {
    let room: Room | undefined = firstRoom;
    try {
      const context = await openContext(this.#world.sealer, snapshot, OWN_WORK);
      const ready = await this.#exchanges.prepare(snapshot, account, this.#world.newId());
      try {
        for (let seen = snapshot; room !== undefined; ) {
          const step = await this.#attemptIn(room, flight, lock, snapshot, { context, ready });
          if (step.kind === "sent") return step;
          if (step.taken === undefined) break;
          // Somebody else was quicker by a moment: of the numbers that are left, another one.
          seen = { ...seen, permits: [...seen.permits, step.taken] };
          this.#caps.letGo(room);
          room = this.#caps.room(seen, flight.priority === "bulk");
        }
      } catch (error) {
        ready.discard();
        throw error;
      }
      ready.discard();
      return { kind: "again" };
    } finally {
      if (room !== undefined) this.#caps.letGo(room);
    }
  }

  /** `taken`: it is refused because somebody else has this permit now. */
  async #attemptIn(
    room: Room,
    flight: Flight,
    lock: HeldLock,
    snapshot: Snapshot,
    { context, ready }: { readonly context: VendorContext; readonly ready: Ready },
  ): Promise<
    Extract<Step, { kind: "sent" }> | { readonly kind: "refused"; readonly taken?: Entry<"permit"> }
  > {
    const { account } = ready;
    const attemptedAtMs = this.#world.clock.boot();
    const held: Held = {
      attemptId: ready.attemptId,
      lockId: lock.lockId,
      incarnation: account.incarnation,
      generation: ready.generation,
      clientGeneration: snapshot.oauthClient?.value.generation ?? 0,
      permit: room.permit,
      probe: isProbing(breakerOf(snapshot)),
      trigger: flight.ask.trigger,
      afterRejection: flight.afterRejection,
      minValidityMs: flight.minValidityMs,
    };
    const sendUntilMs = Math.min(
      lock.untilBootMs,
      attemptedAtMs + SEND_WITHIN_MS,
      room.block?.untilBootMs ?? Number.POSITIVE_INFINITY,
    );
    if (sendUntilMs <= this.#world.clock.boot() || this.#exchanges.isStopping) return { kind: "refused" };
    const draft = attemptDraft(snapshot, held, oldestKekVersion(ready), this.#world, room);
    const attempt = this.#sendAttempt(draft, snapshot, held, ready);
    this.#exchanges.watch(attempt);
    const { applied, view } = await attempt;
    if (!applied) {
      const taken = room.permit && view.get(room.permit);
      return { kind: "refused", ...(taken === undefined ? {} : { taken }) };
    }
    this.#caps.taken(snapshot.client, room, attemptedAtMs);
    const underway: Underway = {
      flight,
      context,
      held,
      ready,
      snapshot: afterAttempt(snapshot, view),
      sendUntilMs,
      lockUntilMs: lock.untilBootMs,
    };
    flight.hasSent = true;
    const finished = this.#exchanges.run(underway).finally(() => this.#ownLocks.delete(lock.lockId));
    void flight.ended.then(() => this.#ownLocks.delete(lock.lockId));
    return { kind: "sent", finished };
  }

  /** An attempt that may have landed, though nobody said so, was certainly not sent: that is declared in the background. */
  async #sendAttempt(
    draft: Draft,
    snapshot: Snapshot,
    held: Held,
    ready: { discard(): void },
  ): Promise<TransactionResult> {
    try {
      return await this.#send(draft, attemptReads(snapshot, held));
    } catch (error) {
      ready.discard();
      this.#exchanges.declare(snapshot, held, { kind: "withdrawn", cause: "store_away" });
      throw error;
    }
  }

  async #unlock(lock: HeldLock, snapshot: Snapshot): Promise<void> {
    if (!this.#ownLocks.delete(lock.lockId)) return;
    const { accountId, slot } = snapshot.key;
    const entry = snapshot.lock;
    if (entry?.value.lockId !== lock.lockId) return;
    const draft = new Draft().expect(entry.key, entry).remove(entry);
    const transaction = draft.done(this.#world.newId(), []);
    await this.#world.store.write(transaction).catch(() => {
      this.#world.report("lock not released", { accountId, slot });
      void removeGivenUp(this.#world, entry.key, lock.lockId, this.#exchanges.stopping);
    });
  }

  #send(draft: Draft, reads: readonly Read[]): Promise<TransactionResult> {
    const transaction = draft.done(this.#world.newId(), reads);
    return settle(this.#world, transaction, this.#world.clock.boot() + STORE_PATIENCE_MS);
  }
}

function errorOf(decision: Decision): KeyturnError | undefined {
  return decision.kind === "refuse" ? decision.error : undefined;
}

function ended(decision: Decision): Step {
  const error = errorOf(decision);
  return error === undefined ? { kind: "done" } : { kind: "refused", error };
}

function slotText(slot: SlotKey): string {
  return `${slot.accountId}/${slot.slot}`;
}
