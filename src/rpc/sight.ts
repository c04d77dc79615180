import type { Account } from "../tokens/account.ts";
import { type Caller, requireSight } from "./policy.ts";

type Found = Account | undefined;

/** Which accounts a caller may be served from. */
export class Sight {
  readonly #find: (id: string) => Found | Promise<Found>;

  constructor(find: (id: string) => Found | Promise<Found>) {
    this.#find = find;
  }

  /**
   * Undefined when the caller may see everything, or the account is known here and the caller may see it, so that a
   * warm call waits for nothing. Throws or rejects with CALLER_NOT_ALLOWED, for an account that does not exist too
   * unless its id alone would have been allowed.
   */
  check(caller: Caller, accountId: string): Promise<void> | undefined {
    if (!caller.isRestricted) return undefined;
    const found = this.#find(accountId);
    if (found instanceof Promise) return found.then((account) => require(caller, accountId, account));
    require(caller, accountId, found);
    return undefined;
  }
}

function require(caller: Caller, accountId: string, account: Found): void {
  requireSight(caller, {
    tenant: account?.tenant ?? "",
    provider: account?.provider ?? "",
    account: accountId,
  });
}
