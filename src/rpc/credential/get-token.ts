import type { Clock } from "../../clock.ts";
import { invalid } from "../../errors.ts";
import { CredentialService, type GetTokenRequest } from "../../gen/keyturn/v1/credential_service_pb.js";
import { type Account, DEFAULT_SLOT, requireAccountId, type SlotKey } from "../../tokens/account.ts";
import type { Broker } from "../../tokens/broker.ts";
import { type Ask, parseRevision } from "../../tokens/token.ts";
import { type Call, unary } from "../call.ts";
import type { RequirePortable } from "../portable.ts";
import type { Sight } from "../sight.ts";
import { durationOf } from "../wire.ts";

const MAX_VALIDITY_MS = 86_400_000;

export interface GetTokenDeps {
  readonly broker: Pick<Broker, "account" | "getToken">;
  readonly sight: Sight;
  readonly clock: Clock;
  /** Longest wait of a caller without a deadline. */
  readonly maxWaitMs: number;
  readonly requirePortable: RequirePortable;
  /** Counts an opened answer for the audit trail. */
  readonly opened: (accountId: string, caller: string, purpose: string) => void;
}

export function getToken(deps: GetTokenDeps) {
  return unary(CredentialService.method.getToken, (request, call) => {
    const ask = askOf(request);
    const seen = deps.sight.check(call.caller, request.accountId);
    if (seen !== undefined) return seen.then(() => answer(deps, ask, call));
    return answer(deps, ask, call);
  });
}

function answer(deps: GetTokenDeps, ask: Ask, call: Call): Uint8Array | Promise<Uint8Array> {
  const untilBootMs = Math.min(call.untilBootMs, deps.clock.boot() + deps.maxWaitMs);
  const bytes = deps.broker.getToken(ask, {
    untilBootMs,
    actor: { caller: call.caller.name, purpose: "token" },
  });
  deps.opened(ask.key.accountId, call.caller.name, "token");
  return bytes instanceof Promise
    ? bytes.then((found) => portable(deps, ask, found))
    : portable(deps, ask, bytes);
}

/** What answers is known by now. */
function portable(
  { broker, requirePortable }: GetTokenDeps,
  { key }: Ask,
  bytes: Uint8Array,
): Uint8Array | Promise<Uint8Array> {
  const pass = (account: Account | undefined) => {
    if (account !== undefined) requirePortable(account, key.slot);
    return bytes;
  };
  const account = broker.account(key.accountId);
  return account instanceof Promise ? account.then(pass) : pass(account);
}

function askOf(request: GetTokenRequest): Ask {
  const key = tokenKeyOf(request);
  const rejected = request.rejectedRevision === "" ? undefined : parseRevision(request.rejectedRevision);
  if (rejected !== undefined && rejected.slot !== key.slot)
    throw invalid("rejected_revision", "is of another token of this account");
  return {
    key,
    minValidityMs: durationOf("min_validity", request.minValidity, MAX_VALIDITY_MS),
    rejected,
    trigger: "demand",
  };
}

/** INVALID_REQUEST when it cannot be an account's id. */
export function tokenKeyOf(request: { readonly accountId: string; readonly tokenName: string }): SlotKey {
  requireAccountId(request.accountId);
  return {
    accountId: request.accountId,
    slot: request.tokenName === "" ? DEFAULT_SLOT : request.tokenName,
  };
}
