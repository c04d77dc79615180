import { create } from "@bufbuild/protobuf";
import {
  type ExplainAccountResponse,
  ExplainAccountResponseSchema,
} from "../../gen/keyturn/v1/account_service_pb.js";
import { statusOf } from "../../tokens/account.ts";
import { isProbing } from "../../tokens/breaker.ts";
import type { JournalEntry } from "../../tokens/journal.ts";
import type { Snapshot } from "../../tokens/snapshot.ts";
import { time, timestamp } from "../wire.ts";
import { accountMessage } from "./message.ts";

/** What the store's records do not say. */
export interface Circumstances {
  /** The account's answers on this disk. */
  readonly kept: readonly JournalEntry[];
  /** The store was set back, and this account's refreshes wait for an operator. */
  readonly isHeld: boolean;
  /** Why the key-encryption key cannot be used; undefined: it can. */
  readonly kekFault: string | undefined;
  readonly nowMs: number;
}

/** Everything that stands in an account's way, in the order in which somebody at 2 AM needs it. */
export function explanation(snapshot: Snapshot, at: Circumstances): ExplainAccountResponse {
  const { kept, isHeld, kekFault } = at;
  const { account, slot, lock, attempt, hold, oauthClient, cooldown, breaker } = snapshot;
  if (account === undefined) throw new Error("explained without an account");
  const { why, next } = reasonFor(snapshot, at);
  return create(ExplainAccountResponseSchema, {
    account: accountMessage(account, oauthClient?.value),
    tokenName: snapshot.key.slot,
    why,
    nextStep: next,
    attempts: (slot?.history ?? []).map((one) => ({
      attemptId: one.attemptId,
      time: timestamp(one.atMs),
      instance: one.instance,
      generation: BigInt(one.generation),
      httpStatus: one.httpStatus ?? 0,
      outcome: one.outcome,
      providerCode: one.code ?? "",
      matchedRule: one.rule,
    })),
    ...(lock === undefined
      ? {}
      : { lock: { instance: lock.value.instance, notAfter: timestamp(lock.value.notAfterMs) } }),
    ...(attempt === undefined
      ? {}
      : {
          openAttempt: {
            attemptId: attempt.value.attemptId,
            instance: attempt.value.instance,
            time: timestamp(attempt.value.atMs),
            generation: BigInt(attempt.value.generation),
            held: hold !== undefined,
          },
        }),
    journalAttemptIds: kept.map((entry) => entry.attemptId),
    sidecar: { storeSetBack: isHeld, kekFault: kekFault ?? "" },
    client: {
      onHold: oauthClient?.value.onHold !== undefined,
      fault: oauthClient?.value.fault?.code ?? "",
      cooldownReason: cooldown?.value.reason ?? "",
      ...time("cooldownUntil", cooldown?.value.untilMs),
      outageSuspected: breaker?.value.suspected !== undefined,
      failingAccounts: breaker?.value.failing.length ?? 0,
    },
  });
}

interface Reason {
  readonly why: string;
  readonly next: string;
}

// The first of these that applies is the one that matters.
function reasonFor(snapshot: Snapshot, { kept, isHeld, kekFault, nowMs }: Circumstances): Reason {
  const { account, slot, oauthClient, cooldown, breaker, attempt } = snapshot;
  const client = oauthClient?.value;
  const id = snapshot.key.accountId;
  const clientName = `${snapshot.client.provider} ${snapshot.client.client}`;
  if (account?.value.disabled)
    return { why: "An operator has disabled it.", next: `keyturn accounts enable ${id}` };
  if (slot === undefined)
    return {
      why: "The customer has not finished connecting it.",
      next: "Have the customer connect, or put a credential.",
    };
  if (slot.state === "needs_reauth") return reauth(slot.reauthReason, slot.history[0]?.code);
  if (kekFault !== undefined) {
    return {
      why: `The key-encryption key does not answer as it should (${kekFault}): what is not in memory is neither opened nor refreshed.`,
      next: "Bring the key's backend back: keyturn keys status says what it answers.",
    };
  }
  if (isHeld) {
    return {
      why: "The store was set back: its refresh token may be spent, and waits until an operator accepts.",
      next: "Replay journals, then keyturn journal accept-restore",
    };
  }
  if (client?.onHold !== undefined) {
    return {
      why: `Its OAuth client is on hold, by ${client.onHold.by}: ${client.onHold.note || "no note"}.`,
      next: `keyturn clients release ${clientName}`,
    };
  }
  if (client?.fault !== undefined) {
    return {
      why: `The provider refuses the OAuth client itself (${client.fault.code}).`,
      next: `Put a working secret: keyturn clients put ${clientName}`,
    };
  }
  if (slot.unmapped !== undefined) {
    return {
      why: "The provider's last answer was kept, but the provider file reads no token from it.",
      next: `Mend the file, then keyturn accounts remap ${id}`,
    };
  }
  if (kept.length > 0)
    return {
      why: "An answer of the provider is kept on this disk and not stored yet.",
      next: "It is stored as soon as store and KEK are back; keyturn journal list",
    };
  if (attempt !== undefined && attempt.value.generation === slot.generation) {
    return {
      why: `A refresh was sent by ${attempt.value.instance} and its answer is not known yet.`,
      next: "Wait for its hold to pass (90 s), or bring that instance back.",
    };
  }
  if (cooldown !== undefined) {
    const seconds = Math.max(0, Math.ceil((cooldown.value.untilMs - nowMs) / 1_000));
    return {
      why: `The token endpoint is left alone for ${seconds} s (${cooldown.value.reason}).`,
      next: "Nothing: it goes on by itself.",
    };
  }
  if (breaker !== undefined && isProbing(breaker.value)) {
    return {
      why: "The provider's token endpoint is failing for many accounts; one at a time is probed.",
      next: "Check the provider's status page; it goes on by itself.",
    };
  }
  if (slot.unknownSinceMs !== undefined) {
    return {
      why: "A refresh was sent and its answer was lost; the old token is used to its end, then one more try is made.",
      next: "Nothing yet; after a refusal the customer has to authorize again.",
    };
  }
  if (slot.failures > 0) return failing(slot.failures, slot.history[0]);
  const status = account === undefined ? "PENDING" : statusOf(account.value);
  return { why: status === "ACTIVE" ? "It works." : `It is ${status}.`, next: "Nothing to do." };
}

type Attempted = NonNullable<Snapshot["slot"]>["history"][number];

function failing(failures: number, last: Attempted | undefined): Reason {
  const how =
    last === undefined ? "" : ` (${[last.outcome, last.code ?? last.rule].filter(Boolean).join(": ")})`;
  const why =
    failures === 1 ? `The last refresh failed${how}.` : `The last ${failures} refreshes failed${how}.`;
  const next =
    last?.outcome === "fix_configuration"
      ? "Mend what the last attempt's code names: the account's fields or credential, the OAuth client or the provider's file."
      : "It is tried again on demand and by schedule.";
  return { why, next };
}

function reauth(reason: string | undefined, code: string | undefined): Reason {
  const next = "Have the customer authorize again, or put a new credential.";
  switch (reason) {
    case "no_refresh_token":
      return { why: "Its access token has ended and there is no refresh token.", next };
    case "credential_expired":
      return { why: "Its key or password has passed its end date.", next };
    case "verification_refused":
      return { why: "The provider refused the credential when it was verified.", next };
    default:
      return { why: `The provider refused the refresh${code === undefined ? "" : ` (${code})`}.`, next };
  }
}
