import { KeyturnError } from "../errors.ts";
import type { Presented } from "./connection-faults.ts";
import type { VendorContext } from "./vendor.ts";
import type { World } from "./world.ts";

/**
 * Asks the provider about a credential before it is stored; false where its file names no way to. AUTHORIZATION_DENIED when
 * the provider refuses it, PROVIDER_UNAVAILABLE when it does not say.
 */
export async function isAccepted(
  { vendors }: Pick<World, "vendors">,
  context: VendorContext,
  presented: Presented,
): Promise<boolean> {
  const { id, provider } = context.account;
  if (vendors.rules(provider)?.canVerify !== true) return false;
  const verification = await vendors.verify(context);
  const metadata = { account_id: id, provider };
  switch (verification.kind) {
    case "accepted":
      return true;
    case "refused":
      throw new KeyturnError(
        "AUTHORIZATION_DENIED",
        `The provider does not accept this ${presented}; nothing was stored.`,
        {
          metadata: { ...metadata, cause: `${presented}_refused`, http_status: String(verification.status) },
        },
      );
    case "unclear":
      throw new KeyturnError(
        "PROVIDER_UNAVAILABLE",
        `The provider did not say whether it accepts this ${presented}; nothing was stored.`,
        { metadata: { ...metadata, cause: verification.cause }, retryAfterMs: 5_000 },
      );
  }
}
