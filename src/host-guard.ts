import { hostAllowed } from "./egress/hosts.ts";
import type { Catalogue } from "./providers/load.ts";
import type { Provider } from "./providers/provider.ts";
import { hostsOf } from "./providers/request.ts";
import type { Account } from "./tokens/account.ts";

/** Tells whether an account's provider may be called at a host, as a Host header has it. */
export function hostGuard(catalogue: () => Catalogue): (account: Account, host: string) => boolean {
  /** What was allowed last: nearly every account has one host, and an account that changes is another object. */
  const last = new WeakMap<Account, { readonly provider: Provider; readonly host: string }>();
  return (account, host) => {
    const provider = catalogue().get(account.provider);
    if (provider === undefined) return false;
    const known = last.get(account);
    if (known?.provider === provider && known.host === host) return true;
    if (!hostAllowed(host, hostsOf(provider, account.fields))) return false;
    last.set(account, { provider, host });
    return true;
  };
}
