import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { KeyturnError } from "../../errors.ts";
import type { Heart } from "../../tokens/heart.ts";
import { Secret } from "../../tokens/secret.ts";
import type { World } from "../../tokens/world.ts";
import { type Act, acted } from "../call.ts";
import { toKeyturnError } from "../status.ts";
import { callbackPage } from "./page.ts";

const CALLER = "callback";
/** Named in the API's reference: apps set it for their own host. */
const COOKIE = "keyturn_binding";
const MAX_HEADER_BYTES = 16_384;
const REQUEST_TIMEOUT_MS = 10_000;
const MAX_CONNECTIONS = 256;
const LOCAL = /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?$/;

export interface CallbackAddress {
  readonly host: string;
  readonly port: number;
  /** As browsers and providers know it. */
  readonly public_url?: string | undefined;
}

interface CallbackDeps {
  readonly heart: Pick<Heart, "connections">;
  readonly world: Pick<World, "report">;
  readonly act: Act;
}

export interface RunningCallback {
  /** The `redirect_uri` to register at providers. */
  readonly url: string;
  close(): Promise<void>;
}

/**
 * The redirect address of apps without one of their own: one GET path that completes an authorization and sends the browser
 * to its registered return URL. INVALID_REQUEST when the port cannot be had.
 */
export async function startCallback(address: CallbackAddress, deps: CallbackDeps): Promise<RunningCallback> {
  const server = createServer({ maxHeaderSize: MAX_HEADER_BYTES, requestTimeout: REQUEST_TIMEOUT_MS });
  server.maxConnections = MAX_CONNECTIONS;
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => reject(notBound(address, error)));
    server.listen(address.port, address.host, resolve);
  });
  const bound = server.address();
  const port = typeof bound === "object" && bound !== null ? bound.port : address.port;
  const url = new URL(address.public_url ?? `http://${hostText(address.host)}:${port}/callback`);
  server.on("request", (request, response) => {
    serve(url, deps, request, response).catch((error: unknown) => {
      deps.world.report("callback failed", {}, error);
      callbackPage(response, 500, "Something went wrong. Please start again.");
    });
  });
  return {
    url: url.href,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function hostText(host: string): string {
  return host.includes(":") ? `[${host}]` : host;
}

function notBound({ host, port }: CallbackAddress, error: NodeJS.ErrnoException): KeyturnError {
  const field = "listeners.callback.port";
  const text = `${field}: ${host}:${port} cannot be listened on (${error.code ?? error.name})`;
  return new KeyturnError("INVALID_REQUEST", text, {
    violations: [{ field, description: "a free port of this machine" }],
    cause: error,
  });
}

async function serve(
  url: URL,
  deps: CallbackDeps,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { host = "" } = request.headers;
  // A page of somebody else's whose name was made to point here shall not get an answer (DNS rebinding).
  if (host.toLowerCase() !== url.host && !LOCAL.test(host.toLowerCase()))
    return callbackPage(response, 421, "This is not the host that was asked for.");
  const target = request.url ?? "/";
  if (!URL.canParse(target, url.origin) || new URL(target, url.origin).pathname !== url.pathname)
    return callbackPage(response, 404, "There is nothing here.");
  if (request.method !== "GET") {
    response.setHeader("allow", "GET");
    return callbackPage(response, 405, "Only GET is answered here.");
  }
  const came = new URL(target, url.origin);
  const { connections } = deps.heart;
  const actor = { caller: CALLER, purpose: "connect" };
  const who = {
    browserBinding: bindingOf(request),
    caller: undefined,
    permit: () => undefined,
    untilBootMs: Number.POSITIVE_INFINITY,
  };
  const of = { rpc: "ConnectionService/CompleteAuthorization", caller: CALLER, account: "" };
  try {
    const { accountId, returnUrl } = await acted(deps.act, of, async () => {
      const { account, returnUrl } = await connections.complete(came.href, who, actor);
      return { accountId: account.id, returnUrl };
    });
    if (returnUrl === "")
      return callbackPage(response, 200, "Connected. You can close this page and go back to the app.");
    redirect(response, returnUrl, { account_id: accountId, status: "connected" });
  } catch (error) {
    failed(deps, response, toKeyturnError(error), error);
  }
}

function bindingOf({ headers }: IncomingMessage): Secret {
  const pairs = (headers.cookie ?? "").split(";").map((pair) => pair.trim());
  const found = pairs.find((pair) => pair.startsWith(`${COOKIE}=`));
  return new Secret(found?.slice(COOKIE.length + 1) ?? "");
}

/** The browser goes back where a started authorization says; to nowhere for one that cannot be told to be its own. */
function failed(deps: CallbackDeps, response: ServerResponse, fault: KeyturnError, error: unknown): void {
  if (fault.reason === "INTERNAL_ERROR") deps.world.report("callback failed", {}, error);
  const { return_url: returnUrl = "", account_id: accountId = "", authorization } = fault.metadata;
  const isDenied = fault.reason === "AUTHORIZATION_DENIED";
  // The browser still has what this address brought, so reloading it soon is trying again.
  const { retryAfterMs } = fault;
  const isOpen = authorization === "open" && retryAfterMs !== undefined;
  if (returnUrl !== "" && !isOpen) {
    const status = isDenied ? "denied" : authorization === "continues" ? "pending" : "failed";
    redirect(response, returnUrl, { account_id: accountId, status, reason: fault.reason });
    return;
  }
  const status = fault.reason === "AUTHORIZATION_STATE_INVALID" ? 400 : isDenied ? 403 : isOpen ? 503 : 502;
  if (isOpen) response.setHeader("retry-after", String(Math.max(1, Math.ceil(retryAfterMs / 1_000))));
  callbackPage(response, status, isOpen ? `${fault.message} Reload this page to try again.` : fault.message);
}

function redirect(response: ServerResponse, to: string, query: Readonly<Record<string, string>>): void {
  const location = new URL(to);
  for (const [name, value] of Object.entries(query)) location.searchParams.set(name, value);
  response.setHeader("location", location.href);
  callbackPage(response, 303, "");
}
