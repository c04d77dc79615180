/** Something that will happen; cancelled by setting `act` to undefined. */
export interface Timer {
  readonly atMs: number;
  readonly seq: number;
  act: (() => void) | undefined;
}

/** Lets everything that can go on without time passing go on: every microtask runs before the next immediate. */
const settled = () => new Promise<void>((resolve) => setImmediate(resolve));

/** The one true time of a simulated world, in milliseconds from its beginning. It passes only from event to event. */
export class VirtualTime {
  #nowMs = 0;
  #seq = 0;
  #steps = 0;
  readonly #heap: Timer[] = [];

  get nowMs(): number {
    return this.#nowMs;
  }

  get steps(): number {
    return this.#steps;
  }

  after(ms: number, act: () => void): Timer {
    const timer = { atMs: this.#nowMs + Math.max(0, ms), seq: this.#seq, act };
    this.#seq += 1;
    this.#heap.push(timer);
    this.#up(this.#heap.length - 1);
    return timer;
  }

  /** Runs event after event up to `untilMs`, or until `enough` says so between two of them. */
  async run(untilMs: number, enough: () => boolean = () => false): Promise<void> {
    await settled();
    while (!enough()) {
      const next = this.#pop(untilMs);
      if (next === undefined) {
        this.#nowMs = Math.max(this.#nowMs, untilMs);
        return;
      }
      if (next.act === undefined) continue;
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      this.#steps += 1;
      next.act();
      await settled();
    }
  }

  #pop(untilMs: number): Timer | undefined {
    const [head] = this.#heap;
    if (head === undefined || head.atMs > untilMs) return undefined;
    const last = this.#heap.pop();
    if (last !== undefined && this.#heap.length > 0) {
      this.#heap[0] = last;
      this.#down();
    }
    return head;
  }

  #up(from: number): void {
    for (let at = from; at > 0; ) {
      const parent = (at - 1) >> 1;
      if (!this.#swapIfEarlier(at, parent)) return;
      at = parent;
    }
  }

  #down(): void {
    for (let at = 0; ; ) {
      const left = 2 * at + 1;
      const [a, b] = [this.#heap[left], this.#heap[left + 1]];
      const child = a !== undefined && b !== undefined && isEarlier(b, a) ? left + 1 : left;
      if (!this.#swapIfEarlier(child, at)) return;
      at = child;
    }
  }

  #swapIfEarlier(lower: number, upper: number): boolean {
    const [a, b] = [this.#heap[lower], this.#heap[upper]];
    if (a === undefined || b === undefined || !isEarlier(a, b)) return false;
    this.#heap[lower] = b;
    this.#heap[upper] = a;
    return true;
  }
}

function isEarlier(a: Timer, b: Timer): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.seq < b.seq);
}
