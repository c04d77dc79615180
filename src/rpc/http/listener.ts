import { createServer as createHttp, type IncomingMessage, ServerResponse } from "node:http";
import {
  createServer as createHttp2,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type ServerHttp2Session,
} from "node:http2";
import type { AddressInfo, Socket } from "node:net";
import { Code, ConnectError, createConnectRouter } from "@connectrpc/connect";
import {
  createAsyncIterable,
  type UniversalHandler,
  type UniversalServerRequest,
} from "@connectrpc/connect/protocol";
import { errorToJsonBytes } from "@connectrpc/connect/protocol-connect";
import { universalRequestFromNodeRequest, universalResponseToNodeResponse } from "@connectrpc/connect-node";
import { invalid } from "../../errors.ts";
import type { ServerLimits } from "../listener.ts";
import { toKeyturnError } from "../status.ts";
import { limited, limitedMessages, readable } from "./body.ts";
import { toConnectError } from "./errors.ts";
import { requireLocal } from "./guard.ts";
import { type Offer, route } from "./routes.ts";

type Request = IncomingMessage | Http2ServerRequest;
type Response = ServerResponse | Http2ServerResponse;

export interface HttpListener {
  /** `127.0.0.1:7472`. */
  readonly address: string;
  /** No new calls; those running have `limitMs`, then they are cut. */
  close(limitMs: number): Promise<void>;
}

const FIRST_BYTES_WITHIN_MS = 10_000;
/** How often a closing listener looks for connections whose last answer has been sent. */
const SWEEP_MS = 20;
const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

/** Connect and JSON, gRPC-Web, and gRPC, over HTTP/1.1 and HTTP/2 in clear on one port. */
export async function listenHttp(
  { host, port }: { readonly host: string; readonly port: number },
  { maxRequestBytes, maxConcurrentStreams }: ServerLimits,
  offers: readonly Offer[],
): Promise<HttpListener> {
  const router = createConnectRouter({ acceptCompression: [] });
  for (const offer of offers) route(router, offer);
  const handlers = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));
  const serve = (request: Request, response: Response) => {
    answer(request, response, { host, maxRequestBytes, handlers }).catch(() => response.destroy());
  };
  const http1 = createHttp(serve);
  const http2 = createHttp2({ settings: { maxConcurrentStreams } }, serve);
  const sessions = new Set<ServerHttp2Session>();
  http2.on("session", (session) => {
    sessions.add(session);
    session.once("close", () => sessions.delete(session));
  });
  const sockets = new Set<Socket>();
  const silent = new Set<Socket>();
  // The one listens for both, and keeps its limits of time.
  const [adopt] = http1.listeners("connection");
  http1.removeAllListeners("connection");
  http1.on("connection", (socket: Socket) => {
    sockets.add(socket);
    silent.add(socket);
    socket.once("close", () => {
      sockets.delete(socket);
      silent.delete(socket);
    });
    hand(socket, (isHttp2) => {
      silent.delete(socket);
      if (isHttp2) http2.emit("connection", socket);
      else adopt?.call(http1, socket);
    });
  });
  await new Promise<void>((resolve, reject) => {
    http1.on("error", (error) =>
      reject(invalid("listeners.http", `cannot listen on ${host}:${port}: ${error.message}`)),
    );
    http1.listen(port, host, resolve);
  });
  return {
    address: `${host}:${(http1.address() as AddressInfo).port}`,
    close: async (limitMs) => {
      const closed = new Promise((resolve) => http1.close(resolve));
      for (const socket of silent) socket.destroy();
      for (const session of sessions) session.close();
      const sweep = setInterval(() => http1.closeIdleConnections(), SWEEP_MS);
      const limit = setTimeout(() => sockets.forEach((socket) => void socket.destroy()), limitMs);
      await closed;
      clearInterval(sweep);
      clearTimeout(limit);
    },
  };
}

/** Both versions of HTTP start in the clear with words of their own. */
function hand(socket: Socket, to: (isHttp2: boolean) => void): void {
  const end = () => socket.destroy();
  socket.setTimeout(FIRST_BYTES_WITHIN_MS);
  socket.on("timeout", end).on("error", end);
  let seen = Buffer.alloc(0);
  const look = () => {
    const bytes: Buffer | null = socket.read();
    if (bytes === null) return;
    seen = Buffer.concat([seen, bytes]);
    const known = Math.min(seen.length, PREFACE.length);
    const isPreface = seen.subarray(0, known).equals(PREFACE.subarray(0, known));
    if (isPreface && known < PREFACE.length) return;
    socket.unshift(seen);
    socket.off("readable", look);
    socket.off("timeout", end).off("error", end);
    socket.setTimeout(0);
    to(isPreface);
  };
  socket.on("readable", look);
}

interface Serving {
  readonly host: string;
  readonly maxRequestBytes: number;
  readonly handlers: ReadonlyMap<string, UniversalHandler>;
}

async function answer(request: Request, response: Response, { host, maxRequestBytes, handlers }: Serving) {
  try {
    requireLocal(request.headers, host);
  } catch (error) {
    const ours = toKeyturnError(error);
    return refuse(response, toConnectError(ours), ours.reason === "INVALID_REQUEST" ? 400 : 403);
  }
  const handler = handlers.get(request.url?.split("?", 1)[0] ?? "");
  if (handler === undefined)
    return refuse(response, new ConnectError("There is no such method.", Code.Unimplemented), 404);
  const asked = universalRequestFromNodeRequest(request, response, undefined, undefined);
  const answered = await handler(guarded(asked, handler, maxRequestBytes));
  const { status } = answered;
  if (status === 405) return refuse(response, toConnectError(invalid("method", "POST")), status);
  if (status === 415) return refuse(response, toConnectError(invalid("header content-type", TYPES)), status);
  if (status === 505)
    return refuse(response, toConnectError(invalid("HTTP version", "2, where both sides stream")), status);
  if (isCutShort(request, handler)) keepNoLonger(response);
  await universalResponseToNodeResponse(answered, response);
}

/** Its answer is known before all of it has come. */
function isCutShort(request: Request, { method }: UniversalHandler): boolean {
  return !request.complete && (method.methodKind === "unary" || method.methodKind === "server_streaming");
}

/** What has not been read of an HTTP/1 request is not worth reading: the connection ends with the answer. */
function keepNoLonger(response: Response): void {
  if (response instanceof ServerResponse) response.shouldKeepAlive = false;
}

const TYPES =
  "application/json or application/proto; for streams application/connect+json; or one of gRPC and gRPC-Web";

function guarded(
  request: UniversalServerRequest,
  { method }: UniversalHandler,
  maxBytes: number,
): UniversalServerRequest {
  const body = request.body as AsyncIterable<Uint8Array>;
  if (method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming")
    return { ...request, body: limitedMessages(body, maxBytes) };
  const isJson = /^application\/json\b/.test(request.header.get("content-type") ?? "");
  const whole = limited(body, maxBytes);
  return { ...request, body: isJson ? readable(whole, method.input) : whole };
}

async function refuse(
  response: Response,
  error: ConnectError,
  status: 400 | 403 | 404 | 405 | 415 | 505,
): Promise<void> {
  keepNoLonger(response);
  const header = new Headers({ "content-type": "application/json" });
  const body = createAsyncIterable([errorToJsonBytes(error, undefined)]);
  await universalResponseToNodeResponse({ status, header, body }, response);
}
