import { readFileSync } from "node:fs";
import { request as httpRequest, type IncomingHttpHeaders, type OutgoingHttpHeaders } from "node:http";
import { join } from "node:path";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { parse } from "yaml";
import { AccountService, type CredentialSchema } from "../../../src/gen/keyturn/v1/account_service_pb.js";
import type { SimulatorOptions } from "../../../src/simulator/simulator.ts";
import { type Envoy, startEnvoy } from "../../backends/envoy.ts";
import { freePorts } from "../../backends/ports.ts";
import { putSimulatorClient, type Scene, type SceneOptions, scene } from "../../e2e/harness.ts";
import { type Api, CA_FILE, startApi } from "./vendor.ts";

/** The host that all providers of `providers/` but one are at. */
export const HOST = "api.example.test";
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
  const [port = 0, grpcPort = 0] = await freePorts(2);
  const text = substituted({
    "port: where apps send their requests": String(port),
    "port: where apps reach Keyturn's gRPC": String(grpcPort),
    "socket: Keyturn's data listener": at.targets.data.replace(/^unix:/, ""),
    "upstream: host": HOST,
    "upstream: address": "127.0.0.1",
    "upstream: port": String(api.port),
    "CA: who may vouch for the provider": CA_FILE,
  });
  const envoy = await startEnvoy(parse(edit(text)));
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
    send: (path, headers = {}, method = "GET") => send(port, path, { host: HOST, ...headers }, method),
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

/** The file with its marked values replaced, each at least once, and nothing else. */
function substituted(values: Readonly<Record<string, string>>): string {
  const file = join(import.meta.dirname, "../../../deploy/envoy/envoy.yaml");
  const used = new Set<string>();
  const text = readFileSync(file, "utf8").replaceAll(
    /^(.*[:-] )\S+( ## (.*))$/gm,
    (line, before: string, after: string, mark: string) => {
      const value = values[mark];
      if (value === undefined) throw new Error(`no value for the marked line: ${line}`);
      used.add(mark);
      return `${before}${value}${after}`;
    },
  );
  const unused = Object.keys(values).filter((mark) => !used.has(mark));
  if (unused.length > 0) throw new Error(`${file} marks no ${unused.join(", ")}`);
  return text;
}

function send(port: number, path: string, headers: OutgoingHttpHeaders, method: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      { host: "127.0.0.1", port, path, method, headers, agent: false },
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
