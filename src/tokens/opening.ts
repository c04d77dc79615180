import { KeyturnError } from "../errors.ts";
import { clientSecretContext, credentialContext } from "./contexts.ts";
import { type Credential, credentialFromBytes } from "./credential.ts";
import type { ClientSecrets, OAuthClient } from "./records.ts";
import type { Actor, Sealer } from "./sealing.ts";
import { Secret } from "./secret.ts";
import type { Snapshot } from "./snapshot.ts";
import type { VendorContext } from "./vendor.ts";

/** The credential of a snapshot's slot: one KEK call. SEAL_INVALID when record and credential do not belong together. */
export async function openCredential(sealer: Sealer, snapshot: Snapshot, actor: Actor): Promise<Credential> {
  const { account, slot, credential } = snapshot;
  if (account === undefined || slot === undefined || credential === undefined) {
    throw new KeyturnError("SEAL_INVALID", "The account's record has no credential beside it.", {
      metadata: { account_id: snapshot.key.accountId },
    });
  }
  // The account's record says which generation belongs here: an older sealed one put back does not open.
  const context = credentialContext(account.value, snapshot.key.slot, slot.generation);
  const bytes = await sealer.open(context, credential.value.sealed, actor);
  try {
    return credentialFromBytes(bytes);
  } finally {
    bytes.fill(0);
  }
}

/** The client's active secret; undefined for a public client. */
export async function openClientSecret(
  sealer: Sealer,
  client: OAuthClient | undefined,
  secrets: ClientSecrets | undefined,
  actor: Actor,
): Promise<Secret | undefined> {
  const active = client?.secrets.find((version) => version.state === "active");
  if (client === undefined || active === undefined || secrets === undefined) return undefined;
  // The client's record says which secret belongs here: an older one put back does not open.
  const context = clientSecretContext(client.provider, client.name, Number(active.version));
  const bytes = await sealer.open(context, secrets.sealed, actor);
  try {
    const plain: { readonly active?: string } = JSON.parse(bytes.toString("utf8"));
    return plain.active === undefined ? undefined : new Secret(plain.active);
  } finally {
    bytes.fill(0);
  }
}

/** All that an outbound request of a snapshot's slot is made of. */
export async function openContext(sealer: Sealer, snapshot: Snapshot, actor: Actor): Promise<VendorContext> {
  const { account, oauthClient, clientSecrets, key } = snapshot;
  if (account === undefined) throw new KeyturnError("ACCOUNT_NOT_FOUND", "There is no such account.");
  const [credential, secret] = await Promise.all([
    openCredential(sealer, snapshot, actor),
    openClientSecret(sealer, oauthClient?.value, clientSecrets?.value, actor),
  ]);
  const client = oauthClient === undefined ? undefined : { record: oauthClient.value, secret };
  return { account: account.value, slot: key.slot, credential, client };
}
