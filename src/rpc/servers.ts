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
import type { World } from "../tokens/world.ts";
import { accountHandlers } from "./accounts/service.ts";
import { type AuditServiceDeps, auditHandlers } from "./audit/service.ts";
import { type CheckDeps, check } from "./authz/check.ts";
import { addService, type Door, type Handlers } from "./call.ts";
import { clientHandlers } from "./clients/service.ts";
import { getToken } from "./credential/get-token.ts";
import { proxy } from "./credential/proxy.ts";
import { proxyStream } from "./credential/proxy-stream.ts";
import { watchEvents } from "./events/watch-events.ts";
import { HealthState } from "./health.ts";
import { journalHandlers } from "./journal/service.ts";
import { keyHandlers } from "./keys/service.ts";
import { type Address, bind, closeServer, createServer } from "./listener.ts";
import { type CallerRule, Callers } from "./policy.ts";
import { type ProviderServiceDeps, providerHandlers } from "./providers/service.ts";
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
  };
  readonly forward: Forward;
  readonly rules: readonly CallerRule[];
  readonly addresses: { readonly data: Address; readonly admin: Address };
  readonly newAccountId: () => string;
  readonly opened: (accountId: string, caller: string, purpose: string) => void;
  readonly allowsHost: CheckDeps["allowsHost"];
  readonly act: NonNullable<Door["act"]>;
  readonly providers: ProviderServiceDeps;
  readonly audit: AuditServiceDeps;
}

export interface RunningServers {
  /** As a gRPC target: `unix:/…` or `host:port`. */
  readonly data: string;
  readonly admin: string;
  setServing(serving: boolean): void;
  /** Event streams end with a cursor to resume from. */
  endStreams(): void;
  close(limitMs: number): Promise<void>;
}

/** Both listeners, bound. They say NOT_SERVING until told otherwise. */
export async function startServers(deps: ServersDeps): Promise<RunningServers> {
  const { world, heart } = deps;
  const { clock, store, events, vendors, journal } = world;
  const stopping = new AbortController();
  const served = { broker: heart.broker, clock, maxWaitMs: deps.limits.max_wait, opened: deps.opened };
  const seen = { ...served, sight: new Sight((id) => heart.broker.account(id)) };
  const calls = { ...seen, forward: deps.forward, maxResponseBytes: deps.limits.max_response_bytes };
  const watch = watchEvents({ events, clock, environment: deps.environment, stopping: stopping.signal });
  const data = listener(deps, deps.addresses.data, undefined, [
    [CredentialService, { getToken: getToken(seen), proxy: proxy(calls), proxyStream: proxyStream(calls) }],
    [EventService, { watchEvents: watch }],
    [ConnectionService, {}],
    [Authorization, { check: check({ ...served, allowsHost: deps.allowsHost }) }],
  ]);
  const { accounts, broker, replay, clients } = heart;
  const admin = listener(deps, deps.addresses.admin, deps.act, [
    [
      AccountService,
      accountHandlers({
        accounts,
        broker,
        replay,
        journal,
        store,
        clock,
        rules: (name) => vendors.rules(name),
        report: world.report,
        newAccountId: deps.newAccountId,
      }),
    ],
    [OAuthClientService, clientHandlers({ clients, store, rules: (name) => vendors.rules(name) })],
    [JournalService, journalHandlers({ journal, replay })],
    [KeyService, keyHandlers(deps.keys)],
    [ProviderService, providerHandlers(deps.providers)],
    [AuditService, auditHandlers(deps.audit)],
  ]);
  try {
    return {
      data: await open(data.server, deps.addresses.data, "listeners.data"),
      admin: await open(admin.server, deps.addresses.admin, "listeners.admin"),
      setServing: (serving) => {
        data.health.set(serving);
        admin.health.set(serving);
      },
      endStreams: () => stopping.abort(),
      close: async (limitMs) => {
        await Promise.all([closeServer(data.server, limitMs), closeServer(admin.server, limitMs)]);
      },
    };
  } catch (error) {
    data.server.forceShutdown();
    admin.server.forceShutdown();
    throw error;
  }
}

async function open(server: Server, address: Address, field: string): Promise<string> {
  const port = await bind(server, address, field);
  return address.kind === "socket" ? `unix:${address.path}` : `${address.host}:${port}`;
}

function listener(
  { world, rules, limits }: ServersDeps,
  address: Address,
  act: Door["act"],
  services: readonly (readonly [DescService, Handlers])[],
): { readonly server: Server; readonly health: HealthState } {
  const server = createServer({
    maxRequestBytes: limits.max_request_bytes,
    maxConcurrentStreams: limits.max_concurrent_streams,
  });
  const via = address.kind === "socket" ? "uds" : "tcp";
  const door: Door = {
    clock: world.clock,
    callers: new Callers(rules),
    via,
    act,
    report: world.report,
    maxRequestBytes: limits.max_request_bytes,
  };
  for (const [service, handlers] of services) addService(server, service, handlers, door);
  const health = new HealthState(services.map(([service]) => service.typeName));
  // Probes and tools carry no caller token, and learn nothing of any account here.
  addService(server, Health, health.handlers(), { ...door, callers: new Callers([]), act: undefined });
  addReflection(server, [...services.map(([service]) => service), Health]);
  return { server, health };
}
