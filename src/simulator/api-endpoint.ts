import { json, problem } from "./answer.ts";
import { basicCredentials } from "./clients.ts";
import type { Endpoint } from "./endpoint.ts";
import type { Grants } from "./grants.ts";
import { header, type Incoming } from "./parameters.ts";

/** What opens the API besides access tokens. */
export interface ApiCredentials {
  /** Accepted in `X-Api-Key`, as Bearer, as Basic user name with any password, and as the query's `api_key`. */
  readonly apiKeys: readonly string[];
  readonly basic: readonly { readonly username: string; readonly password: string }[];
}

interface Caller {
  readonly subject: string;
  readonly clientId: string | undefined;
  readonly scope: string | undefined;
  readonly by: "access_token" | "api_key" | "basic";
}

const HIDDEN: ReadonlySet<string> = new Set(["authorization", "x-api-key", "cookie", "proxy-authorization"]);

/** `/api/*`: answers 401 without a good credential, else says who called and how; `/api/me` says only who. */
export function apiEndpoint(deps: {
  grants: Grants;
  credentials: () => ApiCredentials;
  count: (status: number) => void;
}): Endpoint {
  const { grants, credentials, count } = deps;
  return (incoming) => {
    const bearer = bearerOf(incoming);
    const grant = bearer === undefined ? undefined : grants.access(bearer, incoming.arrivedAtMs)?.grant;
    return {
      who: { endpoint: "api", clientId: grant?.clientId, subject: grant?.subject, grantType: undefined },
      run(nowMs) {
        const caller = callerOf(incoming, grants, credentials(), nowMs);
        count(caller ? 200 : 401);
        if (!caller) {
          const challenge =
            bearer === undefined
              ? 'Bearer realm="simulator"'
              : 'Bearer realm="simulator", error="invalid_token"';
          return problem(401, "invalid_token", "no valid credential", { "www-authenticate": challenge });
        }
        const who = {
          subject: caller.subject,
          client_id: caller.clientId,
          scope: caller.scope,
          authenticated_by: caller.by,
        };
        return json(200, incoming.path === "/api/me" ? who : { ...who, ...echo(incoming) });
      },
    };
  };
}

function callerOf(
  incoming: Incoming,
  grants: Grants,
  { apiKeys, basic }: ApiCredentials,
  nowMs: number,
): Caller | undefined {
  const bearer = bearerOf(incoming);
  const access = bearer === undefined ? undefined : grants.access(bearer, nowMs);
  if (access) {
    const { subject, clientId } = access.grant;
    return { subject, clientId, scope: access.token.scope, by: "access_token" };
  }
  const user = basicCredentials(header(incoming, "authorization") ?? "");
  if (user && basic.some(({ username, password }) => username === user.user && password === user.password)) {
    return { subject: user.user, clientId: undefined, scope: undefined, by: "basic" };
  }
  const sent = [
    header(incoming, "x-api-key"),
    bearer,
    user?.user,
    incoming.query.get("api_key") ?? undefined,
  ];
  const known = sent.some((key) => key !== undefined && apiKeys.includes(key));
  return known ? { subject: "api-key", clientId: undefined, scope: undefined, by: "api_key" } : undefined;
}

function bearerOf(incoming: Incoming): string | undefined {
  return /^bearer +(\S+)$/i.exec(header(incoming, "authorization") ?? "")?.[1];
}

function echo(incoming: Incoming) {
  const shown = Object.entries(incoming.headers).filter(([name]) => !HIDDEN.has(name));
  const query = [...incoming.query].filter(([name]) => name !== "api_key");
  return {
    method: incoming.method,
    path: incoming.path,
    query: Object.fromEntries(query),
    headers: Object.fromEntries(shown),
    body_bytes: incoming.body.length,
  };
}
