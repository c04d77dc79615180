import { SEND_WITHIN_MS } from "./limits.ts";
import { type KeyOf, key } from "./records.ts";
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

/**
 * The lowest free number of a cap: `none` when all are taken, undefined when there is no cap. Bulk work takes none of
 * the last numbers.
 */
export function freePermit(
  snapshot: Snapshot,
  cap: number | undefined,
  isBulk: boolean,
): KeyOf<"permit"> | "none" | undefined {
  if (cap === undefined) return undefined;
  const taken = new Set(snapshot.permits.map((entry) => entry.key.parts[2]));
  const n = firstFree(taken, isBulk ? cap - spareOf(cap) : cap);
  return n === undefined ? "none" : key("permit", snapshot.client.provider, snapshot.client.client, n);
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
): BudgetTake | "none" {
  const requests = Math.max(1, Math.floor(budget.requests / BLOCKS));
  const blocks = Math.floor(budget.requests / requests);
  const taken = new Set(snapshot.budgets.map((entry) => entry.key.parts[2]));
  const n = firstFree(taken, isBulk ? blocks - spareOf(blocks) : blocks);
  if (n === undefined) return "none";
  const at = key("budget", snapshot.client.provider, snapshot.client.client, n);
  // The block's last send starts SEND_WITHIN_MS after it was taken; only a full window later may it be taken again.
  return { at, requests, ttlMs: budget.perMs + SEND_WITHIN_MS };
}

function firstFree(taken: ReadonlySet<string>, cap: number): string | undefined {
  for (let n = 0; n < cap; n += 1) if (!taken.has(String(n))) return String(n);
  return undefined;
}

/** Sends of a block that this process has taken and not used. */
export class Blocks {
  readonly #left = new Map<string, { requests: number; readonly untilBootMs: number }>();

  /** Boot time until which one send of a block in hand may start; undefined: none in hand. */
  use(client: string, bootMs: number): number | undefined {
    const block = this.#left.get(client);
    if (block === undefined || block.requests === 0 || block.untilBootMs <= bootMs) {
      this.#left.delete(client);
      return undefined;
    }
    block.requests -= 1;
    return block.untilBootMs;
  }

  keep(client: string, requests: number, untilBootMs: number): void {
    if (requests > 0) this.#left.set(client, { requests, untilBootMs });
  }
}
