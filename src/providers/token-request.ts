import { KeyturnError } from "../errors.ts";
import type { VendorContext } from "../tokens/vendor.ts";
import type { Provider } from "./provider.ts";
import { buildRequest, type ClientIdentity } from "./request.ts";
import type { Outbound } from "./send.ts";

const MAX_EXCHANGE_MS = 60_000;

/** The OAuth client of a context, in the clear; it goes into one request and nowhere else. */
export function identityOf(context: VendorContext): ClientIdentity | undefined {
  const { client } = context;
  return client === undefined ? undefined : { id: client.record.clientId, secret: client.secret?.reveal() };
}

/** One refresh (RFC 6749 §6), or one token of the client's own (§4.4). INVALID_REQUEST when there is nothing to ask with. */
export function tokenRequest(provider: Provider, context: VendorContext): Outbound {
  const { token } = provider;
  const client = identityOf(context);
  if (token === undefined || client === undefined) {
    throw new KeyturnError(
      "INVALID_REQUEST",
      "This provider's credentials are not fetched from a token endpoint.",
    );
  }
  const { request, clientAuth } = token;
  if (clientAuth !== "id" && client.secret === undefined) {
    throw new KeyturnError(
      "INVALID_REQUEST",
      "The OAuth client has no active secret, and this provider needs one.",
    );
  }
  const outbound = buildRequest({
    provider,
    account: context.account,
    plan: request,
    client,
    clientAuth,
    params: token.grant === "refresh_token" ? refreshParams(context) : mintParams(provider),
    timeoutMs: MAX_EXCHANGE_MS,
  });
  // Only what may be repeated may go out on a connection that may be dead already.
  return { ...outbound, fresh: !provider.refresh.resendSafe };
}

function refreshParams(context: VendorContext): (readonly [string, string])[] {
  const { credential } = context;
  const refreshToken = credential.kind === "oauth" ? credential.refreshToken : undefined;
  if (refreshToken === undefined)
    throw new KeyturnError("INVALID_REQUEST", "The account has no refresh token.");
  // Never a scope: the standard forbids more than was granted, and less is not what a refresh is for.
  return [
    ["grant_type", "refresh_token"],
    ["refresh_token", refreshToken.reveal()],
  ];
}

function mintParams(provider: Provider): (readonly [string, string])[] {
  const { scopes = [], scopeSeparator = " " } = provider.token ?? {};
  const scope = scopes.join(scopeSeparator);
  return [["grant_type", "client_credentials"], ...(scope === "" ? [] : [["scope", scope] as const])];
}
