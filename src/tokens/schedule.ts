import type { RefreshRules } from "./vendor.ts";

const MIN_LEAD_MS = 60_000;
const MAX_LEAD_MS = 180_000;
const SCALED_BELOW_MS = 300_000;
/** Long leads are drawn from this last part of them. */
const SPREAD = 0.1;
/** Of its lifetime, where the access token itself is what a refresh is asked with. */
const LIVING_SHARE = 0.1;

/**
 * When the scheduler refreshes a token: between 60 and 180 s before it expires, drawn by `random` in [0, 1) so that
 * accounts connected together do not refresh together; in proportion for a lifetime below 300 s; never earlier than
 * the provider permits. Some providers' files ask for more. Undefined: the token never expires.
 */
export function nextRefreshAtMs(
  token: { readonly expiresAtMs: number | undefined; readonly lifetimeMs: number | undefined },
  rules: Pick<RefreshRules, "earliestBeforeExpiryMs" | "leadMs" | "refreshesWithAccessToken"> | undefined,
  random: number,
): number | undefined {
  const { expiresAtMs, lifetimeMs } = token;
  if (expiresAtMs === undefined) return undefined;
  const scale = lifetimeMs === undefined ? 1 : Math.min(1, lifetimeMs / SCALED_BELOW_MS);
  const usualMs = (MIN_LEAD_MS + (MAX_LEAD_MS - MIN_LEAD_MS) * random) * scale;
  const wantedMs = Math.max(usualMs, (ownLeadMs(rules, lifetimeMs) ?? 0) * (1 - SPREAD * random));
  return expiresAtMs - Math.min(wantedMs, rules?.earliestBeforeExpiryMs ?? wantedMs);
}

/** The provider's own lead, or one that leaves time for several tries before the token that a refresh needs has ended. */
function ownLeadMs(
  rules: Pick<RefreshRules, "leadMs" | "refreshesWithAccessToken"> | undefined,
  lifetimeMs: number | undefined,
): number | undefined {
  if (lifetimeMs === undefined) return rules?.leadMs;
  if (rules?.leadMs !== undefined) return Math.min(rules.leadMs, lifetimeMs / 2);
  return rules?.refreshesWithAccessToken === true ? lifetimeMs * LIVING_SHARE : undefined;
}
