import { clientEvent, Draft } from "./draft.ts";
import { EXPIRING_WITHIN_MS, STORE_PATIENCE_MS } from "./limits.ts";
import type { Ownership } from "./membership.ts";
import type { OAuthClient } from "./records.ts";
import { settle } from "./settle.ts";
import type { Entry, Page } from "./store.ts";
import type { World } from "./world.ts";

const PAGE = 100;

/**
 * Says once of each certificate that OAuth clients show on TLS connections that it will end: one event for all of a client's
 * accounts.
 */
export async function tellExpiringCertificates(
  world: Pick<World, "clock" | "store" | "newId">,
  ownership: Ownership,
  signal: AbortSignal,
): Promise<void> {
  for (let after: string | undefined = ""; after !== undefined; ) {
    signal.throwIfAborted();
    const page: Page<"client"> = await world.store.scan("client", after, PAGE);
    for (const entry of page.entries) {
      const { provider, name } = entry.value;
      if (ownership.owns(`${provider}/${name}`) && isNews(entry.value, world.clock.now()))
        await tell(world, entry);
    }
    after = page.next;
  }
}

function isNews({ certificate, expiringNotifiedForMs }: OAuthClient, nowMs: number): boolean {
  if (certificate === undefined || expiringNotifiedForMs === certificate.notAfterMs) return false;
  return certificate.notAfterMs - nowMs <= EXPIRING_WITHIN_MS;
}

/** A client that somebody writes meanwhile is looked at again in the next round. */
async function tell(
  world: Pick<World, "clock" | "store" | "newId">,
  { key, value, revision }: Entry<"client">,
): Promise<void> {
  const { provider, name, certificate } = value;
  const nowMs = world.clock.now();
  const endsAtMs = certificate?.notAfterMs;
  const detail = { ends_at_ms: String(endsAtMs) };
  const draft = new Draft()
    .expect(key, { key, revision })
    .put(key, { ...value, expiringNotifiedForMs: endsAtMs })
    .event(clientEvent("oauth_client:expiring", { provider, client: name }, nowMs, "certificate", detail));
  await settle(world, draft.done(world.newId(), []), world.clock.boot() + STORE_PATIENCE_MS);
}
