import { isReason, KeyturnError, withMetadata } from "../errors.ts";
import type { Account } from "./account.ts";
import { type Admission, type Admitted, brokenOff, type Ending } from "./admission.ts";
import { type Spending, stateInvalid } from "./authorizations.ts";
import type { ConnectedWriter } from "./connected.ts";
import { grantFault } from "./connection-faults.ts";
import type { Grant } from "./consent.ts";
import type { Exchanges } from "./exchanges.ts";
import { introduced } from "./introducing.ts";
import { mayPass, patiently } from "./patience.ts";
import { key } from "./records.ts";
import { type Redeemed, type Redeeming, type Redemption, Rooms } from "./redemption.ts";
import type { Actor } from "./sealing.ts";
import type { World } from "./world.ts";

/** For how long a request that follows a good answer is made again: what was got by then has ended, or nearly. */
const GO_ON_FOR_MS = 3_600_000;
const FIRST_PAUSE_MS = 1_000;
const MAX_PAUSE_MS = 300_000;

/** What a code is sent by. */
export interface Beginning {
  readonly spending: Spending;
  /** Boot clock: how long its turn is waited for. */
  readonly untilBootMs: number;
  /** The provider took the code and has failed since: it is asked again from then on. */
  readonly onUnfinished: (fault: KeyturnError) => void;
}

export interface CodeExchangeParts {
  readonly world: World;
  readonly admission: Admission;
  readonly redemption: Redemption;
  readonly writer: ConnectedWriter;
  readonly exchanges: Exchanges;
}

/** What the answers to a code have come to. */
export type Progress =
  | { readonly kind: "stored"; readonly account: Account }
  /** Kept for a better file. */
  | { readonly kind: "unmapped"; readonly fault: KeyturnError }
  /** Nothing will be stored: the provider says no, or the account has moved on. */
  | { readonly kind: "over"; readonly fault: KeyturnError }
  /** What is still to be asked failed in a way that may pass. */
  | { readonly kind: "unfinished"; readonly redeeming: Redeeming; readonly fault: KeyturnError };

/**
 * From a code's first byte to the stored account. A code is sent once. Whatever has to be asked after a good answer is
 * asked again until it is answered, for that answer cannot be had a second time.
 */
export class CodeExchanges {
  readonly #parts: CodeExchangeParts;

  constructor(parts: CodeExchangeParts) {
    this.#parts = parts;
  }

  /** The whole of it. Errors say `authorization` = `open` when nothing has left, so that the redirect is still good. */
  async begin(
    asked: Redeeming,
    { spending, untilBootMs, onUnfinished }: Beginning,
    actor: Actor,
  ): Promise<Account> {
    const { world, admission, redemption } = this.#parts;
    const { attemptId, generation, context } = asked;
    const { account } = context;
    const steps = world.consents.steps(account.provider);
    const rooms = new Rooms();
    const prepare = () => redemption.prepare(rooms, { account, attemptId, generation, from: 0, steps });
    let admitted: Admitted;
    try {
      admitted = await admission.enter({ account, attemptId, actor, untilBootMs }, prepare, spending);
    } catch (error) {
      rooms.discard();
      throw stillOpen(error);
    }
    const redeeming = { ...asked, context: { ...context, client: admitted.client } };
    const redeemed = await this.#firstPass(redeeming, spending, admitted, rooms);
    const progress = await this.#progress(redeeming, redeemed, actor);
    if (progress.kind !== "unfinished") return ended(progress);
    onUnfinished(progress.fault);
    return this.goOn(progress.redeeming, progress.fault, actor);
  }

  async #firstPass(
    redeeming: Redeeming,
    spending: Spending,
    admitted: Admitted,
    rooms: Rooms,
  ): Promise<Redeemed> {
    const { world, admission, redemption, exchanges } = this.#parts;
    let redeemed: Redeemed;
    try {
      redeemed = await redemption.run(redeeming, rooms, admitted.sendUntilMs);
    } catch (error) {
      await admission.leave(admitted, brokenOff(error));
      throw await this.#reopened(spending, error);
    }
    const { grant, kept } = redeemed;
    const isUnsent = grant.kind === "not_sent" && kept === 0;
    const isOurs = exchanges.isStopping || world.clock.boot() >= admitted.sendUntilMs;
    await admission.leave(admitted, isUnsent && isOurs ? { kind: "withdrawn" } : endingOf(grant));
    if (!isUnsent) return redeemed;
    throw await this.#reopened(spending, grantFault(redeeming.context.account, grant));
  }

  /** Nothing has left, so the redirect is good again, as the error then says. */
  async #reopened(spending: Spending, error: unknown): Promise<unknown> {
    try {
      await spending.restore();
      return stillOpen(error);
    } catch (failure) {
      this.#parts.world.report("authorization not reopened", {}, failure);
      return error;
    }
  }

  /**
   * Asks what is still to be asked until it is answered: for an hour, as long as nobody connects the account anew.
   * SHUTTING_DOWN leaves the answers so far to the next start.
   */
  async goOn(start: Redeeming, failed: KeyturnError, actor: Actor): Promise<Account> {
    const { world, exchanges } = this.#parts;
    const untilMs = (start.answers[0]?.receivedAtMs ?? 0) + GO_ON_FOR_MS;
    let redeeming: Redeeming = { ...start, isResumed: true };
    let fault = failed;
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, MAX_PAUSE_MS)) {
      const waitMs = Math.max(pauseMs, fault.retryAfterMs ?? 0);
      if (world.clock.now() + waitMs > untilMs) {
        await world.journal.remove(redeeming.attemptId);
        throw fault;
      }
      await world.clock.sleep(waitMs, exchanges.stopping);
      const progress = await this.#resumed(redeeming, actor);
      if (progress.kind !== "unfinished") return ended(progress);
      ({ redeeming, fault } = progress);
    }
  }

  async #resumed(redeeming: Redeeming, actor: Actor): Promise<Progress> {
    try {
      return await this.resume(redeeming, actor);
    } catch (error) {
      if (!(error instanceof KeyturnError) || !mayPass(error)) throw error;
      return { kind: "unfinished", redeeming, fault: error };
    }
  }

  /** One more try from the answers so far, for an account that nobody has connected anew. Rejects while store or KEK is away. */
  async resume(redeeming: Redeeming, actor: Actor): Promise<Progress> {
    const { world, redemption } = this.#parts;
    const at = key("account", redeeming.context.account.id);
    const now = (await world.store.read([at])).get(at)?.value;
    if (now === undefined || !isCurrent(now, redeeming)) return this.#over(redeeming, superseded(redeeming));
    const read = await redemption.read(redeeming);
    if (read.grant.kind !== "more") return this.#progress(redeeming, read, actor);
    try {
      return await this.#progress(redeeming, await this.#nextPass(redeeming, actor), actor);
    } catch (error) {
      if (!isReason(error, ...FOR_NOW)) throw error;
      return { kind: "unfinished", redeeming, fault: error };
    }
  }

  async #nextPass(redeeming: Redeeming, actor: Actor): Promise<Redeemed> {
    const { world, admission, redemption } = this.#parts;
    const { attemptId, generation, kept, context } = redeeming;
    const { account } = context;
    const steps = kept + world.consents.steps(account.provider) - redeeming.answers.length;
    const rooms = new Rooms();
    const prepare = () => redemption.prepare(rooms, { account, attemptId, generation, from: kept, steps });
    const untilBootMs = Number.POSITIVE_INFINITY;
    try {
      const admitted = await admission.enter({ account, attemptId, actor, untilBootMs }, prepare);
      const again = { ...redeeming, context: { ...context, client: admitted.client } };
      const work = () => redemption.run(again, rooms, admitted.sendUntilMs);
      return await admission.within(admitted, work, ({ grant }) => endingOf(grant));
    } finally {
      rooms.discard();
    }
  }

  async #progress(redeeming: Redeeming, redeemed: Redeemed, actor: Actor): Promise<Progress> {
    const { grant, answers, kept } = redeemed;
    const further = { ...redeeming, answers, kept };
    if (grant.kind === "granted") return this.#granted(further, grant, actor);
    const fault = grantFault(redeeming.context.account, grant);
    if (grant.kind === "unmapped") return { kind: "unmapped", fault };
    const mayGoOn = answers.length > 0 && isPassing(grant);
    return mayGoOn ? { kind: "unfinished", redeeming: further, fault } : this.#over(redeeming, fault);
  }

  async #granted(
    redeeming: Redeeming,
    grant: Extract<Grant, { kind: "granted" }>,
    actor: Actor,
  ): Promise<Progress> {
    const { world, exchanges, writer } = this.#parts;
    const { context, note } = redeeming;
    const { gone } = exchanges;
    // Of one that was gone on with: whatever has been stored meanwhile is newer.
    const only = (now: Account) => !redeeming.isResumed || isCurrent(now, redeeming);
    try {
      const connected = await introduced(world, context, grant, note, gone);
      // The answer is kept and the code is spent, so the store and the KEK are waited for.
      const write = () => writer.write(context.account, connected, actor, { only });
      const entry = await patiently(world.clock, gone, write);
      if (entry === undefined) return this.#over(redeeming, superseded(redeeming));
      await world.journal.remove(redeeming.attemptId);
      return { kind: "stored", account: entry.value };
    } catch (error) {
      if (isReason(error, "PROVIDER_UNAVAILABLE")) return { kind: "unfinished", redeeming, fault: error };
      if (error instanceof KeyturnError && error.reason !== "SHUTTING_DOWN")
        return this.#over(redeeming, error);
      throw error;
    }
  }

  async #over({ attemptId }: Redeeming, fault: KeyturnError): Promise<Progress> {
    await this.#parts.world.journal.remove(attemptId);
    return { kind: "over", fault };
  }
}

/** Why a client's endpoint is not asked now, though it will be. */
export const FOR_NOW = [
  "CLIENT_ON_HOLD",
  "CLIENT_MISCONFIGURED",
  "PROVIDER_RATE_LIMITED",
  "PROVIDER_UNAVAILABLE",
] as const;

/** The redirect may be completed again: nothing of it has been spent. */
export function stillOpen(error: unknown): unknown {
  const isOpen =
    error instanceof KeyturnError && !isReason(error, "AUTHORIZATION_STATE_INVALID") && !mayPass(error);
  return isOpen ? withMetadata(error, { authorization: "open" }) : error;
}

/** Moves with whatever token of the account is stored: what was got before is not stored over something newer. */
export function generationOf(account: Account): number {
  return Object.values(account.slots).reduce((sum, slot) => sum + slot.generation, 0);
}

function isCurrent(now: Account, { context, generation }: Redeeming): boolean {
  return now.incarnation === context.account.incarnation && generationOf(now) === generation;
}

function superseded({ context }: Redeeming): KeyturnError {
  return stateInvalid(
    "superseded",
    "The account was connected anew, or deleted, since this authorization was completed.",
    context.account.id,
  );
}

/** Asked again, it may come out otherwise. */
function isPassing(grant: Exclude<Grant, { kind: "granted" }>): boolean {
  if (grant.kind !== "refused") return grant.kind === "unknown" || grant.kind === "not_sent";
  return grant.class === "transient" || grant.class === "rate_limited";
}

function endingOf(grant: Grant): Ending {
  return grant.kind === "more" ? { kind: "withdrawn" } : grant;
}

function ended(progress: Exclude<Progress, { kind: "unfinished" }>): Account {
  if (progress.kind === "stored") return progress.account;
  throw progress.fault;
}
