import {
  Agent as HttpAgent,
  type IncomingMessage,
  type RequestOptions,
  request as requestHttp,
} from "node:http";
import { Agent as HttpsAgent, request as requestHttps } from "node:https";
import { KeyturnError } from "../../../errors.ts";
import { vaultFault } from "./fault.ts";

/** Far beyond the answer to a full batch. */
const MAX_ANSWER_BYTES = 1_048_576;

/** What node-vault hands to its transport; `signal` and `repeatable` are ours, and pass through it. */
export interface VaultRequest {
  readonly method: string;
  readonly uri: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly json?: unknown;
  readonly signal: AbortSignal;
  /** True when sending it twice does no more than sending it once. */
  readonly repeatable: boolean;
}

/** What node-vault expects back. */
export interface VaultAnswer {
  readonly statusCode: number;
  readonly body: unknown;
  readonly request: { readonly path: string };
}

export interface Transport {
  /** Rejects with KEK_UNAVAILABLE alone. */
  send(request: VaultRequest): Promise<VaultAnswer>;
  /** Ends every connection. */
  close(): void;
}

/**
 * Stands in the place of node-vault's own transport, which follows a redirect with token and plaintext to any host,
 * obeys proxy variables, and cannot be aborted. `ca` is in PEM; undefined: the system's own.
 */
export function createTransport({ ca }: { readonly ca: string | undefined }): Transport {
  const plain = new HttpAgent({ keepAlive: true });
  const secure = new HttpsAgent({
    keepAlive: true,
    rejectUnauthorized: true,
    minVersion: "TLSv1.2",
    ...(ca === undefined ? {} : { ca }),
  });

  const once = ({ method, uri, headers, json, signal }: VaultRequest): Promise<Attempt> => {
    const url = new URL(uri);
    const body = json === undefined ? undefined : Buffer.from(JSON.stringify(json));
    const described =
      body === undefined ? {} : { "content-type": "application/json", "content-length": body.length };
    const options: RequestOptions = { method, headers: { ...headers, ...described }, signal };
    return new Promise((resolve, reject) => {
      const sent =
        url.protocol === "https:"
          ? requestHttps(url, { ...options, agent: secure })
          : requestHttp(url, { ...options, agent: plain });
      const lose = (error: Error) => resolve({ lost: error, wasReused: sent.reusedSocket });
      sent.once("error", lose);
      sent.once("response", (response) => {
        answerOf(response, url.pathname).then(
          (answer) => resolve({ answer }),
          (error: Error) => (error instanceof KeyturnError ? reject(error) : lose(error)),
        );
      });
      sent.end(body, () => body?.fill(0));
    });
  };

  return {
    async send(request) {
      const { signal, repeatable } = request;
      let attempt = await once(request);
      // Vault ended a connection that was kept for later; that says nothing about the request.
      if ("lost" in attempt && attempt.wasReused && repeatable && !signal.aborted)
        attempt = await once(request);
      if ("answer" in attempt) return attempt.answer;
      throw lostFault(attempt.lost, signal);
    },
    close() {
      plain.destroy();
      secure.destroy();
    },
  };
}

type Attempt = { readonly answer: VaultAnswer } | { readonly lost: Error; readonly wasReused: boolean };

async function answerOf(response: IncomingMessage, path: string): Promise<VaultAnswer> {
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of response) {
      chunks.push(chunk);
      length += chunk.length;
      if (length > MAX_ANSWER_BYTES) throw vaultFault("bad_answer", "answered with more than 1 MiB");
    }
    const status = response.statusCode ?? 0;
    if (status >= 300 && status < 400) {
      throw vaultFault(
        "standby",
        "is a standby node and points elsewhere: configure the active one's address",
        {
          status,
        },
      );
    }
    if (status === 429) {
      throw vaultFault("rate_limited", "throttles this client", {
        status,
        retryAfterMs: retryAfterMs(response),
      });
    }
    return { statusCode: status, body: jsonOf(chunks, status), request: { path } };
  } finally {
    for (const chunk of chunks) chunk.fill(0);
  }
}

/** The body of a failure may be some proxy's page; that of an answer may not. */
function jsonOf(chunks: readonly Buffer[], status: number): unknown {
  const bytes = Buffer.concat(chunks);
  try {
    return bytes.length === 0 ? {} : JSON.parse(bytes.toString("utf8"));
  } catch {
    // The parser's own message quotes the text.
    if (status < 300) throw vaultFault("bad_answer", "answered with something that is not JSON");
    return {};
  } finally {
    bytes.fill(0);
  }
}

function retryAfterMs({ headers }: IncomingMessage): number | undefined {
  const seconds = headers["retry-after"];
  return seconds !== undefined && /^\d{1,6}$/.test(seconds) ? Number(seconds) * 1_000 : undefined;
}

const TLS_CODE = /^(ERR_TLS|ERR_SSL|CERT_|UNABLE_TO_|SELF_SIGNED|DEPTH_ZERO|HOSTNAME_MISMATCH|EPROTO)/;

function lostFault(error: Error, signal: AbortSignal): KeyturnError {
  if (signal.aborted) return vaultFault("timeout", "did not answer in time");
  const code = "code" in error ? String(error.code) : "";
  if (TLS_CODE.test(code)) return vaultFault("tls", `cannot be trusted (${code}): look at kek.vault.ca_file`);
  return vaultFault("unreachable", `cannot be reached${code === "" ? "" : ` (${code})`}`);
}
