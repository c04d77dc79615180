import { type Answer, methodNotAllowed, type OAuthErrorCode, problem } from "./answer.ts";
import type { Clients, SimulatorClient } from "./clients.ts";
import type { Codes, Consent } from "./codes.ts";
import { consentPage } from "./consent-page.ts";
import { header, type Incoming, once, type Parameters } from "./parameters.ts";

/** What an authorization request is checked against, and who consents. */
export interface AuthorizeDeps {
  readonly clients: Clients;
  readonly codes: Codes;
  readonly issuer: () => string;
  /** Who consents when the request has no `login_hint`. */
  readonly nextSubject: () => string;
}

/**
 * `GET /oauth/authorize` (RFC 6749 §4.1.1). A browser gets a page to consent on, which comes back here with `decision`;
 * everything else is a customer who always agrees, unless `prompt=deny`. `login_hint` says who the customer is. A wrong
 * client or redirect address is answered here, everything else on the redirect.
 */
export function authorize(deps: AuthorizeDeps, incoming: Incoming, nowMs: number): Answer {
  const { clients, codes, issuer, nextSubject } = deps;
  if (incoming.method !== "GET") return methodNotAllowed("GET");
  const parsed = once(incoming.query);
  if ("refusal" in parsed) return parsed.refusal;
  const { parameters } = parsed;
  const client = clients.get(parameters.get("client_id"));
  if (!client) return problem(400, "invalid_request", "client_id is not registered");
  const target = redirectTarget(client, parameters.get("redirect_uri"));
  if (!target) return problem(400, "invalid_request", "redirect_uri is missing or not registered");
  const back = (answer: Record<string, string>) =>
    redirect(target, { ...answer, iss: issuer() }, parameters.get("state"));
  const fail = (error: OAuthErrorCode, description: string) =>
    back({ error, error_description: description });
  if (parameters.get("response_type") !== "code")
    return fail("unsupported_response_type", "response_type must be code");
  const decision = parameters.get("decision");
  if (parameters.get("prompt") === "deny" || decision === "deny")
    return fail("access_denied", "the customer declined");
  const challenge = challengeOf(parameters);
  if (challenge === "wrong")
    return fail("invalid_request", "code_challenge must be 43 to 128 characters, by S256 or plain");
  if (challenge === undefined && client.clientSecret === undefined)
    return fail("invalid_request", "a public client must use PKCE");
  if (decision === undefined && header(incoming, "accept")?.includes("text/html"))
    return consentPage(parameters, parameters.get("login_hint") ?? nextSubject());
  const code = codes.issue({
    clientId: client.clientId,
    subject: parameters.get("login_hint") ?? nextSubject(),
    scope: parameters.get("scope") ?? "",
    redirectUri: parameters.get("redirect_uri"),
    challenge,
    issuedAtMs: nowMs,
  });
  return back({ code });
}

function challengeOf(parameters: Parameters): Consent["challenge"] | "wrong" {
  const value = parameters.get("code_challenge");
  const method = parameters.get("code_challenge_method") ?? "plain";
  if (value === undefined) return parameters.has("code_challenge_method") ? "wrong" : undefined;
  if (!/^[A-Za-z0-9._~-]{43,128}$/.test(value)) return "wrong";
  return method === "S256" || method === "plain" ? { value, method } : "wrong";
}

function redirectTarget({ redirectUris }: SimulatorClient, asked: string | undefined): URL | undefined {
  const uri = asked ?? (redirectUris?.length === 1 ? redirectUris[0] : undefined);
  if (uri === undefined || !URL.canParse(uri)) return undefined;
  const target = new URL(uri);
  if (!/^https?:$/.test(target.protocol) || uri.includes("#")) return undefined;
  return redirectUris === undefined || redirectUris.some((known) => isSame(known, uri)) ? target : undefined;
}

function isSame(known: string, asked: string): boolean {
  return known === asked || (portless(known) !== undefined && portless(known) === portless(asked));
}

/** A loopback address without its port (RFC 8252 §7.3); undefined for others. */
function portless(uri: string): string | undefined {
  const match = /^(http:\/\/(?:127\.0\.0\.1|\[::1\]))(?::\d+)?(\/.*)?$/.exec(uri);
  return match ? `${match[1]}${match[2] ?? ""}` : undefined;
}

function redirect(target: URL, answer: Record<string, string>, state: string | undefined): Answer {
  const location = new URL(target);
  for (const [name, value] of Object.entries(answer)) location.searchParams.append(name, value);
  if (state !== undefined) location.searchParams.append("state", state);
  return { status: 302, headers: { location: location.href, "cache-control": "no-store" }, body: "" };
}
