import { type DescMethod, type DescService, fromBinary } from "@bufbuild/protobuf";
import { Code, ConnectError, type ConnectRouter, type HandlerContext } from "@connectrpc/connect";
import { KeyturnError } from "../../errors.ts";
import {
  admit,
  type Call,
  type Door,
  type Handler,
  type Handlers,
  isServiceError,
  perform,
  reported,
  rpcName,
  type StreamCall,
} from "../call.ts";
import { toConnectError } from "./errors.ts";

/** The services of one kind that the HTTP listener offers. */
export interface Offer {
  readonly services: readonly (readonly [DescService, Handlers])[];
  readonly door: Door;
  /** Administrative: only for a caller whose token's policy names the call. */
  readonly needsCallerToken: boolean;
}

/** Binds the same handlers as gRPC does; a method without one answers UNIMPLEMENTED. */
export function route(router: ConnectRouter, { services, door, needsCallerToken }: Offer): void {
  const enter = (method: DescMethod, context: HandlerContext): Call => {
    if (needsCallerToken && !door.callers.areTold)
      throw new KeyturnError("CALLER_NOT_ALLOWED", "Over HTTP this needs a caller token; set callers.file.");
    return admit(door, rpcName(method), {
      authorization: context.requestHeader.get("authorization") ?? undefined,
      leftMs: context.timeoutMs() ?? Number.POSITIVE_INFINITY,
    });
  };
  for (const [service, handlers] of services) {
    const implementation = service.methods.flatMap((method) => {
      const handler = handlers[method.localName];
      return handler === undefined ? [] : [[method.localName, bind(method, handler, door, enter)]];
    });
    router.service(service, Object.fromEntries(implementation));
  }
}

type Enter = (method: DescMethod, context: HandlerContext) => Call;

function bind(method: DescMethod, handler: Handler, door: Door, enter: Enter) {
  if ("stream" in handler) {
    return (request: never, context: HandlerContext) =>
      streamed({ method, door, context, enter, request }, (call, send) =>
        handler.stream(request, call, send),
      );
  }
  if ("bidi" in handler) {
    return (requests: AsyncIterable<never>, context: HandlerContext) =>
      streamed({ method, door, context, enter, request: {} }, (call, send) =>
        handler.bidi(requests, call, send),
      );
  }
  return async (request: never, context: HandlerContext) => {
    try {
      const call: StreamCall = { ...enter(method, context), signal: context.signal, notes: {} };
      const work = () =>
        "unary" in handler ? handler.unary(request, call) : handler.abortable(request, call);
      const answer = await perform(method, request, call, door, work);
      return answer instanceof Uint8Array ? fromBinary(method.output, answer) : answer;
    } catch (error) {
      if ("unary" in handler && handler.failed !== undefined)
        return handler.failed(reported(error, rpcName(method), door));
      throw failure(error, method, door, context.signal);
    }
  };
}

interface Streaming {
  readonly method: DescMethod;
  readonly door: Door;
  readonly context: HandlerContext;
  readonly enter: Enter;
  /** Of a call with one request. */
  readonly request: { readonly accountId?: string };
}

/** What the handler sends, as fast as the reader asks for it. */
async function* streamed(
  { method, door, context, enter, request }: Streaming,
  work: (call: StreamCall, send: (message: unknown) => Promise<void>) => Promise<void>,
): AsyncGenerator<unknown> {
  const over = new AbortController();
  const signal = AbortSignal.any([context.signal, over.signal]);
  let offered = Promise.withResolvers<unknown>();
  let taken = rendezvous();
  signal.addEventListener("abort", () => taken.reject(signal.reason), { once: true });
  const send = async (message: unknown) => {
    signal.throwIfAborted();
    offered.resolve(message);
    await taken.promise;
  };
  try {
    const call = { ...enter(method, context), signal, notes: {} };
    const run = async () => perform(method, request, call, door, () => work(call, send));
    let isOver = false;
    const outcome = run().finally(() => {
      isOver = true;
      offered.resolve(END);
    });
    outcome.catch(() => undefined);
    for (;;) {
      const message = await offered.promise;
      if (message === END) return await outcome;
      offered = Promise.withResolvers();
      if (isOver) offered.resolve(END);
      yield message instanceof Uint8Array ? fromBinary(method.output, message) : message;
      const before = taken;
      taken = rendezvous();
      before.resolve();
    }
  } catch (error) {
    throw failure(error, method, door, context.signal);
  } finally {
    over.abort();
  }
}

/** Rejected when nobody may be waiting any more, which is nobody's fault. */
function rendezvous() {
  const made = Promise.withResolvers<void>();
  made.promise.catch(() => undefined);
  return made;
}

const END = Symbol("end");

function failure(error: unknown, method: DescMethod, door: Door, signal: AbortSignal): ConnectError {
  if (error instanceof ConnectError) return error;
  if (isServiceError(error)) return new ConnectError(error.details, Number(error.code));
  // Whoever has gone, or waited long enough, is no bug.
  if (signal.aborted && !(error instanceof KeyturnError))
    return ConnectError.from(signal.reason, Code.Canceled);
  return toConnectError(reported(error, rpcName(method), door));
}
