import { type Answer, methodNotAllowed, problem } from "./answer.ts";
import { type Clients, claimedClient } from "./clients.ts";
import type { Endpoint } from "./endpoint.ts";
import type { Grants } from "./grants.ts";
import { ownerOf } from "./introspect-endpoint.ts";
import { bodyParameters } from "./parameters.ts";

const DONE: Answer = { status: 200, headers: { "cache-control": "no-store" }, body: "" };

/** `POST /oauth/revoke` (RFC 7009): a refresh token takes its family with it, an access token goes alone, unknown ones are fine. */
export function revokeEndpoint({ grants, clients }: { grants: Grants; clients: Clients }): Endpoint {
  return (incoming) => {
    const parsed = bodyParameters(incoming);
    const parameters = "parameters" in parsed ? parsed.parameters : new Map<string, string>();
    const claimed = claimedClient(incoming, parameters);
    const token = parameters.get("token");
    const subject = token === undefined ? undefined : ownerOf(grants, token, incoming.arrivedAtMs)?.subject;
    return {
      who: { endpoint: "revoke", clientId: claimed.clientId, subject, grantType: undefined },
      run(nowMs) {
        if (incoming.method !== "POST") return methodNotAllowed("POST");
        if ("refusal" in parsed) return parsed.refusal;
        const verdict = clients.authenticate(claimed);
        if ("refusal" in verdict) return verdict.refusal;
        if (token === undefined) return problem(400, "invalid_request", "token is missing");
        const owner = ownerOf(grants, token, nowMs);
        if (!owner) return DONE;
        if (owner.clientId !== verdict.client.clientId) {
          return problem(400, "unauthorized_client", "the token belongs to another client");
        }
        if (!grants.revokeAccess(token)) grants.revoke(owner, "request");
        return DONE;
      },
    };
  };
}
