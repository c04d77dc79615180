import { setMaxListeners } from "node:events";
import type { Clock } from "../clock.ts";
import { type ConnectionDeps, openConnection, trustStore } from "./connection.ts";
import { decodeBody } from "./decode.ts";
import { type Dial, tcpDial } from "./dial.ts";
import { checkedHeaders, checkedMethod } from "./head.ts";
import { assertHost, type Destination } from "./hosts.ts";
import { type Answer, type Call, type Exchanged, Line } from "./line.ts";
import { Pool } from "./pool.ts";
import { type Resolve, systemResolve } from "./resolve.ts";

/** A request to anybody outside. */
export interface OutboundRequest {
  readonly method: string;
  /** Absolute and fully rendered. */
  readonly url: string;
  /** May hold secrets. `host`, `content-length` and the hop-by-hop headers are written by the room. */
  readonly headers: readonly (readonly [string, string])[];
  readonly body: Uint8Array | undefined;
  /** The provider file's hosts, as `hostAllowed` reads them. */
  readonly allowedHosts: readonly string[];
  /** The provider file permits loopback; plain http is then permitted too, to loopback only. */
  readonly allowLoopback: boolean;
  /** The operator permits private networks for this provider. */
  readonly allowPrivate?: boolean;
  /** True: on a connection of its own, neither taken from the pool nor returned to it (single-use refresh token). */
  readonly fresh: boolean;
  /** From the call to the complete body, in milliseconds. */
  readonly timeoutMs: number;
  /** For name, connection and TLS together. Default 10 s. */
  readonly connectTimeoutMs?: number;
  /** Of the answer, as it comes and decoded. */
  readonly maxBodyBytes: number;
  /** Called right before the first byte is written, in the same turn; false: nothing is sent (`withdrawn`). */
  readonly beforeFirstByte?: () => boolean;
  /** The shutdown limit: ends the request wherever it is. */
  readonly signal?: AbortSignal;
}

/** What became of a request. A redirect is an answer like any other. Causes are single words, never secrets. */
export type OutboundResult =
  /** Header names in lower case, in order, repeated ones kept. `content-encoding` is undone and gone. Wall-clock times. */
  | Answer
  /** No byte of the request was written. */
  | { readonly kind: "not_sent"; readonly cause: string }
  /** A byte was or may have been written, and no complete answer came. */
  | { readonly kind: "unknown"; readonly cause: string };

/** The guarded way out. */
export interface Egress {
  /**
   * Rejects with DESTINATION_NOT_ALLOWED (`cause` in the metadata) for a destination the guard refuses and with
   * INVALID_REQUEST for a method or header that cannot be sent; in either case nothing was written.
   */
  request(r: OutboundRequest): Promise<OutboundResult>;
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
}

const CONNECT_TIMEOUT_MS = 10_000;

// A setTimeout past 24.8 days fires at once.
const MAX_TIMER_MS = 2 ** 31 - 1;

async function decoded(answer: Answer, maxBodyBytes: number): Promise<OutboundResult> {
  const codings = answer.headers.filter(([name]) => name === "content-encoding").map(([, value]) => value);
  const result = await decodeBody(answer.body, codings.join(","), maxBodyBytes);
  if (result.kind === "untouched") return answer;
  if (result.kind === "failed") return { kind: "unknown", cause: result.cause };
  const headers = answer.headers.filter(([name]) => name !== "content-encoding" && name !== "content-length");
  return { ...answer, headers, body: result.body };
}

class GuardedEgress implements Egress {
  readonly #clock: Clock;
  readonly #connection: ConnectionDeps;
  readonly #pool = new Pool();
  readonly #running = new Set<Promise<OutboundResult>>();
  readonly #end = new AbortController();

  constructor(deps: EgressDeps) {
    setMaxListeners(0, this.#end.signal);
    this.#clock = deps.clock;
    this.#connection = {
      resolve: deps.resolve ?? systemResolve(),
      dial: deps.dial ?? tcpDial,
      trust: trustStore(deps.ca ?? []),
    };
  }

  async request(r: OutboundRequest): Promise<OutboundResult> {
    const to = assertHost(r.url, r.allowedHosts, r);
    const method = checkedMethod(r.method);
    const headers = checkedHeaders(r.headers);
    if (this.#end.signal.aborted) return { kind: "not_sent", cause: "closed" };
    const running = this.#limited(r, to, method, headers);
    this.#running.add(running);
    try {
      return await running;
    } finally {
      this.#running.delete(running);
    }
  }

  async close(): Promise<void> {
    this.#end.abort();
    await Promise.allSettled(this.#running);
    this.#pool.close();
  }

  async #limited(
    r: OutboundRequest,
    to: Destination,
    method: string,
    headers: string[],
  ): Promise<OutboundResult> {
    const limit = new AbortController();
    const timer = setTimeout(() => limit.abort("timeout"), Math.min(r.timeoutMs, MAX_TIMER_MS));
    const abort = (): void => limit.abort("aborted");
    if (r.signal?.aborted === true) abort();
    const ends = r.signal === undefined ? [this.#end.signal] : [this.#end.signal, r.signal];
    for (const signal of ends) signal.addEventListener("abort", abort, { once: true });
    try {
      const call: Call = {
        method,
        path: to.path,
        headers,
        body: r.body,
        last: r.fresh,
        maxBodyBytes: r.maxBodyBytes,
        beforeFirstByte: r.beforeFirstByte,
        now: () => this.#clock.now(),
        signal: limit.signal,
      };
      const end = r.fresh ? await this.#onNewLine(r, to, call) : await this.#onPooledLine(r, to, call);
      if (end.kind === "answer") return await decoded(end, r.maxBodyBytes);
      return { kind: end.kind === "gone" ? "not_sent" : end.kind, cause: end.cause };
    } finally {
      clearTimeout(timer);
      for (const signal of ends) signal.removeEventListener("abort", abort);
    }
  }

  async #onPooledLine(r: OutboundRequest, to: Destination, call: Call): Promise<Exchanged> {
    const key = `${to.origin} ${r.allowLoopback} ${r.allowPrivate === true}`;
    if (!(await this.#pool.enter(key, call.signal)))
      return { kind: "not_sent", cause: String(call.signal.reason) };
    try {
      for (let line = this.#pool.take(key); line !== undefined; line = this.#pool.take(key)) {
        const end = await this.#on(line, call);
        if (end.kind !== "gone") return end;
      }
      return await this.#onNewLine(r, to, call, key);
    } finally {
      this.#pool.leave(key);
    }
  }

  async #onNewLine(r: OutboundRequest, to: Destination, call: Call, key = ""): Promise<Exchanged> {
    const undici = await import("undici"); // costs start time, so only once somebody is called
    const timeoutMs = r.connectTimeoutMs ?? CONNECT_TIMEOUT_MS;
    const opened = await openConnection(this.#connection, to, r, timeoutMs, call.signal);
    if (opened.kind === "failed") return { kind: "not_sent", cause: opened.cause };
    return this.#on(new Line(key, to.origin, opened.socket, undici), call);
  }

  async #on(line: Line, call: Call): Promise<Exchanged> {
    let reusable = false;
    try {
      const end = await line.exchange(call);
      reusable = end.kind === "answer" && !call.last && !this.#end.signal.aborted && line.alive;
      return end;
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
