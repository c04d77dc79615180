import { KeyturnError } from "../errors.ts";
import type { Caller } from "./policy.ts";

interface Bucket {
  calls: number;
  atMs: number;
}

/** How many calls a second each caller may send, over all listeners; a second's worth may come at once. */
export class Rates {
  readonly #everybody: number | undefined;
  readonly #buckets = new Map<string, Bucket>();

  /** `everybody`: the limit of callers without one of their own. Undefined: none. */
  constructor(everybody: number | undefined) {
    this.#everybody = everybody;
  }

  /** CALLER_RATE_LIMITED when there is nothing left; boot clock. */
  spend({ name, requestsPerSecond }: Pick<Caller, "name" | "requestsPerSecond">, nowMs: number): void {
    const perSecond = requestsPerSecond ?? this.#everybody;
    if (perSecond === undefined) return;
    const bucket = this.#buckets.get(name) ?? { calls: perSecond, atMs: nowMs };
    this.#buckets.set(name, bucket);
    bucket.calls = Math.min(perSecond, bucket.calls + ((nowMs - bucket.atMs) * perSecond) / 1_000);
    bucket.atMs = nowMs;
    if (bucket.calls >= 1) {
      bucket.calls -= 1;
      return;
    }
    throw new KeyturnError("CALLER_RATE_LIMITED", `At most ${perSecond} calls a second are allowed here.`, {
      metadata: { caller: name },
      retryAfterMs: Math.ceil(((1 - bucket.calls) * 1_000) / perSecond),
      rateLimit: { limit: perSecond, remaining: 0, resetAfterMs: 1_000, retryAfterMs: undefined },
    });
  }
}
