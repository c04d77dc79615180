import { createHash } from "node:crypto";
import { invalid } from "../errors.ts";
import type { ConsentRequest, ConsentUrl } from "../tokens/consent.ts";
import { fieldLookup } from "./fields.ts";
import type { Provider } from "./provider.ts";
import { render, renderUrl } from "./template.ts";

/**
 * The URL to send a customer's browser to (RFC 6749 §4.1.1), with PKCE (RFC 7636) unless the file does without.
 * INVALID_REQUEST when the file names none, or a field is missing; DESTINATION_NOT_ALLOWED when one is not permitted.
 */
export function consentUrl(provider: Provider, request: ConsentRequest): ConsentUrl {
  const { consent } = provider;
  if (consent === undefined) {
    throw invalid(
      "provider",
      `accounts of ${provider.name} are not connected through a browser; use ConnectWithSecret`,
    );
  }
  const scopes = request.scopes.length > 0 ? request.scopes : consent.scopes;
  const lookup = fieldLookup(provider.fields, request.fields);
  const url = renderUrl(consent.url, lookup);
  const standard: Readonly<Record<string, string>> = {
    ...(consent.bringsCode ? { response_type: "code" } : {}),
    client_id: request.clientId,
    redirect_uri: request.redirectUri,
    ...(scopes.length === 0 ? {} : { scope: scopes.join(consent.scopeSeparator) }),
    state: request.state.reveal(),
    ...challengeOf(consent.pkce, request),
  };
  const params = new Map<string, string>();
  for (const [name, value] of Object.entries(standard)) {
    const theirs = consent.rename[name] ?? name;
    if (theirs !== false) params.set(theirs, value);
  }
  for (const [name, template] of consent.params) params.set(name, render(template, lookup));
  for (const [name, value] of params) url.searchParams.set(name, value);
  return { url: url.href, usesPkce: consent.pkce !== undefined, scopes };
}

function challengeOf(
  method: "S256" | "plain" | undefined,
  { verifier }: ConsentRequest,
): Readonly<Record<string, string>> {
  if (method === undefined) return {};
  const plain = verifier.reveal();
  const challenge = method === "plain" ? plain : createHash("sha256").update(plain).digest("base64url");
  return { code_challenge: challenge, code_challenge_method: method };
}
