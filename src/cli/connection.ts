import { once } from "node:events";
import {
  create,
  type DescMessage,
  type DescMethodBiDiStreaming,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import type { Client, ClientDuplexStream, Metadata } from "@grpc/grpc-js";
import type { Clock } from "../clock.ts";
import type { Secret } from "../tokens/secret.ts";
import type { Target } from "./target.ts";

type Method = DescMethodUnary | DescMethodServerStreaming | DescMethodBiDiStreaming;

interface Deps {
  readonly client: Client;
  readonly metadata: Metadata;
  /** The machine's own: grpc-js counts deadlines by it. */
  readonly clock: Clock;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** Calls to one listener. They fail with grpc-js's own ServiceError, which `failure.ts` reads. */
export class Connection {
  readonly #deps: Deps;

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
  ): Promise<MessageShape<O>> {
    const { client, metadata, clock, timeoutMs, signal } = this.#deps;
    return new Promise((resolve, reject) => {
      signal.throwIfAborted();
      const call = client.makeUnaryRequest(
        pathOf(method),
        bytesOf(method.input),
        (bytes) => fromBinary(method.output, bytes),
        create(method.input, request),
        metadata,
        { deadline: clock.now() + timeoutMs },
        (error, answer) => {
          signal.removeEventListener("abort", cancel);
          if (error === null && answer !== undefined) resolve(answer);
          else reject(error);
        },
      );
      const cancel = () => call.cancel();
      signal.addEventListener("abort", cancel, { once: true });
    });
  }

  /** No deadline: it ends when the sidecar ends it, the signal aborts or the reader stops reading. */
  async *stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
  ): AsyncGenerator<MessageShape<O>, void> {
    const { client, metadata, signal } = this.#deps;
    signal.throwIfAborted();
    const call = client.makeServerStreamRequest(
      pathOf(method),
      bytesOf(method.input),
      (bytes) => fromBinary(method.output, bytes),
      create(method.input, request),
      metadata,
    );
    const cancel = () => call.cancel();
    signal.addEventListener("abort", cancel, { once: true });
    try {
      for await (const message of call) yield message as MessageShape<O>;
    } finally {
      signal.removeEventListener("abort", cancel);
      // A call that is cut short still reports its cancellation; nobody is left to hear it.
      call.on("error", () => {});
      call.cancel();
    }
  }

  /**
   * Sends as fast as the sidecar reads, and gives what it answers. No deadline. What the requests throw ends the call
   * and is thrown here.
   */
  async *exchange<I extends DescMessage, O extends DescMessage>(
    method: DescMethodBiDiStreaming<I, O>,
    requests: AsyncIterable<MessageInitShape<I>>,
  ): AsyncGenerator<MessageShape<O>, void> {
    const { client, metadata, signal } = this.#deps;
    signal.throwIfAborted();
    const call = client.makeBidiStreamRequest(
      pathOf(method),
      bytesOf(method.input),
      (bytes) => fromBinary(method.output, bytes),
      metadata,
    );
    const over = new AbortController();
    const cancel = () => call.cancel();
    signal.addEventListener("abort", cancel, { once: true });
    let fault: unknown;
    // Not awaited at the end: requests may be waiting for answers that will not come any more.
    send(call, method, requests, over.signal).catch((error: unknown) => {
      if (over.signal.aborted) return;
      fault = error;
      call.cancel();
    });
    try {
      for await (const message of call) yield message as MessageShape<O>;
    } catch (error) {
      throw fault ?? error;
    } finally {
      over.abort();
      signal.removeEventListener("abort", cancel);
      call.on("error", () => {});
      call.cancel();
    }
    if (fault !== undefined) throw fault;
  }

  close(): void {
    this.#deps.client.close();
  }
}

/** Nothing is sent before the first call. grpc-js is loaded here, so that help and `serve` start without it. */
export async function connect(
  target: Target,
  from: {
    readonly callerToken: Secret | undefined;
    readonly clock: Clock;
    readonly timeoutMs: number;
    readonly signal: AbortSignal;
  },
): Promise<Connection> {
  const { Client, credentials, Metadata } = await import("@grpc/grpc-js");
  const channel =
    target.tls === undefined
      ? credentials.createInsecure()
      : credentials.createSsl(target.tls.ca, target.tls.key, target.tls.cert);
  const metadata = new Metadata();
  if (from.callerToken !== undefined) metadata.set("authorization", `Bearer ${from.callerToken.reveal()}`);
  const client = new Client(target.address, channel, {
    "grpc.max_receive_message_length": 64 * 1_024 * 1_024,
    // A proxy set for the shell is not meant for the sidecar beside it.
    "grpc.enable_http_proxy": 0,
  });
  return new Connection({
    client,
    metadata,
    clock: from.clock,
    timeoutMs: from.timeoutMs,
    signal: from.signal,
  });
}

async function send<I extends DescMessage>(
  call: ClientDuplexStream<MessageShape<I>, unknown>,
  method: { readonly input: I },
  requests: AsyncIterable<MessageInitShape<I>>,
  over: AbortSignal,
): Promise<void> {
  for await (const request of requests) {
    over.throwIfAborted();
    if (!call.write(create(method.input, request))) await once(call, "drain", { signal: over });
  }
  call.end();
}

function pathOf({ parent, name }: Method): string {
  return `/${parent.typeName}/${name}`;
}

function bytesOf<I extends DescMessage>(input: I): (message: MessageShape<I>) => Buffer {
  return (message) => Buffer.from(toBinary(input, message));
}
