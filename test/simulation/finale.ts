import type { SlotKey } from "../../src/tokens/account.ts";
import type { Acts } from "./acts.ts";
import { slotOf } from "./acts.ts";
import type { Callers } from "./callers.ts";
import type { Chronicle } from "./chronicle.ts";
import type { Shape } from "./plan.ts";
import type { Shared, Sidecar } from "./sidecar.ts";

const LOOK_EVERY_MS = 15_000;
/** Nobody waits longer than this for a token to end. */
const LONG_MS = 900_000;
const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
/** A blow that was struck at the very end lasts no longer. */
const LAST_BLOW_MS = 260_000;
/** The longest cool-down is an hour, the longest retry of the schedule 24 h and a fifth. */
const DEMAND_PATIENCE_MS = 2 * HOUR_MS;
const SCHEDULE_PATIENCE_MS = 31 * HOUR_MS;

/** The faults stop; everything that still lives at its vendor has to live here again. */
export class Finale {
  readonly #shape: Shape;
  readonly #shared: Shared;
  readonly #sidecars: readonly Sidecar[];
  readonly #acts: Acts;
  readonly #callers: Callers;
  readonly #chronicle: Chronicle;
  readonly #well = new Set<string>();
  /** Incarnation and generation when the faults stopped. */
  readonly #before = new Map<string, string>();
  #isQuiet = false;

  constructor(
    shape: Shape,
    shared: Shared,
    sidecars: readonly Sidecar[],
    acts: Acts,
    callers: Callers,
    chronicle: Chronicle,
  ) {
    this.#shape = shape;
    this.#shared = shared;
    this.#sidecars = sidecars;
    this.#acts = acts;
    this.#callers = callers;
    this.#chronicle = chronicle;
  }

  async run(): Promise<void> {
    const { time } = this.#first.host;
    const isOver = () => this.#chronicle.violation !== undefined;
    this.#chronicle.say("", "the faults stop");
    this.#shared.weather.clear();
    for (const { host } of this.#sidecars) host.heal();
    const allUp = () => this.#sidecars.every(({ life }) => life?.isReady && life.process.state === "running");
    await time.run(time.nowMs + LAST_BLOW_MS, () => isOver() || allUp());
    if (!allUp() && !isOver())
      this.#chronicle.broken("everything is well after the faults", "a sidecar is not ready");
    await this.#mend();
    if (isOver()) return;
    const healedAtMs = time.nowMs;
    for (const of of this.#slots) this.#before.set(nameOf(of), this.#generationOf(of));
    if (this.#shape.finale === "demand") this.#keepAsking(healedAtMs + DEMAND_PATIENCE_MS);
    const untilMs =
      healedAtMs + (this.#shape.finale === "demand" ? DEMAND_PATIENCE_MS : SCHEDULE_PATIENCE_MS);
    let sick = ["too early to say"] as readonly string[];
    while (sick.length > 0 && time.nowMs < untilMs && !isOver()) {
      await time.run(time.nowMs + LOOK_EVERY_MS, isOver);
      this.#shared.ledger.memory.sweepNow();
      sick = this.#sick();
    }
    if (sick.length > 0 && !isOver())
      this.#chronicle.broken(
        "every live grant is fresh again",
        `${sick.join(", ")} by ${this.#shape.finale}`,
      );
    // Holds, holders and leases run out; then all stop, and nothing may be left over.
    await time.run(time.nowMs + 2 * MINUTE_MS, isOver);
    this.#isQuiet = true;
    await time.run(time.nowMs + MINUTE_MS / 2, isOver);
    const attemptsLeft: (readonly string[])[] = [];
    for (const { life } of this.#sidecars)
      void life?.heart.stop(25_000).then((left) => attemptsLeft.push(left));
    await time.run(time.nowMs + 30_000, isOver);
    if (attemptsLeft.length < this.#sidecars.length || attemptsLeft.flat().length > 0)
      this.#chronicle.broken("nothing is left over", `stopping left ${attemptsLeft.flat().join(", ")}`);
    if (!isOver()) this.#checkRemains();
  }

  get #first(): Sidecar {
    const [first] = this.#sidecars;
    if (first === undefined) throw new RangeError("no sidecar");
    return first;
  }

  /** What an operator does after such a day: lets go of clients, gives new secrets, has kept answers read again. */
  async #mend(): Promise<void> {
    const { time } = this.#first.host;
    for (const provider of this.#shape.providers) {
      void this.#acts.release(0, provider.name);
      await time.run(time.nowMs + 1_000);
      void this.#acts.putClient(0, provider);
    }
    for (const sidecar of this.#sidecars) {
      const { life } = sidecar;
      for (const { accountId, slot } of life?.journal.entriesNow() ?? []) {
        const actor = { caller: "simulation", purpose: "remap" };
        void life?.heart.replay.remap({ accountId, slot }, actor).catch((error: unknown) => {
          this.#chronicle.say(sidecar.host.name, `cannot remap ${accountId}: ${String(error)}`);
        });
      }
    }
    await time.run(time.nowMs + 5_000);
  }

  #keepAsking(untilMs: number): void {
    const { time } = this.#first.host;
    // Its vendor refused what it was given last: a clock was wrong when its expiry was written down.
    const refused = new Set<string>();
    const ask = (round: number) => {
      if (time.nowMs > untilMs || this.#isQuiet) return;
      for (let n = 0; n < this.#shape.accounts; n += 1) {
        const sidecar = this.#sidecars[(n + round) % this.#sidecars.length];
        const slot = slotOf(this.#shape, n);
        const name = nameOf(slot);
        const asked = { key: slot, waitMs: 20_000, minValidityMs: 0, rejects: refused.has(name) };
        if (sidecar === undefined) continue;
        this.#callers.ask(sidecar, asked, (answer) => {
          if (answer === undefined) return;
          if (this.#isAccepted(answer.access)) refused.delete(name);
          else refused.add(name);
          this.#look(slot);
        });
      }
      time.after(21_000, () => ask(round + 1));
    };
    ask(0);
  }

  get #slots(): readonly SlotKey[] {
    return Array.from({ length: this.#shape.accounts }, (_, n) => slotOf(this.#shape, n));
  }

  /** What the vendor honours and what has not been seen to work since the faults stopped. */
  #sick(): readonly string[] {
    for (const of of this.#slots) this.#look(of);
    return this.#slots.filter((of) => this.#isLive(of) && !this.#well.has(nameOf(of))).map(nameOf);
  }

  /** It works: the stored token is accepted and new. A long-lived one is waited for only where the schedule is tried. */
  #look(of: SlotKey): void {
    const credential = this.#shared.ledger.credential(of);
    if (credential?.kind !== "oauth" || !this.#isAccepted(credential.accessToken.reveal())) return;
    const lifetimeMs = (credential.expiresAtMs ?? 0) - credential.issuedAtMs;
    const isNew = this.#generationOf(of) !== this.#before.get(nameOf(of));
    if (isNew || (this.#shape.finale === "demand" && lifetimeMs >= LONG_MS)) this.#well.add(nameOf(of));
  }

  #isAccepted(accessToken: string): boolean {
    return (this.#shared.model.accessUntilMs(accessToken) ?? 0) > this.#first.host.time.nowMs;
  }

  #generationOf({ accountId, slot }: SlotKey): string {
    const account = this.#shared.ledger.account(accountId);
    return `${account?.incarnation} ${account?.slots[slot]?.generation}`;
  }

  /** True while the vendor honours the stored grant and we have no excuse. */
  #isLive(of: SlotKey): boolean {
    const { ledger, model, witness } = this.#shared;
    const account = ledger.account(of.accountId);
    const slot = account?.slots[of.slot];
    const credential = ledger.credential(of);
    if (account === undefined || account.disabled || credential?.kind !== "oauth") return false;
    const token = credential.refreshToken?.reveal();
    if (token === undefined || !model.honours(token)) return false;
    if (slot?.state === "needs_reauth") return !witness.isExcused(of);
    // The one copy of an answer that nobody could read lay on a disk that is gone: only its customer can help.
    return slot?.unmapped === undefined || !this.#lostDisks().has(slot.unmapped.instance);
  }

  #lostDisks(): ReadonlySet<string> {
    return new Set(this.#sidecars.flatMap((sidecar) => sidecar.lostDisks));
  }

  #checkRemains(): void {
    this.#shared.witness.checkKept();
    for (const { host, life } of this.#sidecars) {
      if (life === undefined) continue;
      const left = {
        room: life.journal.reserved,
        keys: life.sealer.outstanding,
        entries: life.journal.entriesNow().length,
      };
      if (left.room + left.keys + left.entries > 0)
        this.#chronicle.broken("nothing is left over", `${host.name}: ${JSON.stringify(left)}`);
    }
  }
}

const nameOf = ({ accountId, slot }: SlotKey) => `${accountId}/${slot}`;
