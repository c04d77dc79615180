import { KeyturnError } from "../errors.ts";
import type { Connected } from "./connected.ts";
import { introductionFault } from "./connection-faults.ts";
import type { Grant } from "./consent.ts";
import type { Note } from "./redemption.ts";
import type { VendorContext } from "./vendor.ts";
import type { World } from "./world.ts";

const TRIES = 3;
const PAUSE_MS = 500;

/**
 * Asks what else is to be known of an account, before anything is stored. PROVIDER_UNAVAILABLE after three tries,
 * INVALID_REQUEST when the customer has to choose. `gone` ends the waiting between tries.
 */
export async function introduced(
  { consents, clock }: Pick<World, "consents" | "clock">,
  context: VendorContext,
  grant: Omit<Extract<Grant, { kind: "granted" }>, "kind">,
  note: Pick<Note, "fields" | "allowIdentityChange">,
  gone: AbortSignal,
): Promise<Connected> {
  const [first] = grant.credentials;
  if (first === undefined) throw new KeyturnError("INTERNAL_ERROR", "A grant without a credential.");
  const [slot, credential] = first;
  const fields = { ...note.fields, ...grant.fields };
  const account = { ...context.account, fields: { ...context.account.fields, ...fields } };
  for (let tries = 1; ; tries += 1) {
    const said = await consents.introduce({ ...context, account, slot, credential });
    if (said.kind === "introduced")
      return {
        credentials: grant.credentials,
        fields: { ...fields, ...said.fields },
        subject: said.subject ?? grant.subject,
        allowIdentityChange: note.allowIdentityChange,
      };
    if (said.kind === "choice" || tries === TRIES) throw introductionFault(account, said);
    await clock.sleep(PAUSE_MS * tries, gone);
  }
}
