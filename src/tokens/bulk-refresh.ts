import { invalid, isReason, KeyturnError, type Reason } from "../errors.ts";
import type { Account, SlotKey, SlotState } from "./account.ts";
import type { Broker } from "./broker.ts";
import { Draft } from "./draft.ts";
import { inOrder } from "./in-order.ts";
import { STORE_PATIENCE_MS } from "./limits.ts";
import { openContext } from "./opening.ts";
import { type BulkRefreshJob, type BulkSelection, key } from "./records.ts";
import type { Actor } from "./sealing.ts";
import { settle } from "./settle.ts";
import { clientKeyOf, snapshotOf, snapshotReads } from "./snapshot.ts";
import type { Page } from "./store.ts";
import type { VendorContext } from "./vendor.ts";
import type { World } from "./world.ts";

const PAGE = 200;
/** Accounts on their way; how many of a client are really asked for is its cap's business. */
const AT_ONCE = 64;
const KEEP_JOB_MS = 7 * 86_400_000;
const WRITE_EVERY_MS = 1_000;
const RETRY_MS = 1_000;
/** A refresh that somebody else had begun may end for a reason of its own. */
const MOST_ROUNDS = 5;

export interface BulkResult {
  readonly accountId: string;
  readonly slot: string;
  readonly outcome: "refreshed" | "skipped" | "failed";
  /** Undefined when it was refreshed, or never can be. */
  readonly reason: Reason | undefined;
  readonly message: string;
  readonly previousRevoked: boolean;
}

export interface BulkProgress {
  /** Undefined on a dry run. */
  readonly jobId: string | undefined;
  readonly done: number;
  readonly failed: number;
  readonly total: number;
  readonly result: BulkResult | undefined;
  readonly finished: boolean;
}

/** Who wants it, which accounts they may see, and when they have had enough. */
export interface BulkCaller {
  readonly actor: Actor;
  readonly sees: (account: Account) => boolean;
  readonly signal: AbortSignal;
}

interface Selected {
  readonly account: Account;
  /** The page it is on. */
  readonly after: string;
}

type Done = Selected & { readonly results: readonly BulkResult[] };

/** How the accounts are dealt with. */
interface Manner {
  readonly revokePrevious: boolean;
  /**
   * A token issued after it has been replaced already: how far a sidecar that was killed had got is not written down to
   * the account. Undefined in the run that began it.
   */
  readonly doneAfterMs: number | undefined;
}

/** What is to be replaced: what was there when its turn came. */
interface Old {
  readonly generation: number;
  /** Undefined when it is not to be revoked. */
  readonly context: VendorContext | undefined;
}

/** One token's turn, however many rounds it takes. */
interface Turn {
  old: Old | undefined;
}

/** Refreshes many accounts behind everybody else, for when tokens have to be replaced. */
export class BulkRefresh {
  readonly #world: World;
  readonly #broker: Pick<Broker, "refresh">;
  readonly #running = new Set<string>();

  constructor(world: World, broker: Pick<Broker, "refresh">) {
    this.#world = world;
    this.#broker = broker;
  }

  /** What would be refreshed. */
  async *dryRun(selection: BulkSelection, caller: BulkCaller): AsyncGenerator<BulkProgress, void> {
    const total = await this.#count(selection, caller);
    let done = 0;
    const at = () => ({ jobId: undefined, done, failed: 0, total });
    yield { ...at(), result: undefined, finished: false };
    for await (const { account } of this.#selected(selection, caller, "", "")) {
      done += 1;
      for (const slot of Object.keys(account.slots)) {
        const blank = { accountId: account.id, slot, previousRevoked: false };
        const skipped = whySkipped(account, slot);
        const result = { ...blank, outcome: "refreshed", reason: undefined, message: "" } as const;
        yield { ...at(), result: skipped ?? result, finished: false };
      }
    }
    yield { ...at(), result: undefined, finished: true };
  }

  async *start(
    selection: BulkSelection,
    revokePrevious: boolean,
    caller: BulkCaller,
  ): AsyncGenerator<BulkProgress, void> {
    const jobId = this.#world.newId();
    const job = {
      selection,
      revokePrevious,
      initiator: caller.actor.caller,
      startedAtMs: this.#world.clock.now(),
      total: await this.#count(selection, caller),
      done: 0,
      failed: 0,
      after: "",
      lastAccountId: "",
      finished: false,
    };
    await this.#write(jobId, job);
    yield* this.#run(jobId, job, { revokePrevious, doneAfterMs: undefined }, caller);
  }

  /** INVALID_REQUEST when there is no such job (any more), or it is running here. */
  async *resume(jobId: string, caller: BulkCaller): AsyncGenerator<BulkProgress, void> {
    const at = key("bulk_refresh", jobId);
    const job = (await this.#world.store.read([at])).get(at)?.value;
    if (job === undefined) throw invalid("resume_cursor", "of a bulk refresh of the last 7 days");
    if (this.#running.has(jobId)) throw invalid("resume_cursor", "of one that is not running");
    const { revokePrevious, startedAtMs } = job;
    yield* this.#run(jobId, job, { revokePrevious, doneAfterMs: startedAtMs }, caller);
  }

  async *#run(
    jobId: string,
    from: BulkRefreshJob,
    manner: Manner,
    caller: BulkCaller,
  ): AsyncGenerator<BulkProgress, void> {
    this.#running.add(jobId);
    let job = from;
    let writtenAtMs = this.#world.clock.boot();
    const at = () => ({ jobId, done: job.done, failed: job.failed, total: Math.max(job.total, job.done) });
    const unwritten = (error: unknown) =>
      this.#world.report("bulk refresh: how far it is was not written", { job: jobId }, error);
    try {
      yield { ...at(), result: undefined, finished: job.finished };
      if (job.finished) return;
      const { selection, after, lastAccountId } = job;
      const accounts = this.#selected(selection, caller, after, lastAccountId);
      const work = (one: Selected) => this.#account(one, manner, caller);
      for await (const one of inOrder(accounts, AT_ONCE, work)) {
        if (one === undefined) break;
        const isFailed = one.results.some(({ outcome }) => outcome === "failed");
        job = {
          ...job,
          done: job.done + 1,
          failed: job.failed + (isFailed ? 1 : 0),
          after: one.after,
          lastAccountId: one.account.id,
        };
        for (const result of one.results) yield { ...at(), result, finished: false };
        if (this.#world.clock.boot() - writtenAtMs < WRITE_EVERY_MS) continue;
        writtenAtMs = this.#world.clock.boot();
        await this.#write(jobId, job).catch(unwritten);
      }
      caller.signal.throwIfAborted();
      job = { ...job, finished: true };
      await this.#write(jobId, job);
      yield { ...at(), result: undefined, finished: true };
    } finally {
      this.#running.delete(jobId);
      if (!job.finished) await this.#write(jobId, job).catch(unwritten);
    }
  }

  async #write(jobId: string, job: BulkRefreshJob): Promise<void> {
    const draft = new Draft().put(key("bulk_refresh", jobId), job, KEEP_JOB_MS);
    const transaction = draft.done(this.#world.newId(), []);
    await settle(this.#world, transaction, this.#world.clock.boot() + STORE_PATIENCE_MS);
  }

  async #count(selection: BulkSelection, caller: BulkCaller): Promise<number> {
    let count = 0;
    for await (const _ of this.#selected(selection, caller, "", "")) count += 1;
    return count;
  }

  /** From the page `from` on, without those up to `lastAccountId` on it. */
  async *#selected(
    selection: BulkSelection,
    caller: BulkCaller,
    from: string,
    lastAccountId: string,
  ): AsyncGenerator<Selected, void> {
    for (let after: string | undefined = from; after !== undefined; ) {
      const page: Page<"account"> = await this.#world.store.scan("account", after, PAGE);
      const done = after === from ? page.entries.findIndex(({ value }) => value.id === lastAccountId) : -1;
      for (const { value: account } of page.entries.slice(done + 1)) {
        if (caller.signal.aborted) return;
        const isWanted = isSelected(account, selection) && caller.sees(account);
        if (isWanted && Object.keys(account.slots).length > 0) yield { account, after };
      }
      after = page.next;
    }
  }

  /** Undefined when the caller left before its turn. */
  async #account(one: Selected, manner: Manner, caller: BulkCaller): Promise<Done | undefined> {
    const results: BulkResult[] = [];
    for (const slot of Object.keys(one.account.slots)) {
      const result = await this.#slot({ accountId: one.account.id, slot }, manner, caller);
      if (result === undefined) return undefined;
      results.push(result);
    }
    return { ...one, results };
  }

  async #slot(slot: SlotKey, manner: Manner, caller: BulkCaller): Promise<BulkResult | undefined> {
    const turn: Turn = { old: undefined };
    for (let round = 0; round < MOST_ROUNDS; ) {
      if (caller.signal.aborted) return undefined;
      try {
        const result = await this.#once(slot, turn, manner, caller);
        if (typeof result !== "string") return result;
        if (result === "again") round += 1;
        else await this.#pause(RETRY_MS, caller.signal);
      } catch (error) {
        if (await this.#waits(error, caller.signal)) continue;
        if (caller.signal.aborted && !(error instanceof KeyturnError)) return undefined;
        if (!(error instanceof KeyturnError))
          this.#world.report("bulk refresh of an account failed", { account_id: slot.accountId }, error);
        const { reason, message } = error instanceof KeyturnError ? error : bug(error);
        return { ...slot, previousRevoked: false, outcome: "failed", reason, message };
      }
    }
    return refused(slot, "active");
  }

  async #once(
    slot: SlotKey,
    turn: Turn,
    manner: Manner,
    { actor }: BulkCaller,
  ): Promise<BulkResult | "again" | "later"> {
    const before = await this.#read(slot);
    if (before === undefined) return gone(slot);
    const { doneAfterMs, revokePrevious } = manner;
    const skipped = whySkipped(before.account, slot.slot);
    if (skipped !== undefined) return skipped;
    if (doneAfterMs !== undefined && before.state.issuedAtMs > doneAfterMs) return refreshed(slot, false);
    // Created anew meanwhile.
    if (before.state.generation < (turn.old?.generation ?? 0)) turn.old = undefined;
    turn.old ??= (revokePrevious ? await this.#old(slot, actor) : undefined) ?? {
      generation: before.state.generation,
      context: undefined,
    };
    const { generation, context } = turn.old;
    const wanted = { key: slot, minValidityMs: 0, rejected: undefined, trigger: "bulk" } as const;
    const error = await this.#broker.refresh({ ...wanted, replaces: generation }, actor);
    if (error !== undefined) throw error;
    const now = (await this.#read(slot))?.state;
    // Whoever refreshed it: never the token that is current now.
    if (now !== undefined && now.generation > generation)
      return refreshed(slot, context !== undefined && (await this.#revoke(context)));
    if (now !== undefined && (now.state !== "active" || now.failures > 0)) return refused(slot, now.state);
    return (await this.#isUnwritten(slot)) ? "later" : "again";
  }

  /** True when it makes sense to try again, after a while. */
  async #waits(error: unknown, signal: AbortSignal): Promise<boolean> {
    const isCooling =
      isReason(error, "PROVIDER_RATE_LIMITED") ||
      (isReason(error, "PROVIDER_UNAVAILABLE") && COOLING.has(error.metadata["cause"] ?? ""));
    const isAway = isReason(error, "STORE_UNAVAILABLE", "STORE_FULL", "STATE_DISK_FULL", "KEK_UNAVAILABLE");
    if (!isCooling && !isAway) return false;
    const forMs = Math.max(RETRY_MS, error.retryAfterMs ?? RETRY_MS);
    await this.#pause(forMs, signal);
    return true;
  }

  async #pause(forMs: number, signal: AbortSignal): Promise<void> {
    await this.#world.clock.sleep(forMs, signal).catch(() => undefined);
  }

  /** True while an answer that has come waits for the store to take it. */
  async #isUnwritten(slot: SlotKey): Promise<boolean> {
    const at = key("attempt", slot.accountId, slot.slot);
    return (await this.#world.store.read([at])).get(at) !== undefined;
  }

  async #read(slot: SlotKey): Promise<{ readonly account: Account; readonly state: SlotState } | undefined> {
    const at = key("account", slot.accountId);
    const account = (await this.#world.store.read([at])).get(at)?.value;
    const state = account?.slots[slot.slot];
    return account === undefined || state === undefined ? undefined : { account, state };
  }

  /** What the refresh is going to replace, opened while it is there. */
  async #old(slot: SlotKey, actor: Actor): Promise<Old | undefined> {
    const account = (await this.#read(slot))?.account;
    if (account === undefined) return undefined;
    const client = clientKeyOf(account);
    const snapshot = snapshotOf(slot, client, await this.#world.store.read(snapshotReads(slot, client)));
    if (snapshot.slot === undefined) return undefined;
    const context = await openContext(this.#world.sealer, snapshot, { ...actor, purpose: "revocation" });
    return { context, generation: snapshot.slot.generation };
  }

  async #revoke(previous: VendorContext): Promise<boolean> {
    return (await this.#world.vendors.revokeAccessToken(previous)) === "revoked";
  }
}

/** A client's state that passes by itself. */
const COOLING: ReadonlySet<string> = new Set(["unavailable", "outage_suspected"]);

function isSelected(account: Account, { provider, client, tenant, labels }: BulkSelection): boolean {
  return (
    (provider === "" || account.provider === provider) &&
    (client === "" || account.client === client) &&
    (tenant === "" || account.tenant === tenant) &&
    Object.entries(labels).every(([name, value]) => account.labels[name] === value)
  );
}

function skip(slot: SlotKey, reason: Reason | undefined, message: string): BulkResult {
  return { ...slot, previousRevoked: false, outcome: "skipped", reason, message };
}

function refreshed(slot: SlotKey, previousRevoked: boolean): BulkResult {
  return { ...slot, previousRevoked, outcome: "refreshed", reason: undefined, message: "" };
}

function gone(slot: SlotKey): BulkResult {
  return skip(slot, "ACCOUNT_NOT_FOUND", "It was deleted meanwhile.");
}

/** Undefined when it can be refreshed. */
function whySkipped(account: Account, name: string): BulkResult | undefined {
  const slot = { accountId: account.id, slot: name };
  const state = account.slots[name];
  if (state === undefined) return gone(slot);
  if (account.disabled) return skip(slot, "ACCOUNT_DISABLED", "An operator has disabled this account.");
  if (state.state === "needs_reauth")
    return skip(slot, "REAUTHORIZATION_REQUIRED", "The customer has to authorize again.");
  return state.refreshable ? undefined : skip(slot, undefined, "This credential cannot be refreshed.");
}

function refused(slot: SlotKey, state: "active" | "needs_reauth"): BulkResult {
  const why =
    state === "needs_reauth"
      ? ({
          reason: "REAUTHORIZATION_REQUIRED",
          message: "The provider refuses this account's credential; the customer has to authorize again.",
        } as const)
      : ({
          reason: "PROVIDER_UNAVAILABLE",
          message: "The refresh failed; accounts explain says how.",
        } as const);
  return { ...slot, previousRevoked: false, outcome: "failed", ...why };
}

function bug(cause: unknown): KeyturnError {
  return new KeyturnError("INTERNAL_ERROR", "Something went wrong inside the sidecar; its log says what.", {
    cause,
  });
}
