import type { Clock } from "../../../clock.ts";
import { KeyturnError } from "../../../errors.ts";
import type { Secret } from "../../../tokens/secret.ts";
import { bounded } from "../../bounded.ts";
import { faultOfAnswer, vaultFault } from "./fault.ts";
import { createTransport, type VaultRequest } from "./transport.ts";

/** One request, answer included; shorter than what a seal has in all, so that the error still names Vault. */
export const REQUEST_LIMIT_MS = 4_000;

/** A Vault answer's body, not yet looked into. */
export type Body = Readonly<Record<string, unknown>>;

export interface VaultCall {
  /** Undefined for a login. */
  readonly token: Secret | undefined;
  /** Ends the request. */
  readonly signal?: AbortSignal;
  /** False when a second sending would do more than the first. */
  readonly repeatable?: boolean;
}

/** Paths are without `/v1/`. Rejects with KEK_UNAVAILABLE alone, which quotes nothing of request or answer. */
export interface VaultClient {
  read(path: string, call: VaultCall): Promise<Body>;
  /** Resolves also with a 400 that carries `data`: a batch of which some items failed. */
  write(path: string, data: Body, call: VaultCall): Promise<Body>;
  close(): void;
}

export interface VaultAddress {
  /** `https://vault.example:8200`. */
  readonly address: string;
  readonly namespace: string | undefined;
  /** PEM. Undefined: the system's own. */
  readonly ca: string | undefined;
}

/** node-vault with a transport, time limits and errors of our own. */
export function createVaultClient({ address, namespace, ca }: VaultAddress, clock: Clock): VaultClient {
  const transport = createTransport({ ca });
  let loading: ReturnType<typeof load> | undefined;
  const load = async () => {
    const { default: nodeVault } = await import("node-vault");
    const client = nodeVault({
      endpoint: address,
      "request-promise": { defaults: () => (request: VaultRequest) => transport.send(request) },
      // Its own prints bodies when DEBUG asks for them.
      debug: () => undefined,
    });
    // Without these lines variables of the environment would speak for what is not configured.
    return Object.assign(client, { token: "", namespace: namespace ?? "", pathPrefix: "" });
  };

  const asked = (
    { token, signal, repeatable = true }: VaultCall,
    send: (client: Awaited<ReturnType<typeof load>>, options: object) => Promise<Body>,
  ): Promise<Body> =>
    bounded({
      clock,
      limitMs: REQUEST_LIMIT_MS,
      work: async (over) => {
        loading ??= load();
        const client = await loading;
        const headers = token === undefined ? {} : { "X-Vault-Token": token.reveal() };
        const both = signal === undefined ? over : AbortSignal.any([signal, over]);
        return send(client, { headers, repeatable, signal: both }).catch((error: unknown) => batchOf(error));
      },
      expired: () => vaultFault("timeout", "did not answer within 4 s"),
      late: () => undefined,
    });

  return {
    read: (path, call) => asked(call, (client, options) => client.read(path, options)),
    write: (path, data, call) => asked(call, (client, options) => client.write(path, data, options)),
    close: () => transport.close(),
  };
}

function batchOf(error: unknown): Body {
  if (error instanceof KeyturnError) throw error;
  const { statusCode, body } = responseOf(error);
  if (statusCode === 400 && isObject(body) && isObject(body.data)) return body;
  const texts = isObject(body) && Array.isArray(body.errors) ? body.errors.map(String) : [];
  throw faultOfAnswer(statusCode, texts);
}

function responseOf(error: unknown): { readonly statusCode: number; readonly body: unknown } {
  const response = isObject(error) && isObject(error.response) ? error.response : undefined;
  if (response === undefined)
    throw vaultFault("bad_answer", "or its client failed in a way that was not foreseen");
  return { statusCode: Number(response.statusCode), body: response.body };
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
