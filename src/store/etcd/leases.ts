import type { Clock } from "../../clock.ts";
import type { EtcdClient } from "./client.ts";

/** A lease serves the puts of this long; it lives that much longer than was asked for. */
const BUCKET_MS = 5_000;

interface Granted {
  readonly id: Promise<string>;
  readonly untilBootMs: number;
}

/**
 * Short leases, shared by what is put within a few seconds and never renewed. A record never ends before its time, and
 * a bucket late at most.
 */
export class Leases {
  readonly #client: EtcdClient;
  readonly #clock: Clock;
  readonly #bucketMs: number;
  readonly #granted = new Map<number, Granted>();

  constructor(client: EtcdClient, clock: Clock, bucketMs = BUCKET_MS) {
    this.#client = client;
    this.#clock = clock;
    this.#bucketMs = bucketMs;
  }

  /** A lease that lives `ttlMs` from now at least. `STORE_UNAVAILABLE` when it cannot be had; nothing landed then. */
  async of(ttlMs: number): Promise<string> {
    const seconds = Math.ceil((ttlMs + this.#bucketMs) / 1_000);
    const bootMs = this.#clock.boot();
    for (const [of, { untilBootMs }] of this.#granted) if (untilBootMs <= bootMs) this.#granted.delete(of);
    const known = this.#granted.get(seconds);
    if (known !== undefined) return known.id;
    // Counted from before it was asked for; and a put may be on its way for as long as a call may take.
    const id = this.#grant(seconds);
    this.#granted.set(seconds, { id, untilBootMs: bootMs + this.#bucketMs * 0.7 });
    id.catch(() => this.forget());
    return id;
  }

  /** A put was refused for want of its lease: none of them is believed any more. */
  forget(): void {
    this.#granted.clear();
  }

  async #grant(seconds: number): Promise<string> {
    const answer = await this.#client.call((etcd, options) =>
      etcd.leaseClient.leaseGrant({ TTL: seconds }, options),
    );
    return answer.ID;
  }
}
