import type { Etcd3, IDuplexStream, ILeaseKeepAliveRequest, ILeaseKeepAliveResponse } from "etcd3";
import type { Clock } from "../../clock.ts";
import { DEADLINE_MS, type EtcdClient } from "./client.ts";

type Stream = IDuplexStream<ILeaseKeepAliveRequest, ILeaseKeepAliveResponse>;

/** A stream of lease renewals, asked one at a time. After a failure it is of no use any more: close it. */
export class Renewals {
  readonly #connection: Etcd3;
  readonly #stream: Stream;
  readonly #clock: Clock;
  #waiting = unheard();

  private constructor(connection: Etcd3, stream: Stream, clock: Clock) {
    this.#connection = connection;
    this.#stream = stream;
    this.#clock = clock;
    stream.on("data", ({ TTL }) => this.#waiting.resolve(Number(TTL)));
    stream.on("error", (error) => this.#waiting.reject(error));
    stream.on("end", () => this.#waiting.reject(new Error("etcd ended the stream of renewals")));
  }

  static async open(client: EtcdClient, clock: Clock): Promise<Renewals> {
    const connection = client.connect();
    try {
      return new Renewals(connection, await connection.leaseClient.leaseKeepAlive(), clock);
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  /** Seconds that the lease has been given from now on; 0 when it is not there any more. */
  async renew(id: string): Promise<number> {
    this.#waiting = unheard();
    const { promise, reject } = this.#waiting;
    const answered = new AbortController();
    this.#clock.sleep(DEADLINE_MS, answered.signal).then(
      () => reject(new Error("etcd did not answer a renewal in time")),
      () => undefined,
    );
    try {
      this.#stream.write({ ID: id });
      return await promise;
    } finally {
      answered.abort("answered");
      // What the stream says from now on, its error included, is heard by nobody.
      this.#waiting = unheard();
    }
  }

  close(): void {
    this.#stream.cancel();
    this.#connection.close();
  }
}

/** A promise whose rejection may go unheard. */
function unheard(): PromiseWithResolvers<number> {
  const waiting = Promise.withResolvers<number>();
  waiting.promise.catch(() => undefined);
  return waiting;
}
