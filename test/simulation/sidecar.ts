import { KeyturnError } from "../../src/errors.ts";
import { Heart } from "../../src/tokens/heart.ts";
import type { RenderAnswer } from "../../src/tokens/token.ts";
import type { World } from "../../src/tokens/world.ts";
import { FakeConsents } from "../fakes/consents.ts";
import type { Caps } from "./caps.ts";
import { Disk, FakeJournal } from "./disk.ts";
import { FakeSealer } from "./fake-sealer.ts";
import type { Ledger } from "./ledger.ts";
import { type Host, Process } from "./machine.ts";
import type { Mutant } from "./mutants.ts";
import type { Blow, ProviderShape } from "./plan.ts";
import { StoreLine } from "./store-line.ts";
import type { VendorModel } from "./vendor-model.ts";
import { VendorPort } from "./vendor-port.ts";
import type { Weather } from "./weather.ts";
import type { Witness } from "./witness.ts";

/** What all sidecars of one simulation share. */
export interface Shared {
  readonly ledger: Ledger;
  readonly weather: Weather;
  readonly witness: Witness;
  readonly model: VendorModel;
  readonly caps: Caps;
  readonly provider: (name: string) => ProviderShape | undefined;
  readonly mutant: Mutant | undefined;
  readonly maxKnownAccounts: number;
}

/** One life of a sidecar. */
export interface Life {
  readonly process: Process;
  readonly heart: Heart;
  readonly journal: FakeJournal;
  readonly sealer: FakeSealer;
  /** True once `start` has resolved. */
  isReady: boolean;
}

/** A sidecar through all its lives on one host. */
export class Sidecar {
  readonly host: Host;
  readonly #shared: Shared;
  readonly #owns: (accountId: string) => boolean;
  #disk = new Disk();
  #disks = 0;
  #lives = 0;
  #life: Life | undefined;
  /** Instances that will never come back. */
  readonly lostDisks: string[] = [];
  /** Until then what it remembers may be old: it was stopped, cut off or has just begun. */
  unsettledUntilMs = 0;

  constructor(host: Host, shared: Shared, owns: (accountId: string) => boolean) {
    this.host = host;
    this.#shared = shared;
    this.#owns = owns;
  }

  /** Undefined while it is down. */
  get life(): Life | undefined {
    return this.#life;
  }

  start(): void {
    if (this.#life !== undefined) return;
    this.#lives += 1;
    const { ledger, weather, witness, model, caps, provider, mutant } = this.#shared;
    const instance = `${this.host.name}.${this.#disks}`;
    const process = new Process(this.host);
    const journal = new FakeJournal(this.#disk, process, weather, witness);
    const sealer = new FakeSealer(process, weather);
    const line = new StoreLine(ledger, process, weather);
    const life = `${instance}.${this.#lives}`;
    const jitter = this.host.random.fork(life);
    let ids = 0;
    const world: World = {
      instance,
      clock: process.clock,
      random: () => jitter.next(),
      newId: () => `${life}.${(ids++).toString(36)}`,
      store: line.store,
      events: line.events,
      sealer,
      journal,
      vendors: new VendorPort({ process, instance, model, weather, witness, caps, provider }),
      consents: new FakeConsents(this.host.time, () => process.clock.now()),
      vault: { seal: (answer) => Buffer.from(answer), open: (sealed) => Buffer.from(sealed) },
      render,
      report: (what, context, cause) => this.#report(what, context, cause),
      maxKnownAccounts: this.#shared.maxKnownAccounts,
      defaultMaxConcurrent: 8,
    };
    const heart = new Heart(mutant === undefined ? world : mutant(world), { owns: this.#owns, share: 1 });
    const born: Life = { process, heart, journal, sealer, isReady: false };
    this.#life = born;
    this.host.chronicle.say(this.host.name, `starts as ${life}`);
    void heart.start().then(() => {
      born.isReady = true;
      this.unsettledUntilMs = this.host.time.nowMs + 4_000;
      this.host.chronicle.say(this.host.name, "is ready");
    });
  }

  #report(what: string, context: Readonly<Record<string, string | number>>, cause: unknown): void {
    const text = cause instanceof Error ? `${cause.name} ${cause.message}` : String(cause ?? "");
    this.host.chronicle.say(this.host.name, `reports ${what} ${Object.values(context).join(" ")} ${text}`);
    this.host.chronicle.seen(`report ${what}`);
    if (cause !== undefined && !(cause instanceof KeyturnError))
      this.host.chronicle.broken("no fault of our own", `${what}: ${stackOf(cause)}`);
  }

  strike(blow: Blow): void {
    const life = this.#life;
    if (life === undefined) return;
    const { host } = this;
    host.chronicle.seen(blow.kind === "crash" && blow.diskLost ? "crash without its disk" : blow.kind);
    host.chronicle.say(host.name, `✗ ${JSON.stringify(blow)}`);
    switch (blow.kind) {
      case "crash":
        this.#die(life, blow.diskLost);
        host.time.after(blow.downMs, () => this.start());
        return;
      case "stop":
        life.process.deliver(() => {
          void life.heart.stop(blow.limitMs).then((left) => {
            host.chronicle.seen(left.length === 0 ? "stopped clean" : "stopped with attempts open");
            if (this.#life !== life) return;
            this.#die(life, false);
            host.time.after(blow.downMs, () => this.start());
          });
        });
        return;
      case "pause":
        life.process.pause();
        host.time.after(blow.forMs, () => {
          life.process.resume();
          this.unsettledUntilMs = Math.max(this.unsettledUntilMs, host.time.nowMs + 4_000);
        });
        return;
      case "partition":
        host.partitionedUntilMs = Math.max(host.partitionedUntilMs, host.time.nowMs + blow.forMs);
        this.unsettledUntilMs = Math.max(this.unsettledUntilMs, host.partitionedUntilMs + 4_000);
    }
  }

  #die(life: Life, diskLost: boolean): void {
    life.process.kill();
    this.#life = undefined;
    if (!diskLost) return;
    this.#disk.isLost = true;
    this.lostDisks.push(`${this.host.name}.${this.#disks}`);
    this.#disk = new Disk();
    this.#disks += 1;
  }
}

export function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

/** An answer as callers get it. */
export interface Answer {
  readonly accountId: string;
  readonly slot: string;
  readonly incarnation: string;
  readonly generation: number;
  readonly access: string;
  readonly expiresAtMs: number | undefined;
}

const render: RenderAnswer = ({ account, slot, credential }) => {
  const answer: Answer = {
    accountId: account.id,
    slot,
    incarnation: account.incarnation,
    generation: account.slots[slot]?.generation ?? 0,
    access: credential.kind === "oauth" ? credential.accessToken.reveal() : "",
    expiresAtMs: credential.kind === "oauth" ? credential.expiresAtMs : undefined,
  };
  return Buffer.from(JSON.stringify(answer));
};
