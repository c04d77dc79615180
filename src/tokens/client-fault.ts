import type { KeyturnError } from "../errors.ts";
import { clientEvent, type Draft } from "./draft.ts";
import type { Snapshot } from "./snapshot.ts";
import type { Refusal } from "./vendor.ts";

/**
 * The provider refuses the client itself: one write and one event for all of its accounts. Nothing, when it is known
 * already, or when the client has got new secrets since those of `clientGeneration` were sent.
 */
export function recordClientFault(
  draft: Draft,
  { oauthClient, client }: Snapshot,
  clientGeneration: number,
  code: string | undefined,
  nowMs: number,
): void {
  const current = oauthClient?.value;
  const isNews = current?.generation === clientGeneration && current.fault === undefined;
  if (oauthClient === undefined || current === undefined || !isNews) return;
  const fault = { code: code ?? "invalid_client", sinceMs: nowMs };
  draft
    .expect(oauthClient.key, oauthClient)
    .put(oauthClient.key, { ...current, fault, updatedAtMs: nowMs })
    .event(clientEvent("oauth_client:configuration_error", client, nowMs, fault.code));
}

/** What a request counts as that could not be made of file, client and account. */
export function unmade(error: KeyturnError): Refusal {
  const { reason, message, metadata, violations } = error;
  const [violation] = violations;
  const fault = violation === undefined ? reason : `${reason} ${violation.field}`;
  return {
    kind: "refused",
    class: "fix_configuration",
    code: metadata["cause"] ?? fault,
    message,
    rule: "request",
    retryAfterMs: undefined,
    rateLimit: undefined,
    // The client lacks what the provider needs of it: no account of it can be refreshed.
    clientFault: reason === "CLIENT_MISCONFIGURED",
  };
}
