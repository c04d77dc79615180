import type { Clock } from "../../clock.ts";
import { KeyturnError } from "../../errors.ts";
import { Authorization } from "../../gen/envoy/service/auth/v3/external_auth_pb.js";
import type { Account } from "../../tokens/account.ts";
import type { Broker } from "../../tokens/broker.ts";
import { parseRevision } from "../../tokens/token.ts";
import { type Call, unary } from "../call.ts";
import { matchesGlob, requireRequest, requireSight } from "../policy.ts";
import type { RequirePortable } from "../portable.ts";
import { allowed } from "./allowed.ts";
import { type Asked, askedOf, type Fence } from "./asked.ts";
import { denied } from "./denied.ts";
import { type Asking, type Opened, readAsking, readOpened } from "./wire.ts";

/** Envoy's clock runs from before it sent the request; after its time limit it says 503 without a reason. */
const SHARE_OF_TIME = 0.9;

export interface CheckDeps {
  readonly broker: Pick<Broker, "account" | "getToken">;
  /** True when the account's provider may be called at `host`, as a Host header has it. */
  readonly allowsHost: (account: Account, host: string) => boolean;
  readonly requirePortable: RequirePortable;
  readonly clock: Clock;
  /** Longest wait when Envoy sets no time limit. */
  readonly maxWaitMs: number;
  /** Counts an opened answer for the audit trail. */
  readonly opened: (accountId: string, caller: string, purpose: string) => void;
}

/**
 * Envoy's external authorization: lets a request through with the account's credential in it, or answers in the
 * provider's place. Whatever goes wrong is a denial; only a sidecar that is not there is an error.
 */
export function check(deps: CheckDeps) {
  const handler = unary(Authorization.method.check, (request: Asking, call: Call) => {
    const asked = askedOf(request);
    const account = deps.broker.account(asked.ask.key.accountId);
    if (account instanceof Promise) return account.then((found) => decide(deps, asked, call, found));
    return decide(deps, asked, call, account);
  });
  return { ...handler, failed: denied, decode: readAsking };
}

function decide(
  deps: CheckDeps,
  asked: Asked,
  call: Call,
  account: Account | undefined,
): Uint8Array | Promise<Uint8Array> {
  const { accountId } = asked.ask.key;
  requireAllowed(deps, asked, call, account);
  const nowMs = deps.clock.boot();
  const leftMs = Math.min((call.untilBootMs - nowMs) * SHARE_OF_TIME, deps.maxWaitMs);
  const answer = deps.broker.getToken(asked.ask, {
    untilBootMs: nowMs + leftMs,
    actor: { caller: call.caller.name, purpose: "authz" },
  });
  if (!(answer instanceof Promise)) return answered(deps, asked, call, readOpened(answer));
  return answer.then(async (bytes) => {
    // Meanwhile the account may have become another one, or moved to another host.
    const token = readOpened(bytes);
    const { incarnation } = parseRevision(token.revision);
    const response = answered(deps, asked, call, token);
    const now = await deps.broker.account(accountId);
    requireAllowed(deps, asked, call, now);
    if (now?.incarnation === incarnation) return response;
    throw new KeyturnError("REFRESH_UNCERTAIN", "The account keeps changing; try again.", {
      metadata: { cause: "unsettled", account_id: accountId },
    });
  });
}

function answered(deps: CheckDeps, asked: Asked, call: Call, token: Opened): Uint8Array {
  deps.opened(asked.ask.key.accountId, call.caller.name, "authz");
  return allowed(token, asked, call.caller.isRequestRestricted);
}

/** An account outside of the fence answers as one that is not there would, so that ids cannot be probed. */
function requireAllowed(deps: CheckDeps, asked: Asked, call: Call, account: Account | undefined): void {
  const { accountId } = asked.ask.key;
  const of = { tenant: account?.tenant ?? "", provider: account?.provider ?? "", account: accountId };
  if (call.caller.isRestricted) requireSight(call.caller, of);
  requireRequest(call.caller, asked);
  if (!isInside(asked.fence, of)) {
    throw new KeyturnError("CALLER_NOT_ALLOWED", "The route's globs do not include this account.", {
      metadata: { account_id: accountId },
    });
  }
  if (account === undefined) {
    throw new KeyturnError("ACCOUNT_NOT_FOUND", "There is no such account.", {
      metadata: { account_id: accountId },
    });
  }
  deps.requirePortable(account, asked.ask.key.slot);
  if (deps.allowsHost(account, asked.host)) return;
  throw new KeyturnError("DESTINATION_NOT_ALLOWED", "The provider's file does not allow this host.", {
    metadata: { cause: "host_not_allowed", account_id: accountId, provider: account.provider },
  });
}

function isInside(
  fence: Fence,
  of: { readonly tenant: string; readonly provider: string; readonly account: string },
): boolean {
  return (
    (fence.tenant === undefined || matchesGlob(fence.tenant, of.tenant)) &&
    (fence.provider === undefined || matchesGlob(fence.provider, of.provider)) &&
    (fence.account === undefined || matchesGlob(fence.account, of.account))
  );
}
