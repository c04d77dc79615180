import { KeyturnError } from "../errors.ts";
import type { Account } from "../tokens/account.ts";
import type { Vendors } from "../tokens/vendor.ts";

/** Throws TOKEN_NOT_PORTABLE for a token that works only where the OAuth client's certificate is shown (RFC 8705 §3). */
export type RequirePortable = (account: Account, slot: string) => void;

/** By what the providers' files say. */
export function portability(vendors: Pick<Vendors, "rules">): RequirePortable {
  return ({ id, provider, client }, slot) => {
    if (vendors.rules(provider, slot)?.isBound !== true) return;
    const text =
      "This token works only on connections that show the OAuth client's certificate: call through Proxy.";
    throw new KeyturnError("TOKEN_NOT_PORTABLE", text, {
      metadata: { account_id: id, provider, client, cause: "certificate_bound" },
    });
  };
}
