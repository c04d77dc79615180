import { KeyturnError } from "../errors.ts";
import type { Account } from "./account.ts";
import { type ClientMaterial, materialFromBytes } from "./client-keys.ts";
import { clientSecretContext, credentialContext } from "./contexts.ts";
import { type Credential, credentialFromBytes } from "./credential.ts";
import type { ClientSecrets, OAuthClient } from "./records.ts";
import type { Actor, Sealer } from "./sealing.ts";
import type { Snapshot } from "./snapshot.ts";
import type { ContextClient, UseContext, VendorContext, Vendors } from "./vendor.ts";
import type { World } from "./world.ts";

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

/** The client with all that it proves itself by; nothing of it for a public client. */
export async function openClient(
  sealer: Sealer,
  record: OAuthClient,
  secrets: ClientSecrets | undefined,
  actor: Actor,
): Promise<ContextClient> {
  const material = await openMaterial(sealer, record, secrets, actor);
  return { ...material, record, secret: material.secret };
}

/** What a client's sealed record holds. */
export async function openMaterial(
  sealer: Sealer,
  record: OAuthClient,
  secrets: ClientSecrets | undefined,
  actor: Actor,
): Promise<ClientMaterial> {
  const active = record.secrets.find((version) => version.state === "active");
  // The client's record says which material belongs here: an older one put back does not open.
  const generation = record.materialGeneration ?? (active && Number(active.version));
  if (generation === undefined || secrets === undefined) return {};
  const context = clientSecretContext(record.provider, record.name, generation);
  const bytes = await sealer.open(context, secrets.sealed, actor);
  try {
    return materialFromBytes(bytes);
  } finally {
    bytes.fill(0);
  }
}

/** All that an outbound request of a snapshot's slot is made of. */
export async function openContext(sealer: Sealer, snapshot: Snapshot, actor: Actor): Promise<VendorContext> {
  const { account, oauthClient, clientSecrets, key } = snapshot;
  if (account === undefined) throw new KeyturnError("ACCOUNT_NOT_FOUND", "There is no such account.");
  const [credential, client] = await Promise.all([
    openCredential(sealer, snapshot, actor),
    oauthClient && openClient(sealer, oauthClient.value, clientSecrets?.value, actor),
  ]);
  return { account: account.value, slot: key.slot, credential, client };
}

/** True when calls of the account's API carry secrets of the OAuth client beside its own. */
export function carriesClient(vendors: Pick<Vendors, "rules">, account: Account, slot: string): boolean {
  return (vendors.rules(account.provider, slot)?.clientFields?.length ?? 0) > 0;
}

/** All that a call of the API is authorized with: one KEK call, and one more where the client's secrets go along. */
export async function openUse(
  { sealer, vendors }: Pick<World, "sealer" | "vendors">,
  snapshot: Snapshot,
  account: Account,
  actor: Actor,
): Promise<UseContext> {
  const { slot } = snapshot.key;
  if (carriesClient(vendors, account, slot)) return openContext(sealer, snapshot, actor);
  return { account, slot, credential: await openCredential(sealer, snapshot, actor) };
}
