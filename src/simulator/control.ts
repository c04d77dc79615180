import type { IncomingMessage } from "node:http";
import { isReason, KeyturnError } from "../errors.ts";
import { type Answer, json, methodNotAllowed, problem } from "./answer.ts";
import { readFault } from "./fault-fields.ts";
import type { FaultControl } from "./faults.ts";
import { Fields } from "./fields.ts";
import { header, type Incoming } from "./parameters.ts";
import { wireNames } from "./wire-names.ts";

const YEAR_MS = 365 * 86_400_000;

/** What the seeded grant is to be; undefined members take their defaults. */
export interface GrantRequest {
  /** Default: the client registered first. */
  readonly clientId?: string | undefined;
  /** Default: a new `user-…`. */
  readonly subject?: string | undefined;
  /** Default `read write`. */
  readonly scope?: string | undefined;
  /** Of this and every later access token of the grant; default: the simulator's. */
  readonly accessTokenLifetimeMs?: number | undefined;
  /** The access token is a second past its end already. */
  readonly expired?: boolean | undefined;
}

/** A new grant and its first tokens, in the clear: they open nothing but the simulator. */
export interface SeededGrant {
  readonly clientId: string;
  readonly subject: string;
  readonly accessToken: string;
  readonly refreshToken: string;
  readonly expiresAtMs: number;
}

/** Which grants to end: those that fit every member that is given. At least one must be. */
export interface RevokeTarget {
  readonly subject?: string | undefined;
  readonly clientId?: string | undefined;
  /** Any refresh token of the family, also a spent one. */
  readonly refreshToken?: string | undefined;
  readonly all?: true | undefined;
  /** Ends access tokens and leaves the refresh tokens good, as a vendor does that rejects tokens early. */
  readonly accessTokensOnly?: boolean | undefined;
}

/** What the control plane can reach. */
export interface ControlDeps {
  readonly faults: FaultControl;
  stats(): object;
  issueGrant(request: GrantRequest): SeededGrant;
  /** How many grants were hit. */
  revokeFamily(target: RevokeTarget): number;
}

/** The control plane but for `/__history`: `/__stats`, `/__grants`, `/__faults`, `/__revoke`. */
export function control(deps: ControlDeps, incoming: Incoming): Answer {
  const { faults } = deps;
  const { method } = incoming;
  try {
    switch (incoming.path) {
      case "/__stats":
        return method === "GET" ? json(200, wireNames(deps.stats())) : methodNotAllowed("GET");
      case "/__grants":
        return method === "POST"
          ? json(201, wireNames(deps.issueGrant(grantRequest(body(incoming)))))
          : methodNotAllowed("POST");
      case "/__revoke":
        return method === "POST"
          ? json(200, { revoked: deps.revokeFamily(revokeTarget(body(incoming))) })
          : methodNotAllowed("POST");
      case "/__faults":
        if (method === "POST") faults.add(...readFaults(body(incoming)));
        else if (method === "DELETE") faults.clear();
        else if (method !== "GET") return methodNotAllowed("GET, POST, DELETE");
        return json(200, { faults: faults.list().map(wireNames) });
      default:
        return problem(404, "not_found", "no such control");
    }
  } catch (error) {
    return wrongInput(error);
  }
}

/** True when a request may reach the control plane: from this machine, to a local name, and not sent by a web page. */
export function mayControl(incoming: Incoming, { socket }: IncomingMessage): boolean {
  const host = header(incoming, "host") ?? "";
  return (
    isLoopback(socket.remoteAddress) &&
    isLoopback(socket.localAddress) &&
    /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?$/i.test(host) &&
    header(incoming, "origin") === undefined
  );
}

function isLoopback(address: string | undefined): boolean {
  return address !== undefined && /^(::ffff:)?127\.|^::1$/.test(address);
}

function body(incoming: Incoming): unknown {
  const text = incoming.body.toString("utf8");
  if (text.trim() === "") return {};
  try {
    return JSON.parse(text);
  } catch {
    throw new KeyturnError("INVALID_REQUEST", "body: must be JSON", {
      violations: [{ field: "body", description: "must be JSON" }],
    });
  }
}

/** One fault, a list of them, or `{faults: [...]}`; all are read before the first is switched on. */
function readFaults(value: unknown) {
  const list = typeof value === "object" && value !== null && "faults" in value ? value.faults : value;
  return Array.isArray(list)
    ? list.map((item, index) => readFault(item, `faults[${index}]`))
    : [readFault(list, "")];
}

function grantRequest(value: unknown): GrantRequest {
  const fields = new Fields(value);
  const request = {
    clientId: fields.text("client_id"),
    subject: fields.text("subject"),
    scope: fields.text("scope"),
    accessTokenLifetimeMs: fields.integer("access_token_lifetime_ms", 1, 100 * YEAR_MS),
    expired: fields.flag("expired"),
  };
  fields.end();
  return request;
}

function revokeTarget(value: unknown): RevokeTarget {
  const fields = new Fields(value);
  const target = {
    subject: fields.text("subject"),
    clientId: fields.text("client_id"),
    refreshToken: fields.text("refresh_token"),
    all: fields.flag("all") === true ? (true as const) : undefined,
    accessTokensOnly: fields.flag("access_tokens_only"),
  };
  fields.end();
  return target;
}

function wrongInput(error: unknown): Answer {
  if (!isReason(error, "INVALID_REQUEST")) throw error;
  return json(400, {
    error: "invalid_request",
    field: error.violations[0]?.field,
    error_description: error.message,
  });
}
