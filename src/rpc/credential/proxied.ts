import type { Clock } from "../../clock.ts";
import { KeyturnError } from "../../errors.ts";
import type { HttpField, ProxyRequest } from "../../gen/keyturn/v1/credential_service_pb.js";
import type { Account } from "../../tokens/account.ts";
import type { Broker } from "../../tokens/broker.ts";
import type { Certificates } from "../../tokens/certificates.ts";
import type { Forward, Forwarded, ForwardedCall, HttpFields } from "../../tokens/forwarding.ts";
import { Secret } from "../../tokens/secret.ts";
import { parseRevision } from "../../tokens/token.ts";
import type { ClientCertificate } from "../../tokens/vendor.ts";
import type { StreamCall } from "../call.ts";
import { requireRequest, requireSight } from "../policy.ts";
import type { Sight } from "../sight.ts";
import { tokenKeyOf } from "./get-token.ts";
import { readToken, type TokenInUse } from "./proxy-wire.ts";

export interface ProxyDeps {
  readonly broker: Pick<Broker, "account" | "getToken">;
  readonly sight: Sight;
  readonly clock: Clock;
  readonly forward: Forward;
  readonly certificates: Pick<Certificates, "of">;
  /** Longest wait of a caller without a deadline. */
  readonly maxWaitMs: number;
  /** Of the body of an answer that is not streamed. */
  readonly maxResponseBytes: number;
  /** Counts an opened answer for the audit trail. */
  readonly opened: (accountId: string, caller: string, purpose: string) => void;
}

/** The body of a call, and whether it can be sent from its beginning once more. */
export interface Body {
  readonly content: ForwardedCall["body"];
  readonly canBeSentAgain: () => boolean;
}

/** How the call's answer is wanted, and until when (boot clock) the call may take. */
export type Wanted = Pick<ForwardedCall, "maxBodyBytes" | "untilBootMs">;

/** An account's token, and where it may be used. */
interface Granted {
  readonly token: TokenInUse;
  readonly account: Account;
  readonly certificate: ClientCertificate | undefined;
}

/**
 * Makes the call with the account's token, and once more with a refreshed one when the provider says that the token has
 * ended: the same path as a caller's `rejected_revision`, so that many such answers cause one refresh.
 */
export async function proxied(
  deps: ProxyDeps,
  request: ProxyRequest,
  call: StreamCall,
  body: Body,
  wanted: Wanted,
): Promise<Forwarded> {
  requireRequest(call.caller, request);
  const seen = deps.sight.check(call.caller, request.accountId);
  if (seen !== undefined) await seen;
  const send = (as: Granted) => deps.forward(callAs(as, deps, request, call, body, wanted));
  const first = await granted(deps, request, call, undefined);
  const answer = await send(first);
  if (!answer.tokenEnded || !body.canBeSentAgain()) return answer;
  try {
    const second = await granted(deps, request, call, first.token.revision);
    if (second.token.revision === first.token.revision) return answer;
    answer.cancel();
    return await send(second);
  } catch (error) {
    answer.cancel();
    throw error;
  }
}

async function granted(
  deps: ProxyDeps,
  request: ProxyRequest,
  call: StreamCall,
  rejectedRevision: string | undefined,
): Promise<Granted> {
  const ask = {
    key: tokenKeyOf(request),
    minValidityMs: 0,
    rejected: rejectedRevision === undefined ? undefined : parseRevision(rejectedRevision),
    trigger: "demand",
  } as const;
  const actor = { caller: call.caller.name, purpose: "proxy" };
  const answer = deps.broker.getToken(ask, {
    untilBootMs: Math.min(call.untilBootMs, deps.clock.boot() + deps.maxWaitMs),
    actor,
  });
  const bytes = answer instanceof Promise ? await answer : answer;
  deps.opened(request.accountId, actor.caller, actor.purpose);
  const token = readToken(bytes);
  const known = deps.broker.account(request.accountId);
  const account = known instanceof Promise ? await known : known;
  const waited = answer instanceof Promise || known instanceof Promise;
  // Meanwhile the account may have been deleted, and made anew as somebody else's.
  if (
    account === undefined ||
    (waited && account.incarnation !== parseRevision(token.revision).incarnation)
  ) {
    throw new KeyturnError("REFRESH_UNCERTAIN", "The account keeps changing; try again.", {
      metadata: { cause: "unsettled", account_id: request.accountId },
    });
  }
  if (call.caller.isRestricted) {
    const { tenant, provider } = account;
    requireSight(call.caller, { tenant, provider, account: request.accountId });
  }
  const shown = deps.certificates.of(account, actor);
  return { token, account, certificate: shown === undefined ? undefined : await shown };
}

function callAs(
  { token, account, certificate }: Granted,
  deps: ProxyDeps,
  request: ProxyRequest,
  { caller, signal }: StreamCall,
  body: Body,
  wanted: Wanted,
): ForwardedCall {
  return {
    ...wanted,
    provider: account.provider,
    fields: account.fields,
    baseUrl: token.baseUrl,
    credential: new Secret({ headers: token.headers, queryParameters: token.queryParameters }),
    clientCertificate: certificate,
    method: request.method,
    path: request.path,
    query: pairsOf(request.query),
    headers: pairsOf(request.headers),
    body: body.content,
    bodyBytes: request.contentLength === undefined ? undefined : Number(request.contentLength),
    answerWithinMs: deps.maxWaitMs,
    signal,
    permits: caller.isRequestRestricted
      ? (method, path) => path !== undefined && caller.mayRequest({ method, path })
      : undefined,
  };
}

function pairsOf(fields: readonly HttpField[]): HttpFields {
  return fields.map(({ name, value }) => [name, value]);
}
