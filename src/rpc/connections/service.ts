import { create } from "@bufbuild/protobuf";
import { invalid } from "../../errors.ts";
import {
  type CompleteAuthorizationRequest,
  CompleteAuthorizationResponseSchema,
  ConnectionService,
  type ConnectWithSecretRequest,
  ConnectWithSecretResponseSchema,
  DisconnectResponseSchema,
  type StartAuthorizationRequest,
  StartAuthorizationResponseSchema,
} from "../../gen/keyturn/v1/connection_service_pb.js";
import type { Accounts } from "../../tokens/accounts.ts";
import { checkCallbackUrl, checkRedirectUri } from "../../tokens/callback-url.ts";
import type { Completed, Connections } from "../../tokens/connections.ts";
import type { Actor } from "../../tokens/sealing.ts";
import { Secret } from "../../tokens/secret.ts";
import { type Act, acted, type Call, type Handlers, unary } from "../call.ts";
import { requireSight } from "../policy.ts";
import { msOf, time, timestamp } from "../wire.ts";

export interface ConnectionServiceDeps {
  readonly connections: Connections;
  readonly accounts: Pick<Accounts, "get">;
  readonly newAccountId: () => string;
  /** Registered ones, matched exactly. */
  readonly returnUrls: readonly string[];
  /** The callback listener's; undefined: there is none. */
  readonly redirectUri: string | undefined;
  /** Every call is an act, on whichever listener it comes. */
  readonly act: Act;
}

/** How an app connects its customers' accounts. */
export function connectionHandlers(deps: ConnectionServiceDeps): Handlers {
  const { method } = ConnectionService;
  const audited = <O>(accountId: string, call: Call, work: () => Promise<O>) =>
    acted(deps.act, { rpc: call.rpc, caller: call.caller.name, account: accountId }, work);
  return {
    startAuthorization: unary(method.startAuthorization, (request, call) =>
      audited(request.accountId, call, () => start(deps, request, call)),
    ),
    completeAuthorization: unary(method.completeAuthorization, (request, call) =>
      audited("", call, () => complete(deps, request, call)),
    ),
    connectWithSecret: unary(method.connectWithSecret, (request, call) =>
      audited(request.accountId, call, () => withSecret(deps, request, call)),
    ),
    disconnect: unary(method.disconnect, ({ accountId }, call) =>
      audited(accountId, call, async () => {
        permitOf(call)((await deps.accounts.get(accountId)).value);
        const revoked = await deps.connections.disconnect(accountId, actorOf(call));
        return create(DisconnectResponseSchema, { revoked });
      }),
    ),
  };
}

async function start(deps: ConnectionServiceDeps, request: StartAuthorizationRequest, call: Call) {
  const { provider, client, tenant, scopes, fields, labels, returnUrl, allowIdentityChange } = request;
  const redirectUri = request.redirectUri === "" ? deps.redirectUri : request.redirectUri;
  if (redirectUri === undefined)
    throw invalid("redirect_uri", "your own callback's URL: this sidecar has no callback listener");
  if (request.redirectUri !== "") checkRedirectUri(request.redirectUri);
  if (returnUrl !== "" && !deps.returnUrls.includes(returnUrl))
    throw invalid("return_url", "one that connections.return_urls of the configuration lists");
  const accountId = request.accountId === "" ? deps.newAccountId() : request.accountId;
  const wanted = { provider, client, tenant, accountId, fields, labels, allowIdentityChange };
  const asked = { scopes, redirectUri, returnUrl, caller: nameOf(call) ?? "" };
  const started = await deps.connections.start({ ...wanted, ...asked }, permitOf(call), actorOf(call));
  return create(StartAuthorizationResponseSchema, {
    authorizationUrl: started.url,
    accountId: started.accountId,
    browserBinding: started.browserBinding.reveal(),
    expireTime: timestamp(started.expiresAtMs),
    redirectUri,
  });
}

async function complete(deps: ConnectionServiceDeps, request: CompleteAuthorizationRequest, call: Call) {
  checkCallbackUrl(request.callbackUrl);
  if (request.browserBinding === "")
    throw invalid("browser_binding", "the one that StartAuthorization gave, from the customer's session");
  const who = {
    browserBinding: new Secret(request.browserBinding),
    caller: nameOf(call),
    permit: permitOf(call),
    untilBootMs: call.untilBootMs,
  };
  return completed(await deps.connections.complete(request.callbackUrl, who, actorOf(call)));
}

async function withSecret(deps: ConnectionServiceDeps, request: ConnectWithSecretRequest, call: Call) {
  const { provider, client, tenant, fields, labels, secrets, allowIdentityChange } = request;
  const accountId = request.accountId === "" ? deps.newAccountId() : request.accountId;
  const wanted = { provider, client, tenant, accountId, fields, labels, allowIdentityChange };
  const expiresAtMs = msOf("expire_time", request.expireTime);
  const given = { ...wanted, secrets, expiresAtMs, untilBootMs: call.untilBootMs };
  const { account, verified } = await deps.connections.withSecret(given, permitOf(call), actorOf(call));
  const { id, externalSubject } = account;
  return create(ConnectWithSecretResponseSchema, { accountId: id, verified, externalSubject });
}

function completed({ account, returnUrl }: Completed) {
  const [slot] = Object.values(account.slots);
  const scopes = Object.values(account.slots).flatMap((each) => each.scopes);
  return create(CompleteAuthorizationResponseSchema, {
    accountId: account.id,
    grantedScopes: [...new Set(scopes)],
    ...time("expireTime", slot?.expiresAtMs),
    returnUrl,
    externalSubject: account.externalSubject,
  });
}

/** Undefined without caller tokens: then one caller cannot be told from another. */
function nameOf({ caller }: Call): string | undefined {
  return caller.isRestricted ? caller.name : undefined;
}

function permitOf(call: Call) {
  return ({
    id,
    tenant,
    provider,
  }: {
    readonly id: string;
    readonly tenant: string;
    readonly provider: string;
  }) => requireSight(call.caller, { tenant, provider, account: id });
}

function actorOf(call: Call): Actor {
  return { caller: call.caller.name, purpose: "connect" };
}
