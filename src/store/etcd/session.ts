import type { Clock } from "../../clock.ts";
import { unavailable } from "../unavailable.ts";
import type { EtcdClient } from "./client.ts";
import { Renewals } from "./renewals.ts";

/** How long etcd keeps the keys of a sidecar that is gone. */
const TTL_MS = 9_000;
const RENEW_EVERY_MS = 3_000;
const RETRY_MS = 250;

interface Lease {
  readonly id: string;
  /** Counted from when the renewal was *sent*: etcd cannot have ended it earlier. */
  readonly untilBootMs: number;
}

/**
 * The lease of this process: keys under it end with it. It is void here before etcd ends it, and then another one takes
 * its place, whose number tells those who put keys under it to put them again.
 */
export class Session {
  readonly #client: EtcdClient;
  readonly #clock: Clock;
  readonly #report: (error: unknown) => void;
  readonly #closing = new AbortController();
  #lease: Lease | undefined;
  #number = 0;
  #running: Promise<void> = Promise.resolve();

  constructor(client: EtcdClient, clock: Clock, report: (error: unknown) => void) {
    this.#client = client;
    this.#clock = clock;
    this.#report = report;
  }

  /** Counts the leases that this process has had. */
  get number(): number {
    return this.#number;
  }

  get isValid(): boolean {
    return this.#lease !== undefined && this.#clock.boot() < this.#lease.untilBootMs;
  }

  /** The lease to put a key under. STORE_UNAVAILABLE while there is none. */
  get leaseId(): string {
    if (this.#lease !== undefined && this.isValid) return this.#lease.id;
    throw unavailable("etcd_session_lost", "This sidecar has no session with etcd at the moment.", false);
  }

  /** Takes the first lease, and keeps one from then on. */
  async open(): Promise<void> {
    await this.#take();
    this.#running = this.#keep();
  }

  /** Gives the lease back, with all its keys. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#running;
    const lease = this.#lease;
    this.#lease = undefined;
    if (lease === undefined) return;
    await this.#client
      .call((etcd, options) => etcd.leaseClient.leaseRevoke({ ID: lease.id }, options))
      // It ends by itself.
      .catch(() => undefined);
  }

  async #take(): Promise<void> {
    const sentAtBootMs = this.#clock.boot();
    const answer = await this.#client.call((etcd, options) =>
      etcd.leaseClient.leaseGrant({ TTL: TTL_MS / 1_000 }, options),
    );
    this.#lease = { id: answer.ID, untilBootMs: sentAtBootMs + Number(answer.TTL) * 1_000 };
    this.#number += 1;
  }

  async #keep(): Promise<void> {
    const { signal } = this.#closing;
    let renewals: Renewals | undefined;
    let pauseMs = RENEW_EVERY_MS;
    for (;;) {
      await this.#clock.sleep(pauseMs, signal).catch(() => undefined);
      if (signal.aborted) break;
      try {
        if (this.#lease !== undefined && this.isValid) {
          renewals ??= await Renewals.open(this.#client, this.#clock);
          await this.#renew(renewals, this.#lease);
        } else {
          await this.#take();
        }
        pauseMs = RENEW_EVERY_MS;
      } catch (error) {
        // The first of several in a row: the log is not told every quarter of a second that etcd is away.
        if (pauseMs !== RETRY_MS) this.#report(error);
        renewals?.close();
        renewals = undefined;
        this.#client.moveOn();
        pauseMs = RETRY_MS;
      }
    }
    renewals?.close();
  }

  async #renew(renewals: Renewals, { id }: Lease): Promise<void> {
    const sentAtBootMs = this.#clock.boot();
    const seconds = await renewals.renew(id);
    // etcd has ended it already, and its keys are gone.
    if (seconds <= 0) await this.#take();
    else this.#lease = { id, untilBootMs: sentAtBootMs + seconds * 1_000 };
  }
}
