import { type ClientKey, clientKeyText } from "./snapshot.ts";

/** Without a budget: ten a second. */
const DEFAULT_EVERY_MS = 100;
/** Of a budget: the rest is for accounts that are used. */
const SHARE = 0.5;

type Budget = { readonly requests: number; readonly perMs: number } | undefined;

/**
 * When accounts that come many at once, and do not say when their tokens end, are looked at first: one after the other
 * for each OAuth client, so that a provider never sees all of them together.
 */
export class FirstChecks {
  readonly #nextAtMs = new Map<string, number>();

  /** The next place in the client's line, in epoch milliseconds. */
  take(client: ClientKey, budget: Budget, nowMs: number): number {
    const name = clientKeyText(client);
    const atMs = Math.max(nowMs, this.#nextAtMs.get(name) ?? 0);
    const everyMs = budget === undefined ? DEFAULT_EVERY_MS : budget.perMs / (budget.requests * SHARE);
    this.#nextAtMs.set(name, atMs + everyMs);
    return Math.round(atMs);
  }
}
