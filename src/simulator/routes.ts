import type { ServerResponse } from "node:http";
import type { Clock } from "../clock.ts";
import { type Answer, problem } from "./answer.ts";
import { mayControl } from "./control.ts";
import type { Endpoint, Prepared } from "./endpoint.ts";
import type { History } from "./history.ts";
import { sendHistory } from "./history-lines.ts";
import type { Route } from "./listener.ts";
import type { Incoming } from "./parameters.ts";
import { send } from "./send.ts";

/** What stands behind the paths. */
export interface RoutesDeps {
  readonly clock: Clock;
  readonly history: History;
  /** By path; these and `api` can be faulty. */
  readonly endpoints: Readonly<Record<string, Endpoint>>;
  readonly api: Endpoint;
  exchange(prepared: Prepared, response: ServerResponse): Promise<void>;
  authorize(incoming: Incoming, nowMs: number): Answer;
  metadata(): Answer;
  control(incoming: Incoming): Answer;
}

/** Every path of the simulator. */
export function routes(deps: RoutesDeps): Route {
  const endpoints = new Map(Object.entries(deps.endpoints));
  return async (incoming, response, message) => {
    const { path } = incoming;
    const endpoint = path.startsWith("/api/") ? deps.api : endpoints.get(path);
    if (endpoint) return deps.exchange(endpoint(incoming), response);
    const nowMs = deps.clock.now();
    if (path === "/oauth/authorize") return send(response, deps.authorize(incoming, nowMs), nowMs);
    if (path === "/.well-known/oauth-authorization-server") return send(response, deps.metadata(), nowMs);
    if (!path.startsWith("/__")) return send(response, problem(404, "not_found", "no such path"), nowMs);
    if (!mayControl(incoming, message)) {
      return send(response, problem(403, "forbidden", "the control plane answers this machine only"), nowMs);
    }
    if (path === "/__history") return sendHistory(deps.history, incoming, response, nowMs);
    return send(response, deps.control(incoming), nowMs);
  };
}
