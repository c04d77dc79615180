import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  create,
  type DescMessage,
  type DescMethod,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { Client, credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import { startSidecar } from "../../src/app.ts";
import { systemClock } from "../../src/clock.ts";
import { loadConfig } from "../../src/config/load.ts";
import { ErrorInfoSchema } from "../../src/gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../../src/gen/google/rpc/status_pb.js";
import { AccountService } from "../../src/gen/keyturn/v1/account_service_pb.js";
import { OAuthClientService } from "../../src/gen/keyturn/v1/oauth_client_service_pb.js";
import { createLog } from "../../src/log.ts";
import { type Simulator, type SimulatorOptions, startSimulator } from "../../src/simulator/simulator.ts";

type Method<I extends DescMessage, O extends DescMessage> = DescMethod & {
  readonly input: I;
  readonly output: O;
};

/** A gRPC client over protobuf-es, as small as it gets. */
export class Caller {
  readonly #client: Client;

  constructor(target: string) {
    this.#client = new Client(target, credentials.createInsecure(), { "grpc.use_local_subchannel_pool": 1 });
  }

  call<I extends DescMessage, O extends DescMessage>(
    method: Method<I, O>,
    request: MessageInitShape<I>,
    options: { readonly deadlineMs?: number; readonly token?: string } = {},
  ): Promise<MessageShape<O>> {
    const metadata = new Metadata();
    if (options.token !== undefined) metadata.set("authorization", `Bearer ${options.token}`);
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(
        `/${method.parent.typeName}/${method.name}`,
        (message: MessageShape<I>) => Buffer.from(toBinary(method.input, message)),
        (bytes) => fromBinary(method.output, bytes),
        create(method.input, request),
        metadata,
        { deadline: Date.now() + (options.deadlineMs ?? 15_000) },
        (error, answer) => (error === null && answer !== undefined ? resolve(answer) : reject(error)),
      );
    });
  }

  stream<I extends DescMessage, O extends DescMessage>(method: Method<I, O>, request: MessageInitShape<I>) {
    return this.#client.makeServerStreamRequest(
      `/${method.parent.typeName}/${method.name}`,
      (message: MessageShape<I>) => Buffer.from(toBinary(method.input, message)),
      (bytes): MessageShape<O> => fromBinary(method.output, bytes),
      create(method.input, request),
    );
  }

  duplex<I extends DescMessage, O extends DescMessage>(
    method: Method<I, O>,
    options: { readonly deadlineMs?: number; readonly token?: string } = {},
  ) {
    const metadata = new Metadata();
    if (options.token !== undefined) metadata.set("authorization", `Bearer ${options.token}`);
    return this.#client.makeBidiStreamRequest(
      `/${method.parent.typeName}/${method.name}`,
      (message: MessageInitShape<I>) => Buffer.from(toBinary(method.input, create(method.input, message))),
      (bytes): MessageShape<O> => fromBinary(method.output, bytes),
      metadata,
      options.deadlineMs === undefined ? {} : { deadline: Date.now() + options.deadlineMs },
    );
  }

  close(): void {
    this.#client.close();
  }
}

/** The reason in an error's google.rpc.ErrorInfo. */
export function reasonOf(error: unknown): string {
  return infoOf(error)?.reason ?? String(error);
}

/** The `cause` beside it; undefined when there is none. */
export function causeOf(error: unknown): string | undefined {
  return infoOf(error)?.metadata["cause"];
}

function infoOf(error: unknown) {
  const [details] = (error as ServiceError).metadata?.get("grpc-status-details-bin") ?? [];
  if (!(details instanceof Buffer)) return undefined;
  const info = fromBinary(StatusSchema, details).details.find(({ typeUrl }) =>
    typeUrl.endsWith("google.rpc.ErrorInfo"),
  );
  return info && fromBinary(ErrorInfoSchema, info.value);
}

export interface GrantOptions {
  /** True unless said otherwise. */
  readonly expired?: boolean;
  readonly lifetimeMs?: number;
  readonly labels?: Record<string, string>;
  /** `simulator` unless said otherwise; one whose tokens are the simulator's. */
  readonly provider?: string;
  readonly tenant?: string;
  /** Beside the simulator's port. */
  readonly fields?: Record<string, string>;
}

/** The OAuth client `main` at the simulator. */
export async function putSimulatorClient(
  admin: Caller,
  options: { readonly token?: string } = {},
  provider = "simulator",
): Promise<void> {
  const client = {
    provider,
    name: "main",
    clientId: "demo-client",
    clientSecret: "demo-secret",
  };
  await admin.call(OAuthClientService.method.putClient, client, options);
}

/** An account with a grant of the simulator's. */
export async function connectAccount(
  admin: Caller,
  simulator: Simulator,
  accountId: string,
  {
    expired = true,
    lifetimeMs,
    labels = {},
    provider = "simulator",
    tenant = "acme",
    fields = {},
  }: GrantOptions = {},
  options: { readonly token?: string } = {},
) {
  const grant = simulator.issueGrant({
    clientId: "demo-client",
    subject: accountId,
    expired,
    ...(lifetimeMs === undefined ? {} : { accessTokenLifetimeMs: lifetimeMs }),
  });
  const { accessToken, refreshToken } = grant;
  const expireTime = { seconds: BigInt(Math.floor(grant.expiresAtMs / 1_000)), nanos: 0 };
  await admin.call(
    AccountService.method.createAccount,
    {
      accountId,
      tenant,
      provider,
      client: "main",
      labels,
      fields: { port: String(simulator.port), ...fields },
      credential: { kind: { case: "oauth", value: { accessToken, refreshToken, expireTime } } },
    },
    options,
  );
  return grant;
}

export interface Scene {
  readonly simulator: Simulator;
  readonly data: Caller;
  readonly admin: Caller;
  readonly stateDir: string;
  readonly logs: string[];
  readonly targets: { readonly data: string; readonly admin: string; readonly http: string | undefined };
  /** An account with a grant of the simulator's, its access token expired unless said otherwise. */
  connect(
    id: string,
    grant?: GrantOptions,
  ): Promise<{ readonly refreshToken: string; readonly accessToken: string }>;
  /** Reads the provider files again, as SIGHUP has it. */
  reload(): void;
  /** Ends the sidecar alone. */
  end(): Promise<void>;
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

export interface SceneOptions {
  /** Configuration keys: `callers.file`. */
  readonly flags?: Record<string, string>;
  /** The caller token of what the scene itself does. */
  readonly token?: string;
}

/** A simulated provider, a sidecar beside it in this process, and the OAuth client `main`. */
export async function scene(options: Partial<SimulatorOptions> & SceneOptions = {}): Promise<Scene> {
  const { flags = {}, token, ...simulated } = options;
  const as = token === undefined ? {} : { token };
  const stateDir = mkdtempSync(join(tmpdir(), "keyturn-e2e-"));
  const simulator = await startSimulator({ clock: systemClock(), ...simulated });
  const logs: string[] = [];
  const sockets = {
    "listeners.data.socket": join(stateDir, "data.sock"),
    "listeners.admin.socket": join(stateDir, "admin.sock"),
  };
  const config = loadConfig({
    file: undefined,
    env: {},
    flags: { state_dir: stateDir, ...sockets, ...flags },
  });
  const log = createLog((line) => logs.push(line), Date.now);
  const sidecar = await startSidecar({
    config,
    env: {},
    log,
    shippedProviders: join(import.meta.dirname, "../../providers"),
  });
  const data = new Caller(sidecar.data);
  const admin = new Caller(sidecar.admin);
  await putSimulatorClient(admin, as);
  let ended: Promise<unknown> | undefined;
  const end = async () => {
    ended ??= sidecar.stop();
    await ended;
  };
  const stop = async () => {
    data.close();
    admin.close();
    await end();
    await simulator.close();
    rmSync(stateDir, { recursive: true, force: true });
  };
  return {
    simulator,
    data,
    admin,
    stateDir,
    logs,
    targets: sidecar,
    reload: () => sidecar.reload(),
    connect: (id, grant) => connectAccount(admin, simulator, id, grant, as),
    end,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}
