import { invalid } from "../errors.ts";
import type { Clients } from "./clients.ts";
import type { GrantRequest, RevokeTarget, SeededGrant } from "./control.ts";
import type { Grant, Grants } from "./grants.ts";

/** Where seeded grants go and what they default to. */
export interface SeedDeps {
  readonly grants: Grants;
  readonly clients: Clients;
  readonly nextSubject: () => string;
  readonly accessTokenLifetimeMs: number;
}

/** A grant as if a customer had agreed. INVALID_REQUEST for an unknown client. */
export function seedGrant(deps: SeedDeps, request: GrantRequest, nowMs: number): SeededGrant {
  const { grants, clients, nextSubject } = deps;
  const client = request.clientId === undefined ? clients.first() : clients.get(request.clientId);
  if (!client) throw invalid("client_id", "is not registered here");
  const grant = grants.create({
    clientId: client.clientId,
    subject: request.subject ?? nextSubject(),
    scope: request.scope ?? "read write",
    accessTokenLifetimeMs: request.accessTokenLifetimeMs ?? deps.accessTokenLifetimeMs,
    refreshable: true,
  });
  const issued = grants.issue(grant, nowMs, request.expired ? { expiresAtMs: nowMs - 1000 } : {});
  const { accessToken, refreshToken = "", expiresAtMs } = issued;
  return { clientId: client.clientId, subject: grant.subject, accessToken, refreshToken, expiresAtMs };
}

/** Ends the grants that fit `target`, or only their access tokens, and says how many. INVALID_REQUEST for an empty target. */
export function revokeGrants(grants: Grants, target: RevokeTarget, nowMs: number): number {
  const { subject, clientId, refreshToken, all } = target;
  if (subject === undefined && clientId === undefined && refreshToken === undefined && all === undefined) {
    throw invalid("body", "name a subject, client_id or refresh_token, or set all");
  }
  const family = refreshToken === undefined ? undefined : grants.look(refreshToken, nowMs)?.grant.id;
  const fits = (grant: Grant) =>
    (subject === undefined || grant.subject === subject) &&
    (clientId === undefined || grant.clientId === clientId) &&
    (refreshToken === undefined || grant.id === family);
  const found = [...grants.live()].filter(fits);
  for (const grant of found) {
    if (target.accessTokensOnly) grants.expireAccess(grant);
    else grants.revoke(grant, "request");
  }
  return found.length;
}
