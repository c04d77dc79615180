import type { DescService } from "@bufbuild/protobuf";
import type { Server } from "@grpc/grpc-js";
import { Authorization } from "../gen/envoy/service/auth/v3/external_auth_pb.js";
import { Health } from "../gen/grpc/health/v1/health_pb.js";
import { AccountService } from "../gen/keyturn/v1/account_service_pb.js";
import { AuditService } from "../gen/keyturn/v1/audit_service_pb.js";
import { ConnectionService } from "../gen/keyturn/v1/connection_service_pb.js";
import { CredentialService } from "../gen/keyturn/v1/credential_service_pb.js";
import { EventService } from "../gen/keyturn/v1/event_service_pb.js";
import { JournalService } from "../gen/keyturn/v1/journal_service_pb.js";
import { KeyService } from "../gen/keyturn/v1/key_service_pb.js";
import { OAuthClientService } from "../gen/keyturn/v1/oauth_client_service_pb.js";
import { ProviderService } from "../gen/keyturn/v1/provider_service_pb.js";
import type { Forward } from "../tokens/forwarding.ts";
import type { Heart } from "../tokens/heart.ts";
import type { Keys } from "../tokens/keys.ts";
import type { RestoreWatch } from "../tokens/restore.ts";
import type { World } from "../tokens/world.ts";
import { accountHandlers } from "./accounts/service.ts";
import { type AuditServiceDeps, auditHandlers } from "./audit/service.ts";
import { type CheckDeps, check } from "./authz/check.ts";
import { type Act, addService, type Door, type Handlers } from "./call.ts";
import { type CallbackAddress, startCallback } from "./callback/listener.ts";
import { clientHandlers } from "./clients/service.ts";
import { connectionHandlers } from "./connections/service.ts";
import { getToken } from "./credential/get-token.ts";
import { proxy } from "./credential/proxy.ts";
import { proxyStream } from "./credential/proxy-stream.ts";
import { watchEvents } from "./events/watch-events.ts";
import { HealthState } from "./health.ts";
import { type JournalServiceDeps, journalHandlers } from "./journal/service.ts";
import { keyHandlers } from "./keys/service.ts";
import { type Address, bind, closeServer, createServer, type ServerLimits } from "./listener.ts";
import { type CallerRule, Callers } from "./policy.ts";
import { portability } from "./portable.ts";
import { type ProviderServiceDeps, providerHandlers } from "./providers/service.ts";
import { Rates } from "./rates.ts";
import { addReflection } from "./reflection.ts";
import { Sight } from "./sight.ts";

export interface ServersDeps {
  readonly world: World;
  readonly heart: Heart;
  readonly keys: Keys;
  readonly environment: string;
  readonly limits: {
    readonly max_request_bytes: number;
    readonly max_concurrent_streams: number;
    readonly max_wait: number;
    readonly max_response_bytes: number;
    readonly requests_per_second?: number | undefined;
  };
  readonly forward: Forward;
  readonly rules: readonly CallerRule[];
  readonly addresses: {
    readonly data: Address;
    readonly admin: Address;
    /** Undefined: there is no HTTP listener. */
    readonly http: { readonly host: string; readonly port: number } | undefined;
  };
  readonly newAccountId: () => string;
  readonly opened: (accountId: string, caller: string, purpose: string) => void;
  readonly allowsHost: CheckDeps["allowsHost"];
  readonly act: Act;
  readonly restore: Pick<RestoreWatch, "isHeld" | "held" | "accept">;
  readonly withGoneJournal: JournalServiceDeps["withGoneJournal"];
  readonly callback: CallbackAddress | undefined;
  readonly returnUrls: readonly string[];
  readonly providers: ProviderServiceDeps;
  readonly audit: AuditServiceDeps;
}

export interface RunningServers {
  /** As a gRPC target: `unix:/…` or `host:port`. */
  readonly data: string;
  readonly admin: string;
  /** `host:port`; undefined without an HTTP listener. */
  readonly http: string | undefined;
  /** The callback listener's address as providers are told it; undefined without one. */
  readonly callback: string | undefined;
  setServing(serving: boolean): void;
  /** Event streams end with a cursor to resume from. */
  endStreams(): void;
  close(limitMs: number): Promise<void>;
}

type Services = readonly (readonly [DescService, Handlers])[];

/** The listeners, bound. They say NOT_SERVING until told otherwise. */
export async function startServers(deps: ServersDeps): Promise<RunningServers> {
  const { world, heart } = deps;
  const { clock, store, events, vendors, journal } = world;
  const stopping = new AbortController();
  const served = { broker: heart.broker, clock, maxWaitMs: deps.limits.max_wait, opened: deps.opened };
  const requirePortable = portability(vendors);
  const seen = { ...served, requirePortable, sight: new Sight((id) => heart.broker.account(id)) };
  const calls = {
    ...seen,
    forward: deps.forward,
    certificates: deps.heart.certificates,
    maxResponseBytes: deps.limits.max_response_bytes,
  };
  const watch = watchEvents({ events, clock, environment: deps.environment, stopping: stopping.signal });
  const { accounts, broker, replay, clients } = heart;
  const callback = deps.callback === undefined ? undefined : await startCallback(deps.callback, deps);
  const connecting = {
    connections: heart.connections,
    accounts: heart.accounts,
    newAccountId: deps.newAccountId,
    returnUrls: deps.returnUrls,
    redirectUri: callback?.url,
    act: deps.act,
  };
  const apps: Services = [
    [CredentialService, { getToken: getToken(seen), proxy: proxy(calls), proxyStream: proxyStream(calls) }],
    [EventService, { watchEvents: watch }],
    [ConnectionService, connectionHandlers(connecting)],
    [Authorization, { check: check({ ...served, requirePortable, allowsHost: deps.allowsHost }) }],
  ];
  const operators: Services = [
    [
      AccountService,
      accountHandlers({
        accounts,
        broker,
        bulkRefresh: heart.bulkRefresh,
        replay,
        journal,
        store,
        clock,
        rules: (name) => vendors.rules(name),
        report: world.report,
        newAccountId: deps.newAccountId,
        isHeld: () => deps.restore.isHeld,
        kekFault: () => deps.keys.fault(),
      }),
    ],
    [OAuthClientService, clientHandlers({ clients, store, rules: (name) => vendors.rules(name) })],
    [
      JournalService,
      journalHandlers({
        journal,
        replay,
        restore: deps.restore,
        withGoneJournal: deps.withGoneJournal,
      }),
    ],
    [KeyService, keyHandlers(deps.keys)],
    [ProviderService, providerHandlers(deps.providers)],
    [AuditService, auditHandlers(deps.audit)],
  ];
  const limits = {
    maxRequestBytes: deps.limits.max_request_bytes,
    maxConcurrentStreams: deps.limits.max_concurrent_streams,
  };
  const callers = new Callers(deps.rules);
  const rates = new Rates(deps.limits.requests_per_second);
  const door = (via: string, act: Door["act"]): Door => ({
    clock,
    callers,
    rates,
    via,
    act,
    report: world.report,
    maxRequestBytes: limits.maxRequestBytes,
  });
  const viaOf = ({ kind }: Address) => (kind === "socket" ? "uds" : "tcp");
  const data = listener(limits, apps, door(viaOf(deps.addresses.data), undefined));
  const admin = listener(limits, operators, door(viaOf(deps.addresses.admin), deps.act));
  const http = async () => {
    const { http: at } = deps.addresses;
    if (at === undefined) return undefined;
    const { listenHttp } = await import("./http/listener.ts"); // costs start time where nobody wants it
    return listenHttp(at, limits, [
      { services: apps, door: door("http", undefined), needsCallerToken: false },
      { services: operators, door: door("http", deps.act), needsCallerToken: true },
      {
        services: [[Health, data.health.handlers()]],
        door: open(door("http", undefined)),
        needsCallerToken: false,
      },
    ]);
  };
  try {
    const dataAt = await bound(data.server, deps.addresses.data, "listeners.data");
    const adminAt = await bound(admin.server, deps.addresses.admin, "listeners.admin");
    const overHttp = await http();
    return {
      data: dataAt,
      admin: adminAt,
      http: overHttp?.address,
      callback: callback?.url,
      setServing: (serving) => {
        data.health.set(serving);
        admin.health.set(serving);
      },
      endStreams: () => stopping.abort(),
      close: async (limitMs) => {
        await Promise.all([
          closeServer(data.server, limitMs),
          closeServer(admin.server, limitMs),
          overHttp?.close(limitMs),
          callback?.close(),
        ]);
      },
    };
  } catch (error) {
    await callback?.close();
    data.server.forceShutdown();
    admin.server.forceShutdown();
    throw error;
  }
}

/** Probes and tools carry no caller token, and learn nothing of any account. */
function open(door: Door): Door {
  return { ...door, callers: new Callers([]), rates: new Rates(undefined), act: undefined };
}

async function bound(server: Server, address: Address, field: string): Promise<string> {
  const port = await bind(server, address, field);
  return address.kind === "socket" ? `unix:${address.path}` : `${address.host}:${port}`;
}

function listener(
  limits: ServerLimits,
  services: Services,
  door: Door,
): { readonly server: Server; readonly health: HealthState } {
  const server = createServer(limits);
  for (const [service, handlers] of services) addService(server, service, handlers, door);
  const health = new HealthState(services.map(([service]) => service.typeName));
  addService(server, Health, health.handlers(), open(door));
  addReflection(server, [...services.map(([service]) => service), Health]);
  return { server, health };
}
