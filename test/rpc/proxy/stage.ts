import { once } from "node:events";
import { join } from "node:path";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { AccountService } from "../../../src/gen/keyturn/v1/account_service_pb.js";
import {
  CredentialService,
  type ProxyRequestSchema,
  type ProxyResponse,
  type ProxyStreamResponse,
} from "../../../src/gen/keyturn/v1/credential_service_pb.js";
import type { SimulatorOptions } from "../../../src/simulator/simulator.ts";
import {
  type Caller,
  type GrantOptions,
  putSimulatorClient,
  type Scene,
  type SceneOptions,
  scene,
} from "../../e2e/harness.ts";
import { type Api, startApi } from "./api.ts";

export const PROVIDERS = join(import.meta.dirname, "providers");

type Request = MessageInitShape<typeof ProxyRequestSchema>;
type CallOptions = { readonly deadlineMs?: number; readonly token?: string };

export interface Stage extends Scene {
  readonly api: Api;
  /** An account of `api` with a grant of the simulator's, its token valid unless said otherwise. */
  have(id: string, grant?: GrantOptions): ReturnType<Scene["connect"]>;
  /** A GET of `/me` as the account `acme` unless said otherwise. */
  proxy(request?: Request, options?: CallOptions): Promise<ProxyResponse>;
}

/** A sidecar, and an API that its accounts may be used at. */
export async function stage(options: Partial<SimulatorOptions> & SceneOptions = {}): Promise<Stage> {
  const flags = { "providers.directories": PROVIDERS, ...options.flags };
  const at = await scene({ ...options, flags });
  const api = await startApi();
  const as = options.token === undefined ? {} : { token: options.token };
  for (const provider of ["api", "says-so"]) await putSimulatorClient(at.admin, as, provider);
  const stop = async () => {
    await at.stop();
    await api[Symbol.asyncDispose]();
  };
  return {
    ...at,
    api,
    have: (id, grant) =>
      at.connect(id, { expired: false, provider: "api", fields: { api: String(api.port) }, ...grant }),
    proxy: (request, callOptions) => proxyOf(at.data, request, callOptions),
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

/** See `Stage.proxy`. */
export function proxyOf(data: Caller, request: Request = {}, options?: CallOptions): Promise<ProxyResponse> {
  const { proxy } = CredentialService.method;
  return data.call(proxy, { accountId: "acme", method: "GET", path: "/me", ...request }, options);
}

/** An account with an API key of its own. */
export async function keep(
  { admin, api }: Pick<Stage, "admin" | "api">,
  accountId: string,
  provider: string,
  apiKey: string,
  extra: Record<string, string> = {},
): Promise<void> {
  const fields: Record<string, string> = provider === "nowhere" ? {} : { api: String(api.port) };
  const credential = { kind: { case: "apiKey" as const, value: { apiKey, extra } } };
  const account = { accountId, provider, tenant: "acme", fields, credential };
  await admin.call(AccountService.method.createAccount, account);
}

export interface StreamedResponse {
  readonly head: ProxyResponse;
  readonly body: Buffer;
  readonly chunks: number;
  readonly trailers: readonly (readonly [string, string])[];
}

/** A whole call through ProxyStream. */
export async function streamed(
  data: Caller,
  request: Request,
  body: Iterable<Uint8Array> = [],
  options?: CallOptions,
): Promise<StreamedResponse> {
  const call = data.duplex(CredentialService.method.proxyStream, options);
  const failed = once(call, "error").then(([error]) => Promise.reject(error));
  const write = async () => {
    const head = { accountId: "acme", method: "GET", path: "/me", ...request };
    call.write({ part: { case: "head", value: head } });
    for (const value of body) {
      if (!call.write({ part: { case: "chunk", value } })) await once(call, "drain");
    }
    call.end();
  };
  const read = async (): Promise<StreamedResponse> => {
    let head: ProxyResponse | undefined;
    let trailers: StreamedResponse["trailers"] = [];
    const chunks: Uint8Array[] = [];
    for await (const { part } of call as AsyncIterable<ProxyStreamResponse>) {
      if (part.case === "head") head = part.value;
      if (part.case === "chunk") chunks.push(part.value);
      if (part.case === "trailers")
        trailers = part.value.fields.map(({ name, value }) => [name, value] as const);
    }
    if (head === undefined) throw new Error("no head");
    return { head, body: Buffer.concat(chunks), chunks: chunks.length, trailers };
  };
  const writing = write();
  writing.catch(() => undefined);
  failed.catch(() => undefined);
  return Promise.race([read(), failed]);
}

/** The first value of a header. */
export function headerOf({ headers }: ProxyResponse, name: string): string | undefined {
  return headers.find((field) => field.name === name)?.value;
}

export function fields(pairs: readonly (readonly [string, string])[]) {
  return pairs.map(([name, value]) => ({ name, value }));
}
