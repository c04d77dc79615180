import { json, methodNotAllowed, problem } from "./answer.ts";
import { type Clients, claimedClient } from "./clients.ts";
import type { Endpoint } from "./endpoint.ts";
import type { Grants } from "./grants.ts";
import { bodyParameters } from "./parameters.ts";

/** `POST /oauth/introspect` (RFC 7662). A client learns about its own tokens only. */
export function introspectEndpoint(deps: {
  grants: Grants;
  clients: Clients;
  issuer: () => string;
}): Endpoint {
  const { grants, clients, issuer } = deps;
  return (incoming) => {
    const parsed = bodyParameters(incoming);
    const parameters = "parameters" in parsed ? parsed.parameters : new Map<string, string>();
    const claimed = claimedClient(incoming, parameters);
    const token = parameters.get("token");
    const subject = token === undefined ? undefined : ownerOf(grants, token, incoming.arrivedAtMs)?.subject;
    return {
      who: { endpoint: "introspect", clientId: claimed.clientId, subject, grantType: undefined },
      run(nowMs) {
        if (incoming.method !== "POST") return methodNotAllowed("POST");
        if ("refusal" in parsed) return parsed.refusal;
        const verdict = clients.authenticate(claimed);
        if ("refusal" in verdict) return verdict.refusal;
        if (token === undefined) return problem(400, "invalid_request", "token is missing");
        const found = describe(grants, token, nowMs);
        const own = found?.client_id === verdict.client.clientId;
        return json(200, own ? { active: true, ...found, iss: issuer() } : { active: false });
      },
    };
  };
}

/** The grant of an access or refresh token that is good at `nowMs`. */
export function ownerOf(grants: Grants, token: string, nowMs: number) {
  const refresh = grants.look(token, nowMs);
  if (refresh) return refresh.state === "current" || refresh.state === "graced" ? refresh.grant : undefined;
  return grants.access(token, nowMs)?.grant;
}

function describe(grants: Grants, token: string, nowMs: number) {
  const access = grants.access(token, nowMs);
  const grant = access?.grant ?? ownerOf(grants, token, nowMs);
  if (!grant) return undefined;
  const about = { client_id: grant.clientId, sub: grant.subject };
  if (!access) return { ...about, scope: grant.scope };
  const { scope, expiresAtMs, issuedAtMs } = access.token;
  const times = { exp: Math.floor(expiresAtMs / 1000), iat: Math.floor(issuedAtMs / 1000) };
  return { ...about, scope, token_type: "Bearer", ...times };
}
