import type { EventEmitter } from "node:events";
import type { Readable, Writable } from "node:stream";
import type { DescMessage, DescMethod, DescService, MessageShape } from "@bufbuild/protobuf";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  type handleBidiStreamingCall,
  type handleServerStreamingCall,
  type handleUnaryCall,
  type Metadata,
  type MethodDefinition,
  type Server,
  status,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import type { Clock } from "../clock.ts";
import { KeyturnError } from "../errors.ts";
import { type Caller, type Callers, requireRpc } from "./policy.ts";
import type { Rates } from "./rates.ts";
import { toKeyturnError, toServiceError } from "./status.ts";

/** Who calls, and until when: all that a handler needs to know of the wire. */
export interface Call {
  readonly caller: Caller;
  /** Boot clock. Infinity without a deadline. */
  readonly untilBootMs: number;
  /** `AccountService/GetAccount`. */
  readonly rpc: string;
}

/** A plain unary call has no signal: one that aborts whenever a call is over would cost more than a warm GetToken. */
export interface StreamCall extends Call {
  /** Aborts when the caller has gone. */
  readonly signal: AbortSignal;
  /** What the handler puts here goes into the act's audit record when the call is over, however it ends. */
  readonly notes: Record<string, string>;
}

type Message<M extends DescMessage> = MessageShape<M>;

/** Answers with a message, or with the bytes of one. */
export type Unary = (request: never, call: Call) => unknown;
/** Sends, messages or the bytes of them, as fast as `send` resolves, which is as fast as the caller reads. */
export type Streaming = (
  request: never,
  call: StreamCall,
  send: (message: unknown) => Promise<void>,
) => Promise<void>;

/** Binds one unary method. */
export interface UnaryHandler {
  readonly unary: Unary;
  /** For a protocol whose failures are answers too. Absent: they are gRPC errors. */
  readonly failed?: (error: KeyturnError) => unknown;
  /** Reads no more of a request than is needed; throws when it is none. Absent: the whole message is read. */
  readonly decode?: (bytes: Uint8Array) => unknown;
}

/** A unary call whose work ends with its caller. */
export type Abortable = (request: never, call: StreamCall) => Promise<unknown>;
/** Reads as fast as it asks for the next message. The requests end, or throw, as the caller's side does. */
export type Bidi = (
  requests: AsyncIterable<never>,
  call: StreamCall,
  send: (message: unknown) => Promise<void>,
) => Promise<void>;

export type Handler =
  | UnaryHandler
  | { readonly abortable: Abortable }
  | { readonly stream: Streaming }
  | { readonly bidi: Bidi };

export type Handlers = Readonly<Record<string, Handler>>;

export function unary<I extends DescMessage, O extends DescMessage>(
  _method: { readonly input: I; readonly output: O },
  handler: (request: Message<I>, call: Call) => Message<O> | Uint8Array | Promise<Message<O> | Uint8Array>,
): { readonly unary: Unary } {
  return { unary: handler as Unary };
}

export function stream<I extends DescMessage, O extends DescMessage>(
  _method: { readonly input: I; readonly output: O },
  handler: (
    request: Message<I>,
    call: StreamCall,
    send: (message: Message<O>) => Promise<void>,
  ) => Promise<void>,
): { readonly stream: Streaming } {
  return { stream: handler as Streaming };
}

export function abortable<I extends DescMessage, O extends DescMessage>(
  _method: { readonly input: I; readonly output: O },
  handler: (request: Message<I>, call: StreamCall) => Promise<Message<O> | Uint8Array>,
): { readonly abortable: Abortable } {
  return { abortable: handler as Abortable };
}

export function bidi<I extends DescMessage, O extends DescMessage>(
  _method: { readonly input: I; readonly output: O },
  handler: (
    requests: AsyncIterable<Message<I>>,
    call: StreamCall,
    send: (message: Message<O> | Uint8Array) => Promise<void>,
  ) => Promise<void>,
): { readonly bidi: Bidi } {
  return { bidi: handler as Bidi };
}

/** Writes down that an act begins; what it returns writes down how it ended. `found`: an id that only the act told. */
export type Act = (
  rpc: string,
  caller: string,
  account: string,
) => Promise<
  (outcome: string, notes: Readonly<Record<string, string>>, found?: string | undefined) => Promise<void>
>;

/** How calls are let in. */
export interface Door {
  readonly clock: Clock;
  readonly callers: Callers;
  readonly rates: Rates;
  /** What a caller without a token is called in the audit trail: `uds` or `tcp`. */
  readonly via: string;
  /**
   * Writes down that an act begins; what it returns writes down how it ended. Its failure fails the call. Undefined:
   * nothing on this listener is an administrative act.
   */
  readonly act: Act | undefined;
  /** Larger requests are BODY_TOO_LARGE. */
  readonly maxRequestBytes: number;
  /** A bug's own words, which no caller gets. */
  readonly report: (what: string, context: Readonly<Record<string, string>>, cause: unknown) => void;
}

/** Leaves time for the answer to arrive before the caller gives up. */
const DEADLINE_MARGIN_MS = 20;

/** Binds a service's handlers; a method without one answers UNIMPLEMENTED. */
export function addService(server: Server, service: DescService, handlers: Handlers, door: Door): void {
  const definition: Record<string, MethodDefinition<Buffer, unknown>> = {};
  const implementation: UntypedServiceImplementation = {};
  for (const method of service.methods) {
    definition[method.name] = definitionOf(service, method);
    implementation[method.name] = bind(method, handlers[method.localName], door);
  }
  server.addService(definition, implementation);
}

function definitionOf(service: DescService, method: DescMethod): MethodDefinition<Buffer, unknown> {
  return {
    path: `/${service.typeName}/${method.name}`,
    requestStream: method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming",
    responseStream: method.methodKind === "server_streaming" || method.methodKind === "bidi_streaming",
    // Read in the handler, where a fault becomes INVALID_ARGUMENT.
    requestSerialize: (bytes) => bytes,
    requestDeserialize: (bytes) => bytes,
    responseSerialize: (message) => serialize(method, message),
    responseDeserialize: (bytes) => bytes,
  };
}

function serialize(method: DescMethod, message: unknown): Buffer {
  const bytes =
    message instanceof Uint8Array ? message : toBinary(method.output, message as MessageShape<DescMessage>);
  return bytes instanceof Buffer ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function bind(method: DescMethod, handler: Handlers[string] | undefined, door: Door) {
  if (handler === undefined) return unimplemented(method);
  if ("unary" in handler) return bindUnary(method, handler, door);
  if ("abortable" in handler) return bindAbortable(method, handler.abortable, door);
  if ("stream" in handler) return bindStream(method, handler.stream, door);
  return bindBidi(method, handler.bidi, door);
}

function unimplemented(method: DescMethod) {
  const error = {
    code: status.UNIMPLEMENTED,
    details: `${method.parent.name}.${method.name} is not part of this version.`,
  };
  // A unary call has its callback second; a streaming one is ended by the error itself.
  return (call: { emit?: (name: string, error: unknown) => void }, callback?: (error: unknown) => void) =>
    callback === undefined ? call.emit?.("error", error) : callback(error);
}

function bindUnary(method: DescMethod, how: UnaryHandler, door: Door): handleUnaryCall<Buffer, unknown> {
  const handle = answering(method, how, door);
  return (call, callback) => handle(call, callback, how.unary);
}

/** What is common to calls with one request and one answer. */
function answering(
  method: DescMethod,
  { failed, decode }: Omit<UnaryHandler, "unary">,
  door: Door,
): (...on: [...Parameters<handleUnaryCall<Buffer, unknown>>, handler: Unary]) => void {
  const rpc = rpcName(method);
  return (call, callback, handler) => {
    const fail = (error: unknown) => {
      if (failed === undefined) callback(failure(error, rpc, door));
      else callback(null, failed(reported(error, rpc, door)));
    };
    try {
      const request = read(method, call.request, door, decode);
      const seen = callOf(call, rpc, door);
      const answer = perform(method, request, seen, door, () => handler(request, seen));
      if (answer instanceof Promise) answer.then((message) => callback(null, message), fail);
      else callback(null, answer);
    } catch (error) {
      fail(error);
    }
  };
}

function bindStream(
  method: DescMethod,
  handler: Streaming,
  door: Door,
): handleServerStreamingCall<Buffer, unknown> {
  const rpc = rpcName(method);
  return (call) => {
    const gone = goneWith(call);
    const work = async () => {
      const request = read(method, call.request, door);
      const seen = { ...callOf(call, rpc, door), signal: gone, notes: {} };
      const run = () => handler(request, seen, (message) => write(call, message, gone));
      await perform(method, request, seen, door, run);
      call.end();
    };
    // An error thrown between two messages leaves the same way as one thrown before the first.
    work().catch((error: unknown) => {
      if (!gone.aborted) call.emit("error", failure(error, rpc, door));
    });
  };
}

function bindAbortable(method: DescMethod, handler: Abortable, door: Door): handleUnaryCall<Buffer, unknown> {
  const handle = answering(method, {}, door);
  return (call, callback) => {
    const gone = new AbortController();
    const abort = () => gone.abort("gone");
    call.on("cancelled", abort);
    const end: typeof callback = (...answer) => {
      // It is said of every call that is over, too, and to abort nothing costs as much as a small message.
      call.off("cancelled", abort);
      callback(...answer);
    };
    handle(call, end, (request, { caller, untilBootMs, rpc }) =>
      handler(request, { caller, untilBootMs, rpc, signal: gone.signal, notes: {} }),
    );
  };
}

function bindBidi(method: DescMethod, handler: Bidi, door: Door): handleBidiStreamingCall<Buffer, unknown> {
  const rpc = rpcName(method);
  return (call) => {
    const gone = goneWith(call);
    const work = async () => {
      const seen = { ...callOf(call, rpc, door), signal: gone, notes: {} };
      const run = () => handler(messages(method, call, door), seen, (message) => write(call, message, gone));
      await perform(method, {}, seen, door, run);
      call.end();
    };
    work().catch((error: unknown) => {
      if (!gone.aborted) call.emit("error", failure(error, rpc, door));
    });
  };
}

/** Aborts when the caller has gone, or the call is over. */
function goneWith(call: EventEmitter): AbortSignal {
  const gone = new AbortController();
  // With a reason of ours: without one an exception is made for each call, stack and all.
  const end = () => gone.abort("gone");
  call.on("cancelled", end);
  call.on("close", end);
  return gone.signal;
}

/** Asked for one at a time. Who stops reading does not end the call: its answer goes the other way. */
async function* messages(method: DescMethod, call: Readable, door: Door): AsyncGenerator<never> {
  for await (const bytes of call.iterator({ destroyOnReturn: false })) yield read(method, bytes, door);
}

/** Runs what a call is about; an administrative act is written down. */
export function perform<T>(
  method: DescMethod,
  request: { readonly accountId?: string },
  call: Call | StreamCall,
  door: Door,
  work: () => T,
): T | Promise<Awaited<T>> {
  return isAct(method, door) ? audited(request, call, door, work) : work();
}

const READS = /^(Get|List|Explain|Export|Query|Verify|Lint|Watch|Check)/;

function isAct(method: DescMethod, door: Door): boolean {
  return door.act !== undefined && !READS.test(method.name);
}

/** An act that cannot be written down does not happen. */
async function audited<T>(
  request: { readonly accountId?: string },
  call: Call | StreamCall,
  door: Door,
  work: () => T,
): Promise<Awaited<T>> {
  const { act } = door;
  if (act === undefined) return await work();
  const notes = "notes" in call ? call.notes : {};
  const isGone = () => "signal" in call && call.signal.aborted;
  const of = { rpc: call.rpc, caller: call.caller.name, account: request.accountId ?? "" };
  return acted(act, of, work, notes, isGone);
}

/** Does it between its two audit records; its error says which account it was about and why. */
export async function acted<T>(
  act: Act,
  of: { readonly rpc: string; readonly caller: string; readonly account: string },
  work: () => T,
  notes: Readonly<Record<string, string>> = {},
  isGone: () => boolean = () => false,
): Promise<Awaited<T>> {
  const end = await act(of.rpc, of.caller, of.account);
  try {
    const done = await work();
    await end("ok", notes, accountIn(done));
    return done;
  } catch (error) {
    const { reason, metadata, violations } = toKeyturnError(error);
    const { cause, account_id: account } = metadata;
    const field = violations[0]?.field;
    const said = {
      ...notes,
      ...(cause === undefined ? {} : { cause }),
      ...(field === undefined ? {} : { field }),
    };
    await end(isGone() ? "caller_gone" : reason, said, account);
    throw error;
  }
}

/** An id that was made, or found, only by the act itself. */
function accountIn(answer: unknown): string | undefined {
  const isMessage = typeof answer === "object" && answer !== null && "accountId" in answer;
  return isMessage && typeof answer.accountId === "string" ? answer.accountId : undefined;
}

/** Resolves when the caller has room for more, so that nothing piles up here. */
function write(call: Writable, message: unknown, gone: AbortSignal): Promise<void> {
  gone.throwIfAborted();
  if (call.write(message)) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const onGone = () => reject(gone.reason);
    gone.addEventListener("abort", onGone, { once: true });
    call.once("drain", () => {
      gone.removeEventListener("abort", onGone);
      resolve();
    });
  });
}

function read(
  method: DescMethod,
  bytes: Buffer,
  { maxRequestBytes }: Door,
  decode: (bytes: Uint8Array) => unknown = (all) => fromBinary(method.input, all),
): never {
  if (bytes.length > maxRequestBytes) {
    throw new KeyturnError(
      "BODY_TOO_LARGE",
      `The message has ${bytes.length} bytes; at most ${maxRequestBytes} are taken.`,
      { metadata: { limit: String(maxRequestBytes) } },
    );
  }
  try {
    return decode(bytes) as never;
  } catch (cause) {
    throw new KeyturnError("INVALID_REQUEST", `The request is not a ${method.input.typeName}.`, {
      violations: [{ field: "", description: `bytes of a ${method.input.typeName}` }],
      cause,
    });
  }
}

function callOf(
  call: { readonly metadata: Metadata; getDeadline(): Date | number },
  rpc: string,
  door: Door,
): Call {
  const deadlineAtMs = Number(call.getDeadline());
  return admit(door, rpc, {
    authorization: authorizationOf(call.metadata, door),
    leftMs: deadlineAtMs === Number.POSITIVE_INFINITY ? deadlineAtMs : deadlineAtMs - door.clock.now(),
  });
}

/** Lets a caller in, or throws CALLER_UNKNOWN, CALLER_RATE_LIMITED or CALLER_NOT_ALLOWED. */
export function admit(
  door: Door,
  rpc: string,
  from: {
    readonly authorization: string | undefined;
    /** Until the caller gives up; infinity when it never does. */
    readonly leftMs: number;
  },
): Call {
  const caller = door.callers.identify(from.authorization, door.via);
  const nowMs = door.clock.boot();
  door.rates.spend(caller, nowMs);
  requireRpc(caller, rpc);
  return { caller, untilBootMs: nowMs + from.leftMs - DEADLINE_MARGIN_MS, rpc };
}

/** Undefined also where nobody would look at it. */
function authorizationOf(metadata: Metadata, { callers }: Door): string | undefined {
  if (!callers.areTold) return undefined;
  const [authorization] = metadata.get("authorization");
  return typeof authorization === "string" ? authorization : undefined;
}

function failure(error: unknown, rpc: string, door: Door) {
  return isServiceError(error) ? error : toServiceError(reported(error, rpc, door));
}

/** A bug's own words go to the log. */
export function reported(error: unknown, rpc: string, door: Door): KeyturnError {
  const ours = toKeyturnError(error);
  if (ours.reason === "INTERNAL_ERROR") door.report("call failed", { rpc }, error);
  return ours;
}

/** A protocol of gRPC's own, such as health, has its own codes and no reasons. */
export function isServiceError(
  error: unknown,
): error is Error & { readonly code: status; readonly details: string } {
  return error instanceof Error && "code" in error && typeof error.code === "number" && "details" in error;
}

export function rpcName(method: DescMethod): string {
  return `${method.parent.name}/${method.name}`;
}
