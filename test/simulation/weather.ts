import type { StoreMode, VendorMode } from "./plan.ts";
import type { Random } from "./random.ts";
import type { VirtualTime } from "./virtual-time.ts";

interface Spell<M> {
  readonly mode: M;
  /** Whom it is over; undefined: everybody. */
  readonly over: string | undefined;
  readonly share: number;
  readonly untilMs: number;
}

/** The faults that last a while. */
export class Weather {
  readonly #time: VirtualTime;
  #store: Spell<StoreMode>[] = [];
  #vendor: Spell<VendorMode>[] = [];
  #kek: Spell<"down">[] = [];
  #disk: Spell<"full">[] = [];
  readonly #outages: { readonly provider: string; readonly fromMs: number; readonly untilMs: number }[] = [];

  constructor(time: VirtualTime) {
    this.#time = time;
  }

  storeTrouble(over: string | undefined, mode: StoreMode, share: number, forMs: number): void {
    this.#store.push({ mode, over, share, untilMs: this.#time.nowMs + forMs });
  }

  vendorTrouble(provider: string, mode: VendorMode, share: number, forMs: number): void {
    const untilMs = this.#time.nowMs + forMs;
    this.#vendor.push({ mode, over: provider, share, untilMs });
    if (mode === "outage") this.#outages.push({ provider, fromMs: this.#time.nowMs, untilMs });
  }

  kekDown(over: string | undefined, forMs: number): void {
    this.#kek.push({ mode: "down", over, share: 1, untilMs: this.#time.nowMs + forMs });
  }

  diskFull(over: string, forMs: number): void {
    this.#disk.push({ mode: "full", over, share: 1, untilMs: this.#time.nowMs + forMs });
  }

  store(host: string, random: Random): StoreMode | undefined {
    return this.#over(this.#store, host, random);
  }

  vendor(provider: string, random: Random): VendorMode | undefined {
    return this.#over(this.#vendor, provider, random);
  }

  isKekDown(host: string): boolean {
    return this.#kek.some((spell) => this.#covers(spell, host));
  }

  isDiskFull(host: string): boolean {
    return this.#disk.some((spell) => this.#covers(spell, host));
  }

  /** The provider's file does not map its answers at the moment. */
  isFileBroken(provider: string): boolean {
    return this.#vendor.some((spell) => spell.mode === "unmapped" && this.#covers(spell, provider));
  }

  /** True when the provider refused grants that it honours at some time in the last `withinMs`. */
  wasOutage(provider: string, withinMs: number): boolean {
    const { nowMs } = this.#time;
    return this.#outages.some(
      (outage) =>
        outage.provider === provider && outage.fromMs <= nowMs && outage.untilMs + withinMs >= nowMs,
    );
  }

  /** The faults stop. */
  clear(): void {
    this.#store = [];
    this.#vendor = [];
    this.#kek = [];
    this.#disk = [];
  }

  #over<M>(spells: readonly Spell<M>[], name: string, random: Random): M | undefined {
    return spells.find((spell) => this.#covers(spell, name) && random.chance(spell.share))?.mode;
  }

  #covers(spell: Spell<unknown>, name: string): boolean {
    return (spell.over === undefined || spell.over === name) && spell.untilMs > this.#time.nowMs;
  }
}
