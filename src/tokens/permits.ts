import { SEND_WITHIN_MS } from "./limits.ts";
import { type Key, type KeyOf, key, keyText } from "./records.ts";
import type { Snapshot } from "./snapshot.ts";
import type { RefreshRules } from "./vendor.ts";

/** Large budgets are taken in blocks, so that the store is not asked for every send. */
const BLOCKS = 16;

/** The caps in force: the client's own, else the provider file's. Undefined: none. */
export function capsOf(snapshot: Snapshot, rules: RefreshRules | undefined) {
  const own = snapshot.oauthClient?.value.caps;
  return { maxConcurrent: own?.maxConcurrent ?? rules?.maxConcurrent, budget: own?.budget ?? rules?.budget };
}

/** What bulk work leaves to those who wait: a quarter, at least one where there are several. */
export function spareOf(cap: number): number {
  return cap <= 1 || !Number.isFinite(cap) ? 0 : Math.ceil(cap / 4);
}

/** Numbers that this process is about to take: not even its own refreshes shall want the same one. */
export class Picks {
  readonly #random: () => number;
  readonly #wanted = new Set<string>();

  /** `random` in [0, 1): what several processes pick at once should differ. */
  constructor(random: () => number) {
    this.#random = random;
  }

  /** A key of a number below `cap` that nobody has; it is wanted until it is let go. */
  pick<T extends Key>(of: (n: string) => T, taken: ReadonlySet<string>, cap: number): T | undefined {
    const start = Math.floor(this.#random() * cap);
    for (let step = 0; step < cap; step += 1) {
      const n = String((start + step) % cap);
      const found = of(n);
      if (taken.has(n) || this.#wanted.has(keyText(found))) continue;
      this.#wanted.add(keyText(found));
      return found;
    }
    return undefined;
  }

  /** Taken by now, or not to be had. */
  letGo(of: Key | undefined): void {
    if (of !== undefined) this.#wanted.delete(keyText(of));
  }
}

/** A free number of a cap: `none` when all are taken, undefined when there is no cap. Bulk work leaves some free. */
export function freePermit(
  snapshot: Snapshot,
  cap: number | undefined,
  isBulk: boolean,
  picks: Picks,
): KeyOf<"permit"> | "none" | undefined {
  if (cap === undefined) return undefined;
  const taken = new Set(snapshot.permits.map((entry) => entry.key.parts[2]));
  const { provider, client } = snapshot.client;
  const most = isBulk ? cap - spareOf(cap) : cap;
  return picks.pick((n) => key("permit", provider, client, n), taken, most) ?? "none";
}

/** A block of sends to take, usable for as long as a send may take to start, blocked for others a window longer. */
export interface BudgetTake {
  readonly at: KeyOf<"budget">;
  readonly requests: number;
  readonly ttlMs: number;
}

export function freeBlock(
  snapshot: Snapshot,
  budget: { readonly requests: number; readonly perMs: number },
  isBulk: boolean,
  picks: Picks,
): BudgetTake | "none" {
  const requests = Math.max(1, Math.floor(budget.requests / BLOCKS));
  const blocks = Math.floor(budget.requests / requests);
  const taken = new Set(snapshot.budgets.map((entry) => entry.key.parts[2]));
  const { provider, client } = snapshot.client;
  const most = isBulk ? blocks - spareOf(blocks) : blocks;
  const at = picks.pick((n) => key("budget", provider, client, n), taken, most);
  if (at === undefined) return "none";
  // The block's last send starts SEND_WITHIN_MS after it was taken; only a full window later may it be taken again.
  return { at, requests, ttlMs: budget.perMs + SEND_WITHIN_MS };
}

/** Sends that this process has taken and not used. */
export interface Block {
  requests: number;
  /** Boot time until which they may start. */
  readonly untilBootMs: number;
}

/** The blocks in hand, by client. */
export class Blocks {
  readonly #inHand = new Map<string, readonly Block[]>();

  /** One send, of the block that ends first; undefined: none in hand. `giveBack` when it was not used. */
  use(client: string, bootMs: number): Block | undefined {
    const usable = (this.#inHand.get(client) ?? []).filter((block) => block.untilBootMs > bootMs);
    if (usable.length === 0) this.#inHand.delete(client);
    else this.#inHand.set(client, usable);
    const block = usable.find(({ requests }) => requests > 0);
    if (block !== undefined) block.requests -= 1;
    return block;
  }

  giveBack(block: Block): void {
    block.requests += 1;
  }

  keep(client: string, block: Block): void {
    if (block.requests > 0) this.#inHand.set(client, [...(this.#inHand.get(client) ?? []), block]);
  }
}
