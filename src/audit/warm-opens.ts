import type { AuditEntry } from "./record.ts";

/** One account × caller × purpose. */
export interface WarmOpen {
  readonly account: string;
  readonly caller: string;
  readonly purpose: string;
  readonly tenant: string;
}

interface Sum extends WarmOpen {
  count: number;
  readonly sinceMs: number;
}

/** Distinct sums in memory; what comes on top while nothing can be written is counted under the account `*`. */
const MAX_SUMS = 100_000;

/** Counts openings of cached tokens until they can be written down. */
export class WarmOpens {
  #sums = new Map<string, Sum>();

  get isEmpty(): boolean {
    return this.#sums.size === 0;
  }

  add(open: WarmOpen, count: number, atMs: number): void {
    const named = nameOf(open);
    const sum = this.#sums.get(named);
    if (sum !== undefined) sum.count += count;
    else if (this.#sums.size < MAX_SUMS) this.#sums.set(named, { ...open, count, sinceMs: atMs });
    else this.#overflow(open, count, atMs);
  }

  /** Hands everything over. Give back, by `restore`, what could not be written. */
  take(): readonly WarmSum[] {
    const sums = [...this.#sums.values()];
    this.#sums = new Map();
    return sums;
  }

  restore(sum: WarmSum): void {
    this.add(sum, sum.count, sum.sinceMs);
  }

  #overflow(open: WarmOpen, count: number, atMs: number): void {
    const named = nameOf({ account: "*", purpose: "*", caller: open.caller });
    const sum = this.#sums.get(named);
    if (sum !== undefined) sum.count += count;
    else {
      this.#sums.set(named, {
        account: "*",
        tenant: "",
        caller: open.caller,
        purpose: "*",
        count,
        sinceMs: atMs,
      });
    }
  }
}

export type WarmSum = Readonly<Sum>;

/** Neither a purpose nor an account's id has a space in it. */
function nameOf({ account, purpose, caller }: Pick<WarmOpen, "account" | "purpose" | "caller">): string {
  return `${purpose} ${account} ${caller}`;
}

export function warmEntry({ account, tenant, caller, purpose, count, sinceMs }: WarmSum): AuditEntry {
  const detail = { since: new Date(sinceMs).toISOString() };
  return { operation: "token.open", outcome: "ok", account, tenant, caller, purpose, count, detail };
}
