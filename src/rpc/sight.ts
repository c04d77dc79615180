import type { Account } from "../tokens/account.ts";
import { type Caller, requireSight } from "./policy.ts";

/** Which accounts a caller may be served from. */
export class Sight {
  readonly #find: (id: string) => Promise<Account | undefined>;

  constructor(find: (id: string) => Promise<Account | undefined>) {
    this.#find = find;
  }

  /**
   * Undefined when the caller may see everything, so that the common case waits for nothing; else rejects with
   * CALLER_NOT_ALLOWED, for an account that does not exist too unless its id alone would have been allowed.
   */
  check(caller: Caller, accountId: string): Promise<void> | undefined {
    return caller.isRestricted ? this.#check(caller, accountId) : undefined;
  }

  async #check(caller: Caller, accountId: string): Promise<void> {
    const account = await this.#find(accountId);
    requireSight(caller, {
      tenant: account?.tenant ?? "",
      provider: account?.provider ?? "",
      account: accountId,
    });
  }
}
