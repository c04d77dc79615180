import { setImmediate as turn } from "node:timers/promises";
import type { Etcd3, IOptions } from "etcd3";
import type { Clock } from "../../clock.ts";
import type { EtcdAccess } from "./access.ts";
import { errorOf, failureOf } from "./failure.ts";

/** A call ends after this, whatever etcd does: a frozen one would otherwise be waited for without end. */
export const DEADLINE_MS = 1_500;
/** Long pages of events are sorted by etcd before it answers. */
export const LOG_DEADLINE_MS = 5_000;
/** How much longer than anybody waits for it the stub keeps a call. */
const LINGER_MS = 5_000;
const MOST_BYTES = 64 * 1_048_576;

type Policy = NonNullable<NonNullable<IOptions["faultHandling"]>["global"]>;

// etcd3's own policies retry, and open a circuit for five seconds after three failures.
const untouched = { execute: async (work: (context: object) => unknown) => work({}) } as unknown as Policy;

interface CallOptions {
  readonly deadline: number;
}

/**
 * The npm package's stub, one endpoint at a time: the one that answered last, until it fails. A connection that failed
 * is made anew, so that no call waits behind what is left of it.
 */
export class EtcdClient {
  readonly #package: typeof import("etcd3");
  readonly #access: EtcdAccess;
  readonly #clock: Clock;
  readonly #onEnded: () => void;
  #at: number;
  #current: Etcd3 | undefined;
  #closed = false;

  private constructor(
    from: typeof import("etcd3"),
    access: EtcdAccess,
    clock: Clock,
    at: number,
    onEnded: () => void,
  ) {
    this.#package = from;
    this.#access = access;
    this.#clock = clock;
    this.#at = at;
    this.#onEnded = onEnded;
  }

  /**
   * `random` in [0, 1) spreads sidecars over the endpoints; `onEnded` hears of every connection that has failed. The
   * package is loaded here: most processes do without.
   */
  static async load(
    access: EtcdAccess,
    clock: Clock,
    random: () => number,
    onEnded: () => void = () => undefined,
  ): Promise<EtcdClient> {
    const at = Math.floor(random() * access.endpoints.length);
    return new EtcdClient(await import("etcd3"), access, clock, at, onEnded);
  }

  /**
   * One unary call. What nobody has taken is tried once at every endpoint, and twice where there is one. `writes`: a transaction that may have landed
   * when its answer did not come.
   */
  async call<T>(
    use: (etcd: Etcd3, options: CallOptions) => Promise<T>,
    { writes = false, deadlineMs = DEADLINE_MS } = {},
  ): Promise<T> {
    const untilBootMs = this.#clock.boot() + deadlineMs;
    let loggedIn = false;
    for (let left = Math.max(2, this.#access.endpoints.length); ; left -= 1) {
      const etcd = this.#connection();
      try {
        return await this.#inTime(use, etcd, Math.max(1, untilBootMs - this.#clock.boot()));
      } catch (error) {
        const failure = failureOf(error);
        if (failure === "login_expired" && !loggedIn) {
          loggedIn = true;
          left += 1;
          this.#drop(etcd, 0);
          continue;
        }
        const isUntaken = failure === "not_sent" || failure === "unwelcome";
        if (isUntaken || failure === "doubtful") this.#drop(etcd, 1);
        if (isUntaken && left > 1 && this.#clock.boot() < untilBootMs) continue;
        throw errorOf(failure, error, writes);
      }
    }
  }

  /** A connection of its own, for a stream: it is not touched by what happens to calls. Close it. */
  connect(): Etcd3 {
    return this.#make(this.#access.endpoints[this.#at] ?? "");
  }

  /** The next connection goes to another endpoint. */
  moveOn(): void {
    this.#at = (this.#at + 1) % this.#access.endpoints.length;
  }

  close(): void {
    this.#closed = true;
    this.#current?.close();
    this.#current = undefined;
  }

  /**
   * Answers that have come are taken first, however late this process is itself: the stub's own deadline, which would
   * not wait for them, only ends what nobody listens to any more.
   */
  async #inTime<T>(
    use: (etcd: Etcd3, options: CallOptions) => Promise<T>,
    etcd: Etcd3,
    leftMs: number,
  ): Promise<T> {
    const answered = new AbortController();
    const late = this.#clock.sleep(leftMs, answered.signal).then(
      async () => {
        await turn();
        throw new Error("etcd did not answer in time");
      },
      () => new Promise<never>(() => undefined),
    );
    // grpc-js compares it with the wall clock.
    const deadline = this.#clock.now() + leftMs + LINGER_MS;
    try {
      return await Promise.race([use(etcd, { deadline }), late]);
    } finally {
      answered.abort("answered");
    }
  }

  #connection(): Etcd3 {
    if (this.#closed) throw errorOf("not_sent", new Error("closed"), false);
    this.#current ??= this.connect();
    return this.#current;
  }

  /** Of many calls that fail on one connection, the first one makes it anew. */
  #drop(failed: Etcd3, steps: 0 | 1): void {
    if (this.#current !== failed) return;
    this.#current = undefined;
    this.#onEnded();
    if (steps === 1) this.moveOn();
    failed.close();
  }

  #make(endpoint: string): Etcd3 {
    const { tls, login } = this.#access;
    return new this.#package.Etcd3({
      hosts: [endpoint],
      ...(tls === undefined
        ? {}
        : {
            credentials: {
              // The package's type wants one; grpc-js takes the system's when it is absent.
              rootCertificate: tls.authority as Buffer,
              ...(tls.key === undefined ? {} : { privateKey: tls.key }),
              ...(tls.certificate === undefined ? {} : { certChain: tls.certificate }),
            },
          }),
      ...(login === undefined
        ? {}
        : { auth: { ...login, callOptions: () => ({ deadline: this.#clock.now() + DEADLINE_MS }) } }),
      faultHandling: { global: untouched, host: () => untouched },
      grpcOptions: {
        // Pings more often than every 5 s make etcd end the connection.
        "grpc.keepalive_time_ms": 10_000,
        "grpc.keepalive_timeout_ms": 3_000,
        "grpc.use_local_subchannel_pool": 1,
        "grpc.initial_reconnect_backoff_ms": 100,
        "grpc.max_reconnect_backoff_ms": 1_000,
        "grpc.max_receive_message_length": MOST_BYTES,
        "grpc.max_send_message_length": MOST_BYTES,
        "grpc.enable_retries": 0,
      },
    });
  }
}
