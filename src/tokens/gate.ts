import type { Clock } from "../clock.ts";
import { spareOf } from "./permits.ts";
import { type ClientKey, clientKeyText } from "./snapshot.ts";

/** Who goes first when a client's token endpoint has little room. */
export type Priority = "consent" | "demand" | "proactive" | "bulk";

const ORDER: readonly Priority[] = ["consent", "demand", "proactive", "bulk"];

interface Lane {
  running: number;
  cap: number;
  /** Boot clock: nobody enters before. */
  closedUntilMs: number;
  readonly waiting: Readonly<Record<Priority, Set<Waiter>>>;
}

interface Waiter {
  enter(): void;
}

/** A place in a queue, and then at the counter. */
export interface Ticket {
  /** Resolves when the holder may go ahead. */
  readonly entered: Promise<void>;
  /** A caller has joined: it no longer waits behind other callers' refreshes. */
  raise(): void;
  /** Gives the place back, entered or not. Harmless when repeated. */
  leave(): void;
}

/**
 * This process's queues, one per OAuth client: customers before their browsers, whose codes live for minutes, before
 * refreshes that callers wait for before scheduled ones before bulk.
 */
export class Gates {
  readonly #lanes = new Map<string, Lane>();
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** `cap` is the client's concurrency cap as known now. */
  queue(client: ClientKey, cap: number, priority: Priority): Ticket {
    const lane = this.#lane(client);
    lane.cap = cap;
    const { promise, resolve } = Promise.withResolvers<void>();
    let state: "waiting" | "entered" | "left" = "waiting";
    const waiter: Waiter = {
      enter: () => {
        state = "entered";
        lane.running += 1;
        resolve();
      },
    };
    lane.waiting[priority].add(waiter);
    this.#pump(lane);
    return {
      entered: promise,
      raise: () => {
        if (state !== "waiting") return;
        for (const name of ORDER) lane.waiting[name].delete(waiter);
        lane.waiting.demand.add(waiter);
        this.#pump(lane);
      },
      leave: () => {
        if (state === "entered") lane.running -= 1;
        if (state === "waiting") for (const name of ORDER) lane.waiting[name].delete(waiter);
        state = "left";
        this.#pump(lane);
      },
    };
  }

  /** How many more scheduled refreshes may start at once without waiting. */
  free(client: ClientKey, cap: number): number {
    const lane = this.#lane(client);
    if (lane.closedUntilMs > this.#clock.boot()) return 0;
    const { consent, demand, proactive } = lane.waiting;
    return Math.max(0, cap - lane.running - consent.size - demand.size - proactive.size);
  }

  /** Nobody enters for `ms`: the cluster has no permit or budget free. */
  close(client: ClientKey, ms: number): void {
    const lane = this.#lane(client);
    lane.closedUntilMs = Math.max(lane.closedUntilMs, this.#clock.boot() + ms);
    void this.#reopen(lane);
  }

  /** The client has changed: whatever closed its gate may be over. */
  open(client: ClientKey): void {
    const lane = this.#lanes.get(clientKeyText(client));
    if (lane === undefined) return;
    lane.closedUntilMs = 0;
    this.#pump(lane);
  }

  async #reopen(lane: Lane): Promise<void> {
    const untilMs = lane.closedUntilMs;
    await this.#clock.sleep(untilMs - this.#clock.boot());
    if (lane.closedUntilMs === untilMs) this.#pump(lane);
  }

  #pump(lane: Lane): void {
    while (lane.running < lane.cap && lane.closedUntilMs <= this.#clock.boot()) {
      const hasSpare = lane.running < lane.cap - spareOf(lane.cap);
      const may = ORDER.filter((name) => name !== "bulk" || hasSpare);
      const queue = may.map((name) => lane.waiting[name]).find((set) => set.size > 0);
      const [next] = queue ?? [];
      if (queue === undefined || next === undefined) return;
      queue.delete(next);
      next.enter();
    }
  }

  #lane(client: ClientKey): Lane {
    const text = clientKeyText(client);
    let lane = this.#lanes.get(text);
    if (lane === undefined) {
      const line = () => new Set<Waiter>();
      const waiting = { consent: line(), demand: line(), proactive: line(), bulk: line() };
      lane = { running: 0, cap: Number.POSITIVE_INFINITY, closedUntilMs: 0, waiting };
      this.#lanes.set(text, lane);
    }
    return lane;
  }
}
