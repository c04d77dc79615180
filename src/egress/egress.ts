import type { Clock } from "../clock.ts";
import { Incoming, Outgoing } from "./body.ts";
import { brokenOff } from "./broken.ts";
import type { ConnectProxy } from "./connect-proxy.ts";
import {
  type ClientCertificate,
  type ConnectionDeps,
  certificateName,
  openConnection,
  trustStore,
} from "./connection.ts";
import { decodeBody, decodeStream } from "./decode.ts";
import { type Dial, tcpDial } from "./dial.ts";
import { checkedHeaders, checkedMethod } from "./head.ts";
import { type Destination, Hosts } from "./hosts.ts";
import { Limit } from "./limit.ts";
import { type Call, type Ended, type Head, Line, type Listener, type Unanswered } from "./line.ts";
import { Pool } from "./pool.ts";
import { type Resolve, systemResolve } from "./resolve.ts";

/** What every request to anybody outside says. */
interface Asked {
  readonly method: string;
  /** Absolute and fully rendered. */
  readonly url: string;
  /** May hold secrets. `host`, `content-length` and the hop-by-hop headers are written by the room. */
  readonly headers: readonly (readonly [string, string])[];
  /** The provider file's hosts, as `hostAllowed` reads them. */
  readonly allowedHosts: readonly string[];
  /** The provider file permits loopback; plain http is then permitted too, to loopback only. */
  readonly allowLoopback: boolean;
  /** The operator permits private networks for this provider. */
  readonly allowPrivate?: boolean;
  /** Shown when the server asks for one. The server's own is verified all the same. */
  readonly clientCertificate?: ClientCertificate;
  /** From the call to the complete body, in milliseconds. */
  readonly timeoutMs: number;
  /** For name, connection and TLS together. Default 10 s. */
  readonly connectTimeoutMs?: number;
  /** The body stays as it comes, `content-encoding` and all. */
  readonly keepEncoding?: boolean;
  /** Ends the request wherever it is: the shutdown limit, a caller who has gone. */
  readonly signal?: AbortSignal;
}

/** A request to anybody outside, whole, with a whole answer. */
export interface OutboundRequest extends Asked {
  readonly body: Uint8Array | undefined;
  /** True: on a connection of its own, neither taken from the pool nor returned to it (single-use refresh token). */
  readonly fresh: boolean;
  /** Of the answer, as it comes and decoded. */
  readonly maxBodyBytes: number;
  /** Called right before the first byte is written, in the same turn; false: nothing is sent (`withdrawn`). */
  readonly beforeFirstByte?: () => boolean;
}

/** A request whose body, answer or both are streams. */
export interface StreamedRequest extends Asked {
  /** A stream is read once, as fast as the other side takes it. What it throws, `stream` or the answer's body throws. */
  readonly body: Uint8Array | AsyncIterable<Uint8Array> | undefined;
  /** The length of a streamed body, which it then must have; undefined: it is sent in chunks. */
  readonly bodyBytes?: number | undefined;
  /** From the end of the request's body to the beginning of the answer, in milliseconds. */
  readonly answerWithinMs: number;
}

type Fields = Head["headers"];

/** A complete answer. */
export interface Answer extends Head {
  readonly kind: "answer";
  readonly body: Buffer;
}

/** The beginning of an answer, and the rest of it as it comes. Read the body, or cancel it: it holds a connection. */
export interface StreamedAnswer extends Head {
  readonly kind: "answer";
  /** Reading slowly makes the sender slow. Throws PROVIDER_UNAVAILABLE, with the cause, when it breaks off. */
  readonly body: AsyncIterable<Buffer>;
  /** What followed the body; empty before its end. */
  readonly trailers: () => Fields;
  readonly cancel: () => void;
}

/**
 * What became of a request. A redirect is an answer like any other. Header names in lower case, in order, repeated ones
 * kept; `content-encoding` is undone and gone. Wall-clock times.
 */
export type OutboundResult = Answer | Unanswered;
export type StreamedResult = StreamedAnswer | Unanswered;

/** The guarded way out. */
export interface Egress {
  /**
   * Rejects with DESTINATION_NOT_ALLOWED (`cause` in the metadata) for a destination the guard refuses and with
   * INVALID_REQUEST for a method or header that cannot be sent; in either case nothing was written.
   */
  request(r: OutboundRequest): Promise<OutboundResult>;
  /** As `request`, on pooled connections, resolving at the beginning of the answer. */
  stream(r: StreamedRequest): Promise<StreamedResult>;
  /** Refuses new requests (`closed`), ends the running ones where they are, closes the connections. */
  close(): Promise<void>;
}

export interface EgressDeps {
  readonly clock: Clock;
  /** Default: the machine's resolver. */
  readonly resolve?: Resolve;
  /** Default: TCP. */
  readonly dial?: Dial;
  /** Certificate authorities in PEM, beside the machine's own. */
  readonly ca?: readonly string[];
  /** Default: everything is reached directly. */
  readonly proxy?: ConnectProxy | undefined;
}

const CONNECT_TIMEOUT_MS = 10_000;

// A setTimeout past 24.8 days fires at once.
const MAX_TIMER_MS = 2 ** 31 - 1;

const ONCE = { once: true };

/** Streams are long, and one provider may have many of them open. */
const STREAM_PLACES = 1_000;

/** Empty when there are none. */
function codingsOf(headers: Fields): string {
  let codings = "";
  for (const [name, value] of headers) {
    if (name === "content-encoding") codings += codings === "" ? value : `,${value}`;
  }
  return codings;
}

function withoutCoding(headers: Fields): Fields {
  return headers.filter(([name]) => name !== "content-encoding" && name !== "content-length");
}

function decoded(r: OutboundRequest, answer: Answer): OutboundResult | Promise<OutboundResult> {
  const codings = r.keepEncoding === true ? "" : codingsOf(answer.headers);
  return codings === "" ? answer : undone(r, answer, codings);
}

async function undone(r: OutboundRequest, answer: Answer, codings: string): Promise<OutboundResult> {
  const result = await decodeBody(answer.body, codings, r.maxBodyBytes);
  if (result.kind === "untouched") return answer;
  if (result.kind === "failed") return { kind: "unknown", cause: result.cause };
  return { ...answer, headers: withoutCoding(answer.headers), body: result.body };
}

function hasNoBody(method: string, status: number): boolean {
  return method === "HEAD" || status === 204 || status === 304;
}

/** One request on its way: everything checked, and what ends it. */
interface Sending {
  readonly r: Asked & { readonly beforeFirstByte?: () => boolean };
  readonly to: Destination;
  readonly headers: string[];
  readonly method: string;
  readonly body: Uint8Array | Outgoing | undefined;
  readonly fresh: boolean;
  readonly places: number | undefined;
  readonly limit: Limit;
}

class GuardedEgress implements Egress {
  readonly #clock: Clock;
  readonly #connection: ConnectionDeps;
  readonly #pool = new Pool();
  readonly #hosts = new Hosts();
  /** Of the requests on their way. */
  readonly #running = new Set<Limit>();
  /** Called when there are none any more. */
  #idle: () => void = () => undefined;
  #closed = false;

  constructor(deps: EgressDeps) {
    this.#clock = deps.clock;
    this.#connection = {
      resolve: deps.resolve ?? systemResolve(),
      dial: deps.dial ?? tcpDial,
      trust: trustStore(deps.ca ?? []),
      proxy: deps.proxy,
    };
  }

  async request(r: OutboundRequest): Promise<OutboundResult> {
    const sending = this.#checked(r, r.body, r.fresh);
    let head: Head | undefined;
    let bytes = 0;
    const chunks: Buffer[] = [];
    const ended = await this.#send(sending, {
      head: (begun) => {
        head = begun;
      },
      data: (chunk) => {
        bytes += chunk.length;
        if (bytes > r.maxBodyBytes) return "body_too_large";
        chunks.push(chunk);
        return undefined;
      },
    });
    if (ended.kind !== "complete") return ended;
    if (head === undefined) return { kind: "unknown", cause: "connection_reset" };
    const { status, headers, requestedAtMs } = head;
    const receivedAtMs = this.#clock.now();
    const body = chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks);
    return decoded(r, { kind: "answer", status, headers, requestedAtMs, receivedAtMs, body });
  }

  async stream(r: StreamedRequest): Promise<StreamedResult> {
    const streamed = r.body === undefined || r.body instanceof Uint8Array ? undefined : new Outgoing(r.body);
    const body = streamed ?? (r.body as Uint8Array | undefined);
    const sending = { ...this.#checked(r, body, false), places: STREAM_PLACES };
    if (streamed !== undefined && r.bodyBytes !== undefined) {
      sending.headers.push("content-length", String(r.bodyBytes));
    }
    return new Promise((resolve, reject) => {
      let trailers: Fields = [];
      let waiting: NodeJS.Timeout | undefined;
      let answered = false;
      const cancel = (): void => sending.limit.end("aborted");
      const incoming = new Incoming(cancel);
      const listener: Listener = {
        sent: () => {
          if (answered) return;
          const late = () => sending.limit.end("timeout");
          waiting = setTimeout(late, Math.min(r.answerWithinMs, MAX_TIMER_MS));
        },
        head: (head, flow) => {
          answered = true;
          clearTimeout(waiting);
          incoming.start(flow);
          const answer = {
            kind: "answer",
            ...head,
            body: incoming,
            trailers: () => trailers,
            cancel,
          } as const;
          const codings = codingsOf(head.headers);
          const decode = r.keepEncoding !== true && codings !== "" && !hasNoBody(sending.method, head.status);
          const plain = decode ? decodeStream(incoming, codings) : undefined;
          resolve(
            plain === undefined ? answer : { ...answer, headers: withoutCoding(head.headers), body: plain },
          );
        },
        data: (chunk) => {
          incoming.push(chunk);
          return undefined;
        },
      };
      this.#send(sending, listener)
        .then(
          (ended) => {
            if (ended.kind === "complete") {
              trailers = ended.trailers;
              incoming.end();
            } else {
              resolve(ended);
              incoming.end(brokenOff(ended.cause));
            }
          },
          (error: unknown) => {
            reject(error);
            incoming.end(error instanceof Error ? error : new Error(String(error)));
          },
        )
        .finally(() => {
          clearTimeout(waiting);
          streamed?.close();
        });
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const limit of this.#running) limit.end("aborted");
    if (this.#running.size > 0) {
      const others = this.#idle;
      await new Promise<void>((resolve) => {
        this.#idle = () => {
          others();
          resolve();
        };
      });
    }
    this.#pool.close();
  }

  #checked(r: Asked, body: Sending["body"], fresh: boolean): Sending {
    const to = this.#hosts.assert(r.url, r.allowedHosts, r);
    const method = checkedMethod(r.method);
    const headers = checkedHeaders(r.headers);
    return { r, to, method, headers, body, fresh, places: undefined, limit: new Limit() };
  }

  /** Sends until the request's limits, or the room's end, end it. */
  async #send(sending: Sending, listener: Listener): Promise<Exclude<Ended, { kind: "gone" }>> {
    if (this.#closed) return { kind: "not_sent", cause: "closed" };
    const { r, limit, to, method, headers, body, fresh } = sending;
    let late: NodeJS.Immediate | undefined;
    // A process that stood still finds its timers due first: what has arrived meanwhile is read before it is given up.
    const timeUp = (): void => {
      late = setImmediate(() => limit.end("timeout"));
    };
    const timer = setTimeout(timeUp, Math.min(r.timeoutMs, MAX_TIMER_MS));
    const abort = (): void => limit.end("aborted");
    if (r.signal?.aborted === true) abort();
    r.signal?.addEventListener("abort", abort, ONCE);
    this.#running.add(limit);
    try {
      const call: Call = {
        method,
        path: to.path,
        headers,
        body,
        last: fresh,
        beforeFirstByte: r.beforeFirstByte,
        now: () => this.#clock.now(),
        limit,
      };
      const ended = fresh
        ? await this.#onNewLine(r, to, call, listener)
        : await this.#onPooledLine(sending, call, listener);
      return ended.kind === "gone" ? { kind: "not_sent", cause: ended.cause } : ended;
    } finally {
      clearTimeout(timer);
      clearImmediate(late);
      r.signal?.removeEventListener("abort", abort);
      this.#running.delete(limit);
      if (this.#running.size === 0) this.#idle();
    }
  }

  async #onPooledLine({ r, to, places }: Sending, call: Call, listener: Listener): Promise<Ended> {
    const shown = r.clientCertificate === undefined ? "" : certificateName(r.clientCertificate);
    const key = `${to.origin} ${r.allowLoopback} ${r.allowPrivate === true} ${shown}`;
    const place = places === undefined ? key : `${key} stream`;
    const entered = this.#pool.enter(place, call.limit, places);
    if (!(entered instanceof Promise ? await entered : entered))
      return { kind: "not_sent", cause: String(call.limit.cause) };
    try {
      for (let line = this.#pool.take(key); line !== undefined; line = this.#pool.take(key)) {
        const ended = await this.#on(line, call, listener);
        if (ended.kind !== "gone") return ended;
      }
      return await this.#onNewLine(r, to, call, listener, key);
    } finally {
      this.#pool.leave(place);
    }
  }

  async #onNewLine(r: Asked, to: Destination, call: Call, listener: Listener, key = ""): Promise<Ended> {
    const undici = await import("undici"); // costs start time, so only once somebody is called
    const timeoutMs = r.connectTimeoutMs ?? CONNECT_TIMEOUT_MS;
    const opening = new AbortController();
    call.limit.hear(() => opening.abort(call.limit.cause));
    if (call.limit.cause !== undefined) opening.abort(call.limit.cause);
    const opened = await openConnection(this.#connection, to, r, timeoutMs, opening.signal);
    if (opened.kind === "failed") return { kind: "not_sent", cause: opened.cause };
    return this.#on(new Line(key, to.origin, opened.socket, undici), call, listener);
  }

  async #on(line: Line, call: Call, listener: Listener): Promise<Ended> {
    let reusable = false;
    try {
      const ended = await line.exchange(call, listener);
      reusable = ended.kind === "complete" && !call.last && !this.#closed && line.alive;
      return ended;
    } finally {
      if (reusable) this.#pool.give(line);
      else line.destroy();
    }
  }
}

/** The one way to anybody outside: see `Egress.request`. */
export function createEgress(deps: EgressDeps): Egress {
  return new GuardedEgress(deps);
}

export { assertHost, hostAllowed } from "./hosts.ts";
