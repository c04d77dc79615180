import { type Answer, methodNotAllowed, type OAuthErrorCode, problem } from "./answer.ts";
import { type ClaimedClient, type Clients, claimedClient, type SimulatorClient } from "./clients.ts";
import type { Codes } from "./codes.ts";
import type { Bend, Endpoint } from "./endpoint.ts";
import type { Grant, Grants } from "./grants.ts";
import type { History, Outcome } from "./history.ts";
import { bodyParameters, type Incoming, type Parameters } from "./parameters.ts";
import { tokenAnswer } from "./token-answer.ts";

/** `accessTokenLifetimeMs` is that of grants made here. */
export interface TokenEndpointDeps {
  readonly grants: Grants;
  readonly codes: Codes;
  readonly clients: Clients;
  readonly history: History;
  readonly accessTokenLifetimeMs: number;
}

interface Decision {
  readonly outcome: Outcome;
  readonly redeemed: boolean;
  readonly answer: Answer;
}

interface Step {
  readonly client: SimulatorClient;
  readonly parameters: Parameters;
  readonly nowMs: number;
  readonly bend: Bend;
}

/** `POST /oauth/token` (RFC 6749 §3.2): code, refresh token and client credentials. */
export function tokenEndpoint(deps: TokenEndpointDeps): Endpoint {
  const { clients, history } = deps;
  const standing = new Map<string, Grant>();
  return (incoming) => {
    const parsed = bodyParameters(incoming);
    const parameters: Parameters = "parameters" in parsed ? parsed.parameters : new Map();
    const claimed = claimedClient(incoming, parameters);
    const grantType = parameters.get("grant_type");
    const { subject, ...arrival } = arrive(deps, incoming, parameters);
    const { clientId } = claimed;
    const who = { endpoint: "token" as const, clientId, subject, grantType };
    const record = history.open({
      ...arrival,
      clientId,
      subject,
      grantType,
      arrivedAtMs: incoming.arrivedAtMs,
    });
    const decide = (nowMs: number, bend: Bend): Decision => {
      if (incoming.method !== "POST") return refused("method_not_allowed", methodNotAllowed("POST"));
      if ("refusal" in parsed) return refused("invalid_request", parsed.refusal);
      return granted(deps, standing, authenticated(clients, claimed, { parameters, nowMs, bend }));
    };
    return {
      who,
      record,
      run(nowMs, bend) {
        const { outcome, redeemed, answer } = decide(nowMs, bend);
        record.decide(outcome, redeemed);
        return answer;
      },
    };
  };
}

function arrive({ grants, codes }: TokenEndpointDeps, incoming: Incoming, parameters: Parameters) {
  const grantType = parameters.get("grant_type");
  const refreshToken = grantType === "refresh_token" ? parameters.get("refresh_token") : undefined;
  const code = grantType === "authorization_code" ? parameters.get("code") : undefined;
  const view = refreshToken === undefined ? undefined : grants.present(refreshToken, incoming.arrivedAtMs);
  const consent = code === undefined ? undefined : codes.look(code);
  return {
    refreshToken,
    subject: view?.grant.subject ?? consent?.subject,
    reuse: view?.reuse === true,
    seenBefore: view?.seenBefore === true,
  };
}

function authenticated(
  clients: Clients,
  claimed: ClaimedClient,
  rest: Omit<Step, "client">,
): Step | Decision {
  const verdict = clients.authenticate(claimed);
  return "client" in verdict
    ? { ...rest, client: verdict.client }
    : refused("invalid_client", verdict.refusal);
}

function granted(deps: TokenEndpointDeps, standing: Map<string, Grant>, step: Step | Decision): Decision {
  if ("outcome" in step) return step;
  const grantType = step.parameters.get("grant_type");
  switch (grantType) {
    case "refresh_token":
      return refresh(deps, step);
    case "authorization_code":
      return exchange(deps, step);
    case "client_credentials":
      return credentials(deps, standing, step);
    case undefined:
      return refusal("invalid_request", "grant_type is missing");
    default:
      return refusal(
        "unsupported_grant_type",
        "grant_type must be authorization_code, refresh_token or client_credentials",
      );
  }
}

function refresh({ grants }: TokenEndpointDeps, { client, parameters, nowMs, bend }: Step): Decision {
  const refreshToken = parameters.get("refresh_token");
  if (refreshToken === undefined) return refusal("invalid_request", "refresh_token is missing");
  const view = grants.look(refreshToken, nowMs);
  if (!view || view.grant.clientId !== client.clientId)
    return refusal("invalid_grant", "the refresh token is unknown");
  if (view.state === "spent") grants.revoke(view.grant, "reuse");
  if (view.state === "spent")
    return refusal("invalid_grant", "the refresh token was used before; its family is revoked");
  if (view.state === "revoked") return refusal("invalid_grant", "the grant is revoked");
  const scope = parameters.get("scope") ?? view.grant.scope;
  if (!covers(view.grant.scope, scope)) return refusal("invalid_scope", "scope exceeds the grant's");
  const keep = bend("omit_refresh_token") !== undefined;
  const issued = grants.redeem(refreshToken, nowMs, { keep, scope: bend("scope")?.scope ?? scope });
  const replayed = view.state === "graced";
  const outcome = replayed ? "replayed" : issued.refreshToken === undefined ? "kept" : "rotated";
  const answered = keep ? { ...issued, refreshToken: undefined } : issued;
  return { outcome, redeemed: !replayed, answer: tokenAnswer(answered, nowMs, bend) };
}

function exchange({ grants, codes, accessTokenLifetimeMs }: TokenEndpointDeps, step: Step): Decision {
  const { client, parameters, nowMs, bend } = step;
  const code = parameters.get("code");
  if (code === undefined) return refusal("invalid_request", "code is missing");
  const verdict = codes.check(code, {
    clientId: client.clientId,
    redirectUri: parameters.get("redirect_uri"),
    verifier: parameters.get("code_verifier"),
    nowMs,
  });
  if ("refusal" in verdict) return refusal("invalid_grant", verdict.refusal);
  if ("replayOfGrant" in verdict) {
    const grant = grants.find(verdict.replayOfGrant);
    if (grant) grants.revoke(grant, "reuse");
    return refusal("invalid_grant", "the code was used before; the grant it made is revoked");
  }
  const { subject, scope } = verdict.consent;
  const grant = grants.create({
    clientId: client.clientId,
    subject,
    scope,
    accessTokenLifetimeMs,
    refreshable: true,
  });
  codes.use(code, grant.id);
  const issued = grants.issue(grant, nowMs, { scope: bend("scope")?.scope });
  const answered = bend("omit_refresh_token") ? { ...issued, refreshToken: undefined } : issued;
  return { outcome: "issued", redeemed: true, answer: tokenAnswer(answered, nowMs, bend) };
}

function credentials(deps: TokenEndpointDeps, standing: Map<string, Grant>, step: Step): Decision {
  const { client, parameters, nowMs, bend } = step;
  const { clientId, clientSecret } = client;
  if (clientSecret === undefined)
    return refusal("unauthorized_client", "a public client has no credentials of its own");
  let grant = standing.get(clientId);
  if (!grant || grant.revoked) {
    const { accessTokenLifetimeMs } = deps;
    grant = deps.grants.create({
      clientId,
      subject: clientId,
      scope: "",
      accessTokenLifetimeMs,
      refreshable: false,
    });
    standing.set(clientId, grant);
  }
  const scope = bend("scope")?.scope ?? parameters.get("scope");
  return {
    outcome: "issued",
    redeemed: true,
    answer: tokenAnswer(deps.grants.issue(grant, nowMs, { scope }), nowMs, bend),
  };
}

function covers(granted: string, asked: string): boolean {
  const words = new Set(granted.split(" "));
  return asked.split(" ").every((word) => words.has(word));
}

function refusal(code: OAuthErrorCode, description: string): Decision {
  return refused(code, problem(400, code, description));
}

function refused(outcome: OAuthErrorCode, answer: Answer): Decision {
  return { outcome, redeemed: false, answer };
}
