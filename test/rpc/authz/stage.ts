import { request as httpRequest, type IncomingHttpHeaders, type OutgoingHttpHeaders } from "node:http";
import { join } from "node:path";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { parse } from "yaml";
import { AccountService, type CredentialSchema } from "../../../src/gen/keyturn/v1/account_service_pb.js";
import type { SimulatorOptions } from "../../../src/simulator/simulator.ts";
import { type Envoy, startEnvoy } from "../../backends/envoy.ts";
import { freePorts } from "../../backends/ports.ts";
import { putSimulatorClient, type Scene, type SceneOptions, scene } from "../../e2e/harness.ts";
import { envoyFile, HOST } from "./envoy-file.ts";
import { type Api, startApi } from "./vendor.ts";

export const PROVIDERS = join(import.meta.dirname, "providers");

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** A sidecar whose accounts may belong to the providers of `providers/`. */
export async function sidecar(options: Partial<SimulatorOptions> & SceneOptions = {}): Promise<Scene> {
  const flags = { "providers.directories": PROVIDERS, ...options.flags };
  const at = await scene({ ...options, flags });
  await putSimulatorClient(at.admin, options.token === undefined ? {} : { token: options.token }, "oauth");
  return at;
}

/** An account with a secret of its own. */
export async function keep(
  { admin }: Pick<Scene, "admin">,
  accountId: string,
  provider: string,
  kind: NonNullable<MessageInitShape<typeof CredentialSchema>["kind"]>,
  fields: Record<string, string> = {},
): Promise<void> {
  const account = { accountId, provider, tenant: "acme", fields, credential: { kind } };
  await admin.call(AccountService.method.createAccount, account);
}

export interface Stage extends Scene {
  readonly envoy: Envoy;
  readonly api: Api;
  /** Envoy's port for gRPC. */
  readonly grpcTarget: string;
  /** A request through Envoy, to `HOST` unless its headers say otherwise. */
  send(path: string, headers?: OutgoingHttpHeaders, method?: string): Promise<Answer>;
}

interface Started {
  readonly envoy: Awaited<ReturnType<typeof startEnvoy>>;
  readonly port: number;
  readonly grpcPort: number;
}

/** A sidecar, a provider's API, and a real Envoy between them as `deploy/envoy/envoy.yaml` describes it. */
export async function stage(
  options: Parameters<typeof sidecar>[0] & {
    /** Changes the file's text before Envoy gets it. */
    readonly edit?: (text: string) => string;
  } = {},
): Promise<Stage> {
  const { edit = (text) => text, ...rest } = options;
  const at = await sidecar(rest);
  const api = await startApi();
  const start = async (triesLeft: number): Promise<Started> => {
    const [port = 0, grpcPort = 0] = await freePorts(2);
    const text = envoyFile({ data: at.targets.data, port, grpcPort, apiPort: api.port });
    try {
      return { envoy: await startEnvoy(parse(edit(text))), port, grpcPort };
    } catch (error) {
      // Somebody else was faster to take a free port.
      if (triesLeft === 0 || !String(error).includes("Address already in use")) throw error;
      return start(triesLeft - 1);
    }
  };
  const { envoy, port, grpcPort } = await start(3);
  const stop = async () => {
    await envoy.stop();
    await api[Symbol.asyncDispose]();
    await at.stop();
  };
  return {
    ...at,
    envoy,
    api,
    grpcTarget: `127.0.0.1:${grpcPort}`,
    send: (path, headers, method) => sendTo(port, path, headers, method),
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

/** A request to `HOST` through the Envoy at `port`, unless its headers say otherwise. */
export function sendTo(
  port: number,
  path: string,
  headers: OutgoingHttpHeaders = {},
  method = "GET",
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      { host: "127.0.0.1", port, path, method, headers: { host: HOST, ...headers }, agent: false },
      (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("end", () =>
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: Buffer.concat(chunks).toString("utf8"),
          }),
        );
      },
    );
    request.on("error", reject);
    request.end();
  });
}
