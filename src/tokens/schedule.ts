const MIN_LEAD_MS = 60_000;
const MAX_LEAD_MS = 180_000;
const SCALED_BELOW_MS = 300_000;

/**
 * When the scheduler refreshes a token: between 60 and 180 s before it expires, drawn by `random` in [0, 1) so that
 * accounts connected together do not refresh together; in proportion for a lifetime below 300 s; never earlier than
 * the provider permits. Undefined: the token never expires.
 */
export function nextRefreshAtMs(
  token: { readonly expiresAtMs: number | undefined; readonly lifetimeMs: number | undefined },
  earliestBeforeExpiryMs: number | undefined,
  random: number,
): number | undefined {
  if (token.expiresAtMs === undefined) return undefined;
  const scale = token.lifetimeMs === undefined ? 1 : Math.min(1, token.lifetimeMs / SCALED_BELOW_MS);
  const leadMs = (MIN_LEAD_MS + (MAX_LEAD_MS - MIN_LEAD_MS) * random) * scale;
  return token.expiresAtMs - Math.min(leadMs, earliestBeforeExpiryMs ?? leadMs);
}
