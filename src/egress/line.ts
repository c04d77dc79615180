import type { Socket } from "node:net";
import type { Client, Dispatcher } from "undici";
import { Outgoing } from "./body.ts";
import { answerCause } from "./causes.ts";
import type { Limit } from "./limit.ts";

/** One request as it goes out on a line, everything checked. */
export interface Call {
  readonly method: string;
  readonly path: string;
  /** Name, value, name, value … With a `content-length` a streamed body has exactly that many bytes; else it is chunked. */
  readonly headers: string[];
  readonly body: Uint8Array | Outgoing | undefined;
  /** Says `connection: close`. */
  readonly last: boolean;
  readonly beforeFirstByte: (() => boolean) | undefined;
  /** Wall clock, epoch milliseconds. */
  readonly now: () => number;
  readonly limit: Limit;
}

type Fields = readonly (readonly [string, string])[];

/** The beginning of an answer. */
export interface Head {
  readonly status: number;
  readonly headers: Fields;
  readonly requestedAtMs: number;
  readonly receivedAtMs: number;
}

/** Stops and goes on with the reading of an answer's body. */
export interface Flow {
  pause(): void;
  resume(): void;
}

/** Who hears an answer, as it comes and still encoded. */
export interface Listener {
  head(head: Head, flow: Flow): void;
  /** A cause ends the call: no more is wanted. */
  data(chunk: Buffer): string | undefined;
  /** The whole request has been handed to the connection. */
  sent?(): void;
}

/**
 * Why there is no complete answer: no byte of the request was written, or one was or may have been. Causes are single
 * words, never secrets.
 */
export interface Unanswered {
  readonly kind: "not_sent" | "unknown";
  readonly cause: string;
}

/** How a call on a line ended. `gone`: the connection was lost with no byte written, so another one may be tried. */
export type Ended =
  | { readonly kind: "complete"; readonly trailers: Fields }
  | { readonly kind: "gone"; readonly cause: string }
  | Unanswered;

const MAX_HEADER_BYTES = 32 * 1024;
const IDLE_MS = 30_000;

function fieldsOf(raw: Dispatcher.DispatchController["rawHeaders"]): Fields {
  if (!Array.isArray(raw)) return [];
  const text = (part: Buffer | string | undefined) =>
    typeof part === "string" ? part : (part?.toString("latin1") ?? "");
  const pairs: (readonly [string, string])[] = [];
  for (let i = 0; i + 1 < raw.length; i += 2) pairs.push([text(raw[i]).toLowerCase(), text(raw[i + 1])]);
  return pairs;
}

/** One HTTP/1.1 connection that knows whether a byte of the current call was written. One call at a time. */
export class Line {
  /** What the connection was opened for; it serves nothing else. */
  readonly key: string;
  readonly #client: Client;
  readonly #socket: Socket;
  #wrote = false;
  #faulty = false;

  /** `socket` is open, TLS done; the line owns it from here. It closes itself after 30 s without a call. */
  constructor(key: string, origin: string, socket: Socket, undici: { readonly Client: typeof Client }) {
    this.key = key;
    this.#socket = socket;
    socket.on("error", () => {
      this.#faulty = true;
    });
    const write = socket.write;
    Object.defineProperty(socket, "write", {
      configurable: true,
      writable: true, // Node puts its own refusal there when the peer has hung up
      value: (...args: unknown[]): unknown => {
        this.#wrote = true;
        return Reflect.apply(write, socket, args);
      },
    });
    let given = false;
    this.#client = new undici.Client(origin, {
      // Once only: undici's own reconnect would go around the guard.
      connect: (_options, callback) => {
        const first = !given;
        given = true;
        queueMicrotask(() => (first ? callback(null, socket) : callback(new Error("gone"), null)));
      },
      allowH2: false,
      useMilo: false,
      pipelining: 1,
      maxHeaderSize: MAX_HEADER_BYTES,
      headersTimeout: 0, // the call's signal limits the whole
      bodyTimeout: 0,
      keepAliveTimeout: IDLE_MS,
      keepAliveMaxTimeout: IDLE_MS,
    });
  }

  /** True while another call may be tried. */
  get alive(): boolean {
    return !this.#socket.destroyed && this.#socket.writable;
  }

  /** `heard` is called once, when the connection has closed. */
  onClose(heard: () => void): void {
    this.#socket.once("close", heard);
  }

  destroy(): void {
    this.#socket.destroy();
    this.#client.destroy().catch(() => {});
  }

  /** Sends `call` and tells `listener` of its answer. Rejects only with what `beforeFirstByte` or the body throws. */
  exchange(call: Call, listener: Listener): Promise<Ended> {
    this.#wrote = false;
    return new Promise((resolve, reject) => {
      let over = false;
      let requestedAtMs = 0;
      let answered = false;
      let streamed: ReturnType<Outgoing["attempt"]> | undefined;

      const settle = (end: () => void): void => {
        if (over) return;
        over = true;
        call.limit.hear(undefined);
        end();
        streamed?.end();
      };
      const fail = (cause: string): void => {
        settle(() => resolve({ kind: this.#wrote ? "unknown" : "not_sent", cause }));
      };
      const abort = (): void => {
        fail(String(call.limit.cause));
        this.destroy();
      };
      if (call.limit.cause !== undefined) {
        abort();
        return;
      }
      call.limit.hear(abort);

      // undici calls this and then writes, in one go: nothing can come between.
      const start = (controller: Dispatcher.DispatchController): void => {
        // It puts a request back in its queue after some losses; the same bytes never go out twice.
        if (this.#wrote) fail("connection_closed");
        try {
          if (!over && call.beforeFirstByte?.() === false) fail("withdrawn");
        } catch (error) {
          settle(() => reject(error));
        }
        if (over) controller.abort(new Error("over"));
        requestedAtMs = call.now();
      };

      const bodyFailed = (error: unknown): void => {
        settle(() => reject(error));
        this.destroy();
      };
      const sendable = () => {
        if (call.body === undefined) return null;
        if (call.body instanceof Outgoing) {
          streamed = call.body.attempt(bodyFailed);
          return streamed;
        }
        // A view, not a copy: the body may be all secrets.
        const { buffer, byteOffset, byteLength } = call.body;
        return byteLength === 0 ? null : Buffer.from(buffer, byteOffset, byteLength);
      };

      this.#client.dispatch(
        {
          method: call.method,
          path: call.path,
          headers: call.headers,
          body: sendable() as Buffer | null, // an iterable is taken too; the types do not say so
          reset: call.last,
        },
        {
          onRequestStart: start,
          onRequestSent: () => listener.sent?.(),
          onResponseStart: (controller, status) => {
            if (status < 200 || over) return;
            answered = true;
            const headers = fieldsOf(controller.rawHeaders);
            listener.head({ status, headers, requestedAtMs, receivedAtMs: call.now() }, controller);
          },
          onResponseData: (controller, chunk) => {
            const enough = listener.data(chunk);
            if (enough === undefined) return;
            fail(enough);
            controller.abort(new Error("over"));
          },
          onResponseEnd: (controller) => {
            // A body that only the end of the connection delimits is not complete when that end is an error.
            if (!answered || this.#faulty) return fail("connection_reset");
            settle(() => resolve({ kind: "complete", trailers: fieldsOf(controller.rawTrailers) }));
          },
          onResponseError: (_controller, error) => {
            const cause = answerCause(error);
            if (this.#wrote) fail(cause);
            else settle(() => resolve({ kind: "gone", cause }));
          },
        },
      );
    });
  }
}
