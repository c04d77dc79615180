import { setMaxListeners } from "node:events";
import { createServer, type Server } from "node:http";
import type { Clock } from "../clock.ts";
import { KeyturnError } from "../errors.ts";
import { type ApiCredentials, apiEndpoint } from "./api-endpoint.ts";
import { authorize } from "./authorize-endpoint.ts";
import { Clients, type SimulatorClient } from "./clients.ts";
import { Codes } from "./codes.ts";
import { control, type GrantRequest, type RevokeTarget, type SeededGrant } from "./control.ts";
import { exchange } from "./exchange.ts";
import { type FaultControl, FaultSet } from "./faults.ts";
import { Grants, type RotationStyle } from "./grants.ts";
import { History, type HistoryEntry, type TokenCounters } from "./history.ts";
import { introspectEndpoint } from "./introspect-endpoint.ts";
import { listener } from "./listener.ts";
import { metadata } from "./metadata.ts";
import { randomSource } from "./random.ts";
import { revokeEndpoint } from "./revoke-endpoint.ts";
import { routes } from "./routes.ts";
import { revokeGrants, seedGrant } from "./seed.ts";
import { tokenEndpoint } from "./token-endpoint.ts";
import { TokenMint } from "./token-mint.ts";

export type { Fault } from "./faults.ts";
export type { HistoryEntry, RotationStyle };

/** How the provider behaves; everything but the clock has a default. */
export interface SimulatorOptions {
  /** Default 127.0.0.1. On any other address the control plane still answers this machine only. */
  readonly host?: string | undefined;
  /** Default 0: a free one. */
  readonly port?: number | undefined;
  /** The base of what metadata and `iss` say; default `http://host:port`. */
  readonly publicUrl?: string | undefined;
  readonly clock: Clock;
  /** The same tokens and the same luck in every run; without it tokens cannot be guessed. */
  readonly seed?: number | undefined;
  /** Default 3,600,000. */
  readonly accessTokenLifetimeMs?: number | undefined;
  /** Default `strict`. */
  readonly style?: RotationStyle | undefined;
  /** How long style `grace` honours a replaced refresh token; default 30,000. */
  readonly graceMs?: number | undefined;
  /** Between the arrival of a request and the vendor's logic; default 0. Above 0 simultaneous uses become visible. */
  readonly latencyMs?: number | undefined;
  /** Default: `demo-client` with the secret `demo-secret`. */
  readonly clients?: readonly SimulatorClient[] | undefined;
  /** Default: the key `demo-api-key`, and `demo-user` with `demo-password`. */
  readonly apiCredentials?: Partial<ApiCredentials> | undefined;
  /** Token requests kept for the history; default 100,000. Counters are exact beyond it. */
  readonly historyLimit?: number | undefined;
}

/** Counters, exact since the start. */
export interface Stats extends TokenCounters {
  readonly activeGrants: number;
  /** Grants ended for whatever reason. */
  readonly familiesRevoked: number;
  /** Of these, ended because a spent refresh token or code was used again. */
  readonly familiesRevokedByReuse: number;
  /** Answers of `/api/*`, those of faults left out. */
  readonly apiAccepted: number;
  readonly apiRefused: number;
}

/** A running simulated provider. */
export interface Simulator {
  /** Without a slash at the end. */
  readonly url: string;
  readonly port: number;
  readonly faults: FaultControl;
  /** A grant as if a customer had agreed. INVALID_REQUEST for an unknown client. */
  issueGrant(request?: GrantRequest): SeededGrant;
  /** Ends grants and returns how many. INVALID_REQUEST for an empty target. */
  revokeFamily(target: RevokeTarget): number;
  /** Registers a client or gives it a new secret. */
  putClient(client: SimulatorClient): void;
  /** Replaces the credentials that open the API besides access tokens. */
  setApiCredentials(credentials: Partial<ApiCredentials>): void;
  stats(): Stats;
  /** The latest token requests, oldest first. */
  history(): readonly HistoryEntry[];
  /** Cuts every connection and waits for the port to be free. */
  close(): Promise<void>;
}

/** Listens and answers as a provider would. INVALID_REQUEST when it cannot listen there. */
export async function startSimulator(options: SimulatorOptions): Promise<Simulator> {
  const { clock, seed, host = "127.0.0.1", accessTokenLifetimeMs = 3_600_000 } = options;
  const mint = new TokenMint(seed);
  const grants = new Grants({ mint, style: options.style ?? "strict", graceMs: options.graceMs ?? 30_000 });
  const codes = new Codes(mint);
  const clients = new Clients(options.clients ?? [{ clientId: "demo-client", clientSecret: "demo-secret" }]);
  const history = new History(options.historyLimit ?? 100_000);
  const faults = new FaultSet(randomSource(seed));
  const closing = new AbortController();
  setMaxListeners(0, closing.signal);

  let credentials = withDefaults(options.apiCredentials ?? {});
  let url = "";
  let subjects = 0;
  const api = { apiAccepted: 0, apiRefused: 0 };
  const issuer = () => options.publicUrl ?? url;
  const nextSubject = () => {
    subjects += 1;
    return `user-${subjects}`;
  };
  const stats = (): Stats => {
    const { active, revoked, revokedByReuse } = grants.counts();
    const families = {
      activeGrants: active,
      familiesRevoked: revoked,
      familiesRevokedByReuse: revokedByReuse,
    };
    return { ...history.counters(), ...families, ...api };
  };
  const controls = {
    faults,
    stats,
    issueGrant: (request: GrantRequest = {}) =>
      seedGrant({ grants, clients, nextSubject, accessTokenLifetimeMs }, request, clock.now()),
    revokeFamily: (target: RevokeTarget) => revokeGrants(grants, target, clock.now()),
  };

  const exchangeDeps = { clock, faults, latencyMs: options.latencyMs ?? 0, closing: closing.signal };
  const route = routes({
    clock,
    history,
    endpoints: {
      "/oauth/token": tokenEndpoint({ grants, codes, clients, history, accessTokenLifetimeMs }),
      "/oauth/introspect": introspectEndpoint({ grants, clients, issuer }),
      "/oauth/revoke": revokeEndpoint({ grants, clients }),
    },
    api: apiEndpoint({
      grants,
      credentials: () => credentials,
      count: (status) => {
        api[status === 200 ? "apiAccepted" : "apiRefused"] += 1;
      },
    }),
    exchange: (prepared, response) => exchange(exchangeDeps, prepared, response),
    authorize: (incoming, nowMs) => authorize({ clients, codes, issuer, nextSubject }, incoming, nowMs),
    metadata: () => metadata(issuer()),
    control: (incoming) => control(controls, incoming),
  });

  const server = createServer({ keepAliveTimeout: 65_000 }, listener(clock, route));
  const port = await listen(server, options.port ?? 0, host);
  url = `http://${host.includes(":") ? `[${host}]` : host}:${port}`;
  return {
    ...controls,
    url,
    port,
    putClient: (client) => clients.put(client),
    setApiCredentials: (next) => {
      credentials = withDefaults(next);
    },
    history: () => history.entries(),
    close: async () => {
      closing.abort();
      await shut(server);
    },
  };
}

function withDefaults({ apiKeys, basic }: Partial<ApiCredentials>): ApiCredentials {
  return {
    apiKeys: apiKeys ?? ["demo-api-key"],
    basic: basic ?? [{ username: "demo-user", password: "demo-password" }],
  };
}

function listen(server: Server, port: number, host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => {
      const description = `cannot listen on ${host}:${port} (${cause.code})`;
      const violations = [{ field: "port", description }];
      reject(new KeyturnError("INVALID_REQUEST", `port: ${description}`, { violations, cause }));
    });
    server.listen(port, host, () => {
      const address = server.address();
      resolve(typeof address === "object" && address !== null ? address.port : port);
    });
  });
}

function shut(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
