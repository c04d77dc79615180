const MAX_BUFFER_MS = 30_000;

/**
 * How much validity a token must have left to be handed out without refreshing: 30 s, or a quarter of a lifetime
 * shorter than two minutes, so that a 10 s token is not refreshed for ever.
 */
export function bufferMs(lifetimeMs: number | undefined): number {
  return lifetimeMs === undefined ? MAX_BUFFER_MS : Math.min(MAX_BUFFER_MS, lifetimeMs / 4);
}

/** True when a token that ends at `expiresAtMs` (undefined: never) is valid with `minLifetimeMs` to spare at `nowMs`. */
export function isFresh(expiresAtMs: number | undefined, nowMs: number, minLifetimeMs: number): boolean {
  return isValid(expiresAtMs, nowMs) && (expiresAtMs ?? Number.POSITIVE_INFINITY) - nowMs >= minLifetimeMs;
}

/** True while the vendor should still accept it: what is served when no new one can be had. */
export function isValid(expiresAtMs: number | undefined, nowMs: number): boolean {
  return expiresAtMs === undefined || expiresAtMs > nowMs;
}
