import { KeyturnError, type Reason } from "../errors.ts";
import { type Account, DEFAULT_SLOT, type ReauthReason, type SlotState } from "./account.ts";
import { MAX_DEMAND_BACKOFF_MS, MAX_REJECTION_PAUSE_MS } from "./backoff.ts";
import { bufferMs, isFresh, isValid } from "./freshness.ts";
import type { ClientState } from "./snapshot.ts";
import type { Ask } from "./token.ts";
import type { RefreshRules } from "./vendor.ts";

/** From this many transient failures in a row, over as many accounts, a client is only probed. */
export const BREAKER_OPENS_AT = 5;

/** Who may still hold the answer to a request of this generation. */
export type Doubt =
  | undefined
  /** This process is still listening, or has not yet written down what it heard. */
  | "listening"
  /** Another instance's, and its hold has not passed. */
  | "held"
  /** Another instance's, its hold has passed: its answer can only come from a journal now. */
  | "hold_passed";

export interface Situation {
  readonly account: Account | undefined;
  readonly client: ClientState;
  readonly rules: RefreshRules | undefined;
  readonly doubt: Doubt;
  /** The store was set back: its refresh tokens may be spent. */
  readonly isHeld?: boolean | undefined;
  readonly nowMs: number;
}

export type Decision =
  | { readonly kind: "serve" }
  | { readonly kind: "refuse"; readonly error: KeyturnError }
  | { readonly kind: "refresh" }
  /** The credential cannot be refreshed: ask the provider whether it still works. */
  | { readonly kind: "verify" }
  /** It has ended and there is nothing to refresh it with. */
  | { readonly kind: "flag"; readonly reason: ReauthReason };

/** Everything GetToken, the scheduler and an operator's refresh may do with one slot, from what is known of it. */
export function decide(ask: Ask, at: Situation): Decision {
  const { account, nowMs } = at;
  if (account === undefined) return refuse(ask, "ACCOUNT_NOT_FOUND", "There is no such account.");
  if (account.disabled) return refuse(ask, "ACCOUNT_DISABLED", "An operator has disabled this account.");
  const slot = account.slots[ask.key.slot];
  if (slot === undefined) return withoutSlot(ask, account);
  if (slot.state === "needs_reauth") return needsReauth(ask, account, slot);
  if (!wantsNew(ask, account, slot, nowMs)) return { kind: "serve" };

  if (!slot.refreshable) return unrefreshable(ask, account, slot, at);
  const obstacle = obstacleTo(ask, account, slot, at);
  if (obstacle === undefined) return { kind: "refresh" };
  const mayServe = ask.trigger === "demand" && isValid(slot.expiresAtMs, nowMs);
  return mayServe ? { kind: "serve" } : { kind: "refuse", error: obstacle };
}

function wantsNew(ask: Ask, account: Account, slot: SlotState, nowMs: number): boolean {
  switch (ask.trigger) {
    case "operator":
      return true;
    case "bulk":
      return ask.replaces === undefined || slot.generation <= ask.replaces;
    case "proactive":
      return slot.nextRefreshAtMs !== undefined && slot.nextRefreshAtMs <= (ask.dueUntilMs ?? nowMs);
    case "demand":
      return (
        !isFresh(slot.expiresAtMs, nowMs, neededMs(ask, slot)) ||
        isBelievedRejection(ask, account, slot, nowMs)
      );
  }
}

/** A lifetime that the vendor does not give is asked for once per token, not by every caller. */
function neededMs(ask: Ask, slot: SlotState): number {
  const lifetimeMs = slot.expiresAtMs === undefined ? undefined : slot.expiresAtMs - slot.issuedAtMs;
  const buffer = bufferMs(lifetimeMs);
  const alreadyTried = slot.obtainedForMs !== undefined && ask.minValidityMs <= slot.obtainedForMs;
  return alreadyTried ? buffer : Math.max(buffer, ask.minValidityMs);
}

function isBelievedRejection(ask: Ask, account: Account, slot: SlotState, nowMs: number): boolean {
  if (!rejectsCurrent(ask, account, slot)) return false;
  const pauseMs = (slot.rejection?.notBeforeMs ?? nowMs) - nowMs;
  // As with the back-off below: a longer pause is another clock's mistake.
  return pauseMs <= 0 || pauseMs > MAX_REJECTION_PAUSE_MS;
}

/** True when the caller's rejected token is the current one, not an older one that has been replaced already. */
export function rejectsCurrent(ask: Ask, account: Account, slot: SlotState): boolean {
  return ask.rejected?.incarnation === account.incarnation && ask.rejected.generation === slot.generation;
}

function unrefreshable(ask: Ask, account: Account, slot: SlotState, at: Situation): Decision {
  if (ask.trigger === "operator") {
    return at.rules?.canVerify
      ? { kind: "verify" }
      : refuse(
          ask,
          "PROVIDER_UNAVAILABLE",
          "This credential cannot be refreshed, and its provider file names no verification.",
          {
            cause: "not_refreshable",
          },
        );
  }
  if (!isValid(slot.expiresAtMs, at.nowMs))
    return {
      kind: "flag",
      reason: slot.credentialExpiresAtMs === undefined ? "no_refresh_token" : "credential_expired",
    };
  // One that never ends by date has a date only for its first check.
  const isFirstCheck = ask.trigger === "proactive" && slot.expiresAtMs === undefined;
  if (!isFirstCheck && !isBelievedRejection(ask, account, slot, at.nowMs)) return { kind: "serve" };
  return at.rules?.canVerify ? { kind: "verify" } : { kind: "serve" };
}

/** Why nothing may be sent now; undefined when something may. */
function obstacleTo(ask: Ask, account: Account, slot: SlotState, at: Situation): KeyturnError | undefined {
  const { client, rules, nowMs } = at;
  const fail = (reason: Reason, text: string, cause: string, retryAfterMs?: number) =>
    errorFor(ask, account, reason, text, { cause }, retryAfterMs);
  if (rules === undefined) {
    return fail(
      "PROVIDER_NOT_FOUND",
      "The provider's file is missing, so this account cannot be refreshed.",
      "file_missing",
    );
  }
  if (client.client === undefined && (rules.needsClient !== false || account.client !== ""))
    return fail("CLIENT_NOT_FOUND", "The account's OAuth client does not exist.", "client_missing");
  if (client.client?.onHold !== undefined) {
    return fail("CLIENT_ON_HOLD", "An operator holds all refreshes of this OAuth client.", "on_hold");
  }
  if (client.client?.fault !== undefined) {
    return fail(
      "CLIENT_MISCONFIGURED",
      "The provider refuses this OAuth client itself; replace its secret or registration.",
      client.client.fault.code,
    );
  }
  if (at.isHeld && !rules.resendSafe) {
    return fail(
      "REFRESH_UNCERTAIN",
      "The store was set back, so this refresh token may be spent; refreshes wait until an operator accepts.",
      "store_set_back",
      60_000,
    );
  }
  if (client.cooldown !== undefined) return coolingDown(ask, account, client.cooldown, nowMs);
  if (slot.unmapped !== undefined) {
    return fail(
      "PROVIDER_UNAVAILABLE",
      "The provider's last answer was kept but its file does not map it; mend the file, then remap the account.",
      "answer_not_mapped",
    );
  }
  if (isInDoubt(slot, at)) {
    return fail(
      "REFRESH_UNCERTAIN",
      "A refresh was sent and its answer is not known yet; sending another one could end the grant.",
      at.doubt ?? "unknown_outcome",
      5_000,
    );
  }
  const backoffMs = (slot.backoffUntilMs ?? nowMs) - nowMs;
  // More than the longest back-off ahead was written by another clock, or before this one jumped.
  if (ask.trigger === "demand" && backoffMs > 0 && backoffMs <= MAX_DEMAND_BACKOFF_MS) {
    return fail(
      "PROVIDER_UNAVAILABLE",
      "The provider failed lately; waiting before trying again.",
      "backing_off",
      backoffMs,
    );
  }
  return undefined;
}

/** Never resend while someone may hold the answer, and after a lost one not before the access token has ended. */
function isInDoubt(slot: SlotState, at: Situation): boolean {
  if (at.rules?.resendSafe) return false;
  if (at.doubt === "listening" || at.doubt === "held") return true;
  const answerMayBeLost = at.doubt === "hold_passed" || slot.unknownSinceMs !== undefined;
  return answerMayBeLost && isValid(slot.expiresAtMs, at.nowMs);
}

/** What whoever would ask a client's token endpoint is told while nobody does. */
export function coolingDown(
  ask: Pick<Ask, "key">,
  account: Account,
  cooldown: NonNullable<ClientState["cooldown"]>,
  nowMs: number,
): KeyturnError {
  const retryAfterMs = Math.max(1_000, cooldown.untilMs - nowMs);
  if (cooldown.reason === "rate_limited") {
    return new KeyturnError(
      "PROVIDER_RATE_LIMITED",
      "The provider's token endpoint throttles this OAuth client.",
      {
        metadata: contextOf(ask, account, { cause: "token_endpoint" }),
        retryAfterMs,
        rateLimit: {
          limit: cooldown.limit,
          remaining: cooldown.remaining,
          resetAfterMs: retryAfterMs,
          retryAfterMs,
        },
      },
    );
  }
  const text = "The provider's token endpoint is failing; it is probed until it works again.";
  return errorFor(ask, account, "PROVIDER_UNAVAILABLE", text, { cause: cooldown.reason }, retryAfterMs);
}

function withoutSlot(ask: Ask, account: Account): Decision {
  const names = Object.keys(account.slots);
  if (names.length === 0)
    return refuse(ask, "ACCOUNT_PENDING", "The customer has not finished connecting this account.");
  const error = new KeyturnError("INVALID_REQUEST", `token_name: this account has ${names.join(", ")}`, {
    violations: [{ field: "token_name", description: `one of ${names.join(", ")}` }],
    metadata: contextOf(ask, account, {}),
  });
  return { kind: "refuse", error };
}

function needsReauth(ask: Ask, account: Account, slot: SlotState): Decision {
  const text = "The provider refuses this account's credential; the customer has to authorize again.";
  return {
    kind: "refuse",
    error: errorFor(ask, account, "REAUTHORIZATION_REQUIRED", text, {
      cause: slot.reauthReason ?? "refused",
    }),
  };
}

function contextOf(
  ask: Pick<Ask, "key">,
  account: Account | undefined,
  more: Readonly<Record<string, string>>,
) {
  return {
    account_id: ask.key.accountId,
    ...(ask.key.slot === DEFAULT_SLOT ? {} : { token_name: ask.key.slot }),
    ...(account === undefined ? {} : { provider: account.provider }),
    ...(account === undefined || account.client === "" ? {} : { client: account.client }),
    ...more,
  };
}

/** An error that names the account it is about. */
export function errorFor(
  ask: Pick<Ask, "key">,
  account: Account | undefined,
  reason: Reason,
  text: string,
  metadata: Readonly<Record<string, string>>,
  retryAfterMs?: number,
): KeyturnError {
  return new KeyturnError(reason, text, { metadata: contextOf(ask, account, metadata), retryAfterMs });
}

function refuse(
  ask: Ask,
  reason: Reason,
  text: string,
  metadata: Readonly<Record<string, string>> = {},
): Decision {
  return { kind: "refuse", error: errorFor(ask, undefined, reason, text, metadata) };
}
