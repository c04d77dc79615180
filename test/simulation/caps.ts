import type { Chronicle } from "./chronicle.ts";
import type { Process } from "./machine.ts";
import type { ProviderShape } from "./plan.ts";
import type { VirtualTime } from "./virtual-time.ts";

/** No connection lives longer: the ear. */
const LONGEST_MS = 60_000;

interface Connection {
  readonly process: Process;
  readonly untilMs: number;
  isOver: boolean;
}

/** What token endpoints were asked at once and in a window, by true time, whoever asked. */
export class Caps {
  readonly #time: VirtualTime;
  readonly #chronicle: Chronicle;
  readonly #connections = new Map<string, Connection[]>();
  readonly #sends = new Map<string, number[]>();

  constructor(time: VirtualTime, chronicle: Chronicle) {
    this.#time = time;
    this.#chronicle = chronicle;
  }

  /** A request leaves. Returns what to call when its connection ends; a process takes its connections with it. */
  sent(provider: ProviderShape, process: Process): () => void {
    const { nowMs } = this.#time;
    const open = (this.#connections.get(provider.name) ?? []).filter(
      (one) => !one.isOver && one.untilMs > nowMs && one.process.state !== "dead",
    );
    const connection = { process, untilMs: nowMs + LONGEST_MS, isOver: false };
    this.#connections.set(provider.name, [...open, connection]);
    if (provider.maxConcurrent !== undefined && open.length >= provider.maxConcurrent)
      this.#chronicle.broken("permits are never exceeded", `${provider.name}: ${open.length + 1} at once`);
    if (provider.budget !== undefined) this.#count(provider.name, provider.budget);
    return () => {
      connection.isOver = true;
    };
  }

  #count(name: string, { requests, perMs }: NonNullable<ProviderShape["budget"]>): void {
    const { nowMs } = this.#time;
    const sends = (this.#sends.get(name) ?? []).filter((atMs) => atMs > nowMs - perMs);
    this.#sends.set(name, [...sends, nowMs]);
    if (sends.length >= requests)
      this.#chronicle.broken("budgets are never exceeded", `${name}: ${sends.length + 1} in ${perMs} ms`);
    if (sends.length + 1 === requests) this.#chronicle.seen("budget used up");
  }
}
