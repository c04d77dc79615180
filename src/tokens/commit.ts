import type { Account, AttemptSummary, SlotState } from "./account.ts";
import { demandBackoffMs, proactiveRetryMs } from "./backoff.ts";
import { recordSuccess, recordThrottled, recordTransient, recordVerdict } from "./breaker.ts";
import { recordClientFault } from "./client-fault.ts";
import type { Credential } from "./credential.ts";
import { Draft, slotEvent } from "./draft.ts";
import type { LifecycleType } from "./events.ts";
import { isValid } from "./freshness.ts";
import { type KeyOf, key } from "./records.ts";
import type { Sealed } from "./sealing.ts";
import { slotOf, withAttempt } from "./slot.ts";
import { type Snapshot, snapshotReads } from "./snapshot.ts";
import type { Read } from "./store.ts";
import type { Ask } from "./token.ts";
import type { Failure, RefreshRules, Refusal } from "./vendor.ts";

/** What one exchange was sent with, and holds until its outcome is written down. */
export interface Held {
  readonly attemptId: string;
  /** Undefined for an answer found in a journal: its lock is long gone. */
  readonly lockId: string | undefined;
  readonly incarnation: string;
  /** Generation of the credential whose bytes were sent. */
  readonly generation: number;
  /** Generation of the client's secrets that were sent. */
  readonly clientGeneration: number;
  readonly permit: KeyOf<"permit"> | undefined;
  readonly probe: boolean;
  readonly trigger: Ask["trigger"] | "replay";
  readonly afterRejection: boolean;
  readonly minValidityMs: number;
}

/** How an exchange ended. */
export type Outcome =
  | {
      readonly kind: "granted";
      readonly credential: Credential;
      readonly sealed: Sealed;
      readonly fields: Readonly<Record<string, string>>;
      readonly unfinished?: Failure | undefined;
      readonly httpStatus: number | undefined;
    }
  | (Refusal & { readonly httpStatus: number | undefined })
  | { readonly kind: "unknown" | "unmapped"; readonly cause: string; readonly httpStatus: number | undefined }
  /** Not one byte left, because the provider could not be reached. */
  | { readonly kind: "not_sent"; readonly cause: string; readonly httpStatus?: number | undefined }
  /** Not one byte left, because we chose so: the lock was no longer ours, or we are shutting down. */
  | { readonly kind: "withdrawn"; readonly cause: string };

export interface CommitWorld {
  readonly nowMs: number;
  /** In [0, 1). */
  readonly random: number;
  readonly instance: string;
  readonly rules: RefreshRules | undefined;
}

/** What writing an outcome down comes to, given how the records stand by now. */
export type Effect =
  | "granted"
  /** A newer generation was there first. */
  | "superseded"
  /** The account was deleted; its deletion did not ask for revocation, or nothing was granted. */
  | "gone"
  /** The account was deleted with revocation: what was granted is to be revoked. */
  | "revoke"
  | "flagged"
  /** A verdict that is not believed, or not ours to give. */
  | "held"
  | "failed"
  | "client_fault"
  | "withdrawn";

export interface CommitPlan {
  readonly draft: Draft;
  readonly effect: Effect;
  /** The account as it will stand. */
  readonly account: Account | undefined;
}

/** What writing an outcome down depends on: of the client's permits only its own, when that is known. */
export function commitReads(
  { key: slot, client }: Pick<Snapshot, "key" | "client">,
  { permit }: Held,
): readonly Read[] {
  const { provider, client: name } = client;
  return [...snapshotReads(slot, client), permit ?? { under: "permit", parts: [provider, name] }];
}

/**
 * The one transaction that writes an outcome down. Everything it depends on is expected unchanged, so a refusal means
 * that somebody else wrote: read again, plan again. It touches only what a refresh owns.
 */
export function planCommit(snapshot: Snapshot, held: Held, outcome: Outcome, world: CommitWorld): CommitPlan {
  const draft = new Draft();
  const mine = release(draft, snapshot, held);
  const account = snapshot.account?.value;
  if (account === undefined || account.incarnation !== held.incarnation || snapshot.slot === undefined) {
    const revoke = mine && snapshot.attempt?.value.onAnswer === "revoke" && outcome.kind === "granted";
    return { draft, effect: revoke ? "revoke" : "gone", account: undefined };
  }
  draft.expect(key("account", account.id), snapshot.account);
  const settling = new Settling(draft, snapshot, account, snapshot.slot, held, world);
  // Behind what was refreshed: the store was set back, and this answer is newer than anything it has.
  const isBehind = snapshot.slot.generation < held.generation && outcome.kind === "granted";
  if (snapshot.slot.generation !== held.generation && !isBehind) return settling.superseded(outcome);
  switch (outcome.kind) {
    case "granted":
      return settling.granted(outcome);
    case "refused":
      return settling.refused(outcome, mine);
    case "unknown":
    case "not_sent":
      return settling.transient(outcome, mine);
    case "unmapped":
      return settling.unmapped(outcome);
    case "withdrawn":
      return { draft, effect: "withdrawn", account };
  }
}

/** Gives back lock, permit, attempt and hold as far as they are still ours. Returns whether the verdict is. */
function release(draft: Draft, snapshot: Snapshot, held: Held): boolean {
  const { attempt, hold, lock } = snapshot;
  const ours = attempt?.value.attemptId === held.attemptId;
  const { accountId, slot } = snapshot.key;
  draft.expect(key("attempt", accountId, slot), attempt);
  if (ours) draft.remove(attempt);
  if (hold?.value.attemptId === held.attemptId) draft.expect(hold.key, hold).remove(hold);
  if (lock !== undefined && lock.value.lockId === held.lockId) draft.expect(lock.key, lock).remove(lock);
  const permit = snapshot.permits.find((entry) => entry.value.attemptId === held.attemptId);
  if (permit !== undefined) draft.expect(permit.key, permit).remove(permit);
  return ours || snapshot.slot?.unmapped?.attemptId === held.attemptId;
}

type Refused = Extract<Outcome, { kind: "refused" }>;

class Settling {
  readonly #draft: Draft;
  readonly #snapshot: Snapshot;
  readonly #account: Account;
  readonly #slot: SlotState;
  readonly #held: Held;
  readonly #world: CommitWorld;

  constructor(
    draft: Draft,
    snapshot: Snapshot,
    account: Account,
    slot: SlotState,
    held: Held,
    world: CommitWorld,
  ) {
    this.#draft = draft;
    this.#snapshot = snapshot;
    this.#account = account;
    this.#slot = slot;
    this.#held = held;
    this.#world = world;
  }

  superseded(outcome: Outcome): CommitPlan {
    if (outcome.kind === "granted") {
      this.#say("integrated_account:refresh_failed", this.#slot, "superseded", {
        superseded_by: String(this.#slot.generation),
      });
    }
    return this.#plan("superseded", this.#account);
  }

  granted(outcome: Extract<Outcome, { kind: "granted" }>): CommitPlan {
    const { nowMs, random, rules } = this.#world;
    const { afterRejection, minValidityMs, generation } = this.#held;
    const made = slotOf(this.#slot, outcome.credential, generation + 1, {
      nowMs,
      random,
      rules,
      afterRejection,
      minValidityMs,
    });
    const at = key("credential", this.#account.id, this.#snapshot.key.slot);
    this.#draft.expect(at, this.#snapshot.credential).put(at, {
      incarnation: this.#account.incarnation,
      generation: made.generation,
      sealed: outcome.sealed,
    });
    if (outcome.unfinished !== undefined) return this.#unfinished(made, outcome, outcome.unfinished);
    const slot = withAttempt(made, this.#summary(outcome.httpStatus, "granted", undefined, ""));
    const account = this.#put(slot, outcome.fields);
    recordSuccess(this.#draft, this.#snapshot, this.#held.probe, nowMs);
    this.#say("integrated_account:token_refreshed", slot, this.#held.trigger);
    if (this.#slot.state === "needs_reauth") this.#say("integrated_account:reactivated", slot, "late_answer");
    return this.#plan("granted", account);
  }

  /** The new refresh token is saved; the token itself is asked for again, from the start, after a while. */
  #unfinished(made: SlotState, outcome: Extract<Outcome, { kind: "granted" }>, failure: Failure): CommitPlan {
    const { nowMs, random } = this.#world;
    const refusal = failure.kind === "refused" ? failure : undefined;
    const reason = refusal?.class ?? failure.kind;
    const rule = failure.kind === "refused" ? failure.rule : failure.cause;
    const detail = refusal === undefined ? { cause: rule } : providerCode(refusal);
    const failures = this.#slot.failures + 1;
    const waitMs =
      reason === "rate_limited"
        ? recordThrottled(this.#draft, this.#snapshot, refusal?.retryAfterMs, refusal?.rateLimit, nowMs)
        : proactiveRetryMs(failures, random);
    if (reason !== "reauth" && reason !== "rate_limited" && reason !== "fix_configuration")
      recordTransient(this.#draft, this.#snapshot, nowMs);
    const isFlagged = reason === "reauth";
    const next: SlotState = {
      ...made,
      // Of the token there was, which is still the one in service.
      rejection: this.#slot.rejection,
      observedLifetimeMs: this.#slot.observedLifetimeMs,
      obtainedForMs: this.#slot.obtainedForMs,
      failures,
      backoffUntilMs: nowMs + demandBackoffMs(failures),
      nextRefreshAtMs: isFlagged ? undefined : nowMs + waitMs,
      ...(isFlagged ? { state: "needs_reauth", reauthReason: "refused" } : {}),
    };
    const slot = withAttempt(next, this.#summary(outcome.httpStatus, reason, refusal?.code, rule));
    const account = this.#put(slot, outcome.fields);
    if (isFlagged) this.#say("integrated_account:authentication_error", slot, "refused", detail);
    else this.#say("integrated_account:refresh_failed", slot, reason, detail);
    return this.#plan(isFlagged ? "flagged" : "granted", account);
  }

  refused(outcome: Refused, mine: boolean): CommitPlan {
    // Only the holder of the open attempt may judge: somebody else's request of the same bytes may be the one that
    // the provider accepted.
    if (!mine || this.#slot.state === "needs_reauth") return this.#plan("held", this.#account);
    switch (outcome.class) {
      case "reauth":
        return this.#verdict(outcome);
      case "rate_limited":
        return this.#throttled(outcome);
      case "fix_configuration":
        return outcome.clientFault ? this.#clientFault(outcome) : this.#failed(outcome, true);
      case "transient":
        recordTransient(this.#draft, this.#snapshot, this.#world.nowMs);
        return this.#failed(outcome, true);
    }
  }

  transient(
    outcome: Extract<Outcome, { kind: "unknown" | "not_sent" | "unmapped" }>,
    mine: boolean,
  ): CommitPlan {
    if (!mine || this.#slot.state === "needs_reauth") return this.#plan("held", this.#account);
    recordTransient(this.#draft, this.#snapshot, this.#world.nowMs);
    return this.#failed(outcome, outcome.kind === "not_sent" || this.#world.rules?.resendSafe === true);
  }

  unmapped(outcome: Extract<Outcome, { kind: "unknown" | "unmapped" }>): CommitPlan {
    const { nowMs, instance } = this.#world;
    const summary = this.#summary(outcome.httpStatus, "unmapped", undefined, outcome.cause);
    const unmapped = { attemptId: this.#held.attemptId, instance, atMs: nowMs };
    const slot = withAttempt({ ...this.#slot, unmapped, nextRefreshAtMs: undefined }, summary);
    const account = this.#put(slot);
    this.#say("integrated_account:refresh_failed", slot, "answer_not_mapped");
    return this.#plan("failed", account);
  }

  #verdict(outcome: Refused): CommitPlan {
    const { nowMs } = this.#world;
    const { accountId, slot: slotName } = this.#snapshot.key;
    const { incarnation, generation } = this.#held;
    const mark = { accountId, slot: slotName, incarnation, generation };
    const verdict = recordVerdict(this.#draft, this.#snapshot, mark, this.#held.probe, nowMs);
    const summary = this.#summary(outcome.httpStatus, "reauth", outcome.code, outcome.rule);
    if (verdict === "held") {
      const slot = withAttempt(this.#slot, summary);
      this.#say("feed:slot_changed", slot, "verdict_held");
      return this.#plan("held", this.#put(slot));
    }
    const flagged = {
      ...this.#slot,
      unmapped: undefined,
      state: "needs_reauth",
      reauthReason: "refused",
      nextRefreshAtMs: undefined,
    } as const;
    const slot = withAttempt(flagged, summary);
    const account = this.#put(slot);
    this.#say("integrated_account:authentication_error", slot, "refused", providerCode(outcome));
    return this.#plan("flagged", account);
  }

  #throttled(outcome: Refused): CommitPlan {
    const { nowMs, random } = this.#world;
    const waitMs = recordThrottled(
      this.#draft,
      this.#snapshot,
      outcome.retryAfterMs,
      outcome.rateLimit,
      nowMs,
    );
    const summary = this.#summary(outcome.httpStatus, "rate_limited", outcome.code, outcome.rule);
    const nextRefreshAtMs = nowMs + waitMs + random * 60_000;
    const slot = withAttempt({ ...this.#slot, nextRefreshAtMs }, summary);
    const account = this.#put(slot);
    this.#say("integrated_account:refresh_failed", slot, "rate_limited", providerCode(outcome));
    return this.#plan("failed", account);
  }

  /** The account is not written: forty thousand of them may share the client. */
  #clientFault(outcome: Refused): CommitPlan {
    const { clientGeneration } = this.#held;
    recordClientFault(this.#draft, this.#snapshot, clientGeneration, outcome.code, this.#world.nowMs);
    return this.#plan("client_fault", this.#account);
  }

  /** `repeatable`: the provider has certainly not acted, or a repetition does no harm. */
  #failed(outcome: Exclude<Outcome, { kind: "granted" | "withdrawn" }>, repeatable: boolean): CommitPlan {
    const { nowMs, random } = this.#world;
    const failures = this.#slot.failures + 1;
    const waitsForEnd = !repeatable && isValid(this.#slot.expiresAtMs, nowMs);
    const refused = outcome.kind === "refused" ? outcome : undefined;
    const reason = refused?.class ?? outcome.kind;
    const status = outcome.kind === "not_sent" ? undefined : outcome.httpStatus;
    const rule = outcome.kind === "refused" ? outcome.rule : outcome.cause;
    const next: SlotState = {
      ...this.#slot,
      unmapped: undefined,
      failures,
      backoffUntilMs: nowMs + demandBackoffMs(failures),
      unknownSinceMs: repeatable ? this.#slot.unknownSinceMs : (this.#slot.unknownSinceMs ?? nowMs),
      nextRefreshAtMs: waitsForEnd ? this.#slot.expiresAtMs : nowMs + proactiveRetryMs(failures, random),
    };
    const slot = withAttempt(next, this.#summary(status, reason, refused?.code, rule));
    const account = this.#put(slot);
    this.#say(
      "integrated_account:refresh_failed",
      slot,
      reason,
      refused === undefined ? { cause: rule } : providerCode(refused),
    );
    return this.#plan("failed", account);
  }

  #put(slot: SlotState, fields: Readonly<Record<string, string>> = {}): Account {
    const account: Account = {
      ...this.#account,
      fields: { ...this.#account.fields, ...fields },
      slots: { ...this.#account.slots, [this.#snapshot.key.slot]: slot },
      updatedAtMs: this.#world.nowMs,
    };
    this.#draft.put(key("account", account.id), account);
    return account;
  }

  #say(
    type: LifecycleType | "feed:slot_changed",
    slot: SlotState,
    reason: string,
    detail: Readonly<Record<string, string>> = {},
  ): void {
    const { nowMs } = this.#world;
    const who = { attempt_id: this.#held.attemptId, instance: this.#world.instance };
    this.#draft.event(
      slotEvent(type, this.#account, this.#snapshot.key.slot, slot, nowMs, reason, { ...who, ...detail }),
    );
  }

  #summary(
    httpStatus: number | undefined,
    outcome: string,
    code: string | undefined,
    rule: string,
  ): AttemptSummary {
    const { nowMs, instance } = this.#world;
    const { attemptId, generation } = this.#held;
    return { attemptId, atMs: nowMs, instance, generation, httpStatus, outcome, code, rule };
  }

  #plan(effect: Effect, account: Account): CommitPlan {
    return { draft: this.#draft, effect, account };
  }
}

function providerCode(outcome: Refusal): Readonly<Record<string, string>> {
  return outcome.code === undefined ? {} : { provider_code: outcome.code };
}
