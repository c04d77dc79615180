import type { VendorContext } from "../tokens/vendor.ts";
import { authorizationFor } from "./authorization.ts";
import type { Provider, RequestPlan } from "./provider.ts";
import { buildRequest } from "./request.ts";
import type { Outbound } from "./send.ts";
import { identityOf } from "./token-request.ts";

const TIMEOUT_MS = 10_000;

/** A request of the file's own at the provider's API, with the account's credential in it. Throws as `buildRequest` does. */
export function accountRequest(
  provider: Provider,
  plan: RequestPlan,
  context: VendorContext,
  nowMs: number,
): Outbound {
  const { headers, queryParameters } = authorizationFor(provider, context);
  const request = buildRequest({
    provider,
    account: context.account,
    plan,
    client: identityOf(context),
    clientAuth: "none",
    headers: Object.entries(headers.reveal()),
    token: provider.tokens.get(context.slot),
    nowMs,
    timeoutMs: TIMEOUT_MS,
  });
  const url = new URL(request.url);
  for (const [name, value] of Object.entries(queryParameters.reveal())) url.searchParams.set(name, value);
  return { ...request, url: url.href };
}
