/** One token slot and when it is due. */
export interface Due {
  readonly accountId: string;
  readonly slot: string;
  readonly dueAtMs: number;
}

interface Item extends Due {
  readonly name: string;
}

/**
 * What is due when, for one OAuth client: a binary heap by due time. A slot has one date at most; an older one left in
 * the heap is passed over when it comes up.
 */
export class Agenda {
  readonly #heap: Item[] = [];
  readonly #current = new Map<string, Item>();

  get size(): number {
    return this.#current.size;
  }

  set(due: Due): void {
    const item = { ...due, name: `${due.accountId}/${due.slot}` };
    this.#current.set(item.name, item);
    this.#heap.push(item);
    this.#up(this.#heap.length - 1);
    // Dates that were moved leave their old entries behind; more than half of them is a reason to sweep.
    if (this.#heap.length > 64 && this.#heap.length > 2 * this.#current.size) this.#sweep();
  }

  remove(accountId: string, slot: string): void {
    this.#current.delete(`${accountId}/${slot}`);
  }

  /** The earliest one, left where it is. */
  peek(): Due | undefined {
    for (let head = this.#heap[0]; head !== undefined; head = this.#heap[0]) {
      if (this.#current.get(head.name) === head) return head;
      this.#pop();
    }
    return undefined;
  }

  /** Takes the earliest one out when it is due at `nowMs`. */
  take(nowMs: number): Due | undefined {
    const head = this.peek();
    if (head === undefined || head.dueAtMs > nowMs) return undefined;
    this.#pop();
    this.remove(head.accountId, head.slot);
    return head;
  }

  /** How many are due in each slice of `sliceMs` from `fromMs` on, overdue ones in the first; at most `slices`. */
  histogram(fromMs: number, sliceMs: number, slices: number): Uint32Array {
    const counts = new Uint32Array(slices);
    for (const { dueAtMs } of this.#current.values()) {
      const slice = Math.max(0, Math.floor((dueAtMs - fromMs) / sliceMs));
      if (slice < slices) counts[slice] = (counts[slice] ?? 0) + 1;
    }
    return counts;
  }

  #sweep(): void {
    const items = [...this.#current.values()].sort((a, b) => a.dueAtMs - b.dueAtMs);
    this.#heap.length = 0;
    this.#heap.push(...items);
  }

  #pop(): void {
    const last = this.#heap.pop();
    if (last === undefined || this.#heap.length === 0) return;
    this.#heap[0] = last;
    this.#down(0);
  }

  #up(from: number): void {
    for (let at = from; at > 0; ) {
      const parent = (at - 1) >> 1;
      if (!this.#swapIfEarlier(at, parent)) return;
      at = parent;
    }
  }

  #down(from: number): void {
    for (let at = from; ; ) {
      const left = 2 * at + 1;
      const right = left + 1;
      const child = this.#due(right) < this.#due(left) ? right : left;
      if (!this.#swapIfEarlier(child, at)) return;
      at = child;
    }
  }

  #due(at: number): number {
    return this.#heap[at]?.dueAtMs ?? Number.POSITIVE_INFINITY;
  }

  #swapIfEarlier(lower: number, upper: number): boolean {
    const [a, b] = [this.#heap[lower], this.#heap[upper]];
    if (a === undefined || b === undefined || a.dueAtMs >= b.dueAtMs) return false;
    this.#heap[lower] = b;
    this.#heap[upper] = a;
    return true;
  }
}

/**
 * How much earlier than their dates refreshes have to start for all of them to fit a budget: zero when they fit. The
 * worst slice decides, since whatever does not fit into it must have been done before.
 */
export function leadMs(counts: Uint32Array, sliceMs: number, requestsPerMs: number): number {
  let worstMs = 0;
  let sum = 0;
  counts.forEach((count, slice) => {
    sum += count;
    if (count > 0) worstMs = Math.max(worstMs, sum / requestsPerMs - slice * sliceMs);
  });
  return worstMs;
}
