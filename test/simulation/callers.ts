import { isReason, KeyturnError, type Reason } from "../../src/errors.ts";
import type { SlotKey } from "../../src/tokens/account.ts";
import type { Chronicle } from "./chronicle.ts";
import type { Ledger } from "./ledger.ts";
import { type Answer, type Life, type Sidecar, stackOf } from "./sidecar.ts";
import type { VendorModel } from "./vendor-model.ts";
import type { Witness } from "./witness.ts";

/** A deadline is met when the answer comes within the same few milliseconds. */
const PUNCTUAL_MS = 5;
/** How soon a change must have reached every cache, and some more for an answer on its way. */
const STALE_MS = 4_000;

/** No caller may ever be told these. */
const NEVER: readonly Reason[] = ["SEAL_INVALID", "KEK_MISMATCH", "INTERNAL_ERROR"];

export interface Asked {
  readonly key: SlotKey;
  readonly waitMs: number;
  readonly minValidityMs: number;
  /** Reports the token that it was given last as refused by the vendor. */
  readonly rejects: boolean;
}

/** Those who want tokens: all of them are answered by their deadlines, and never with a wrong token. */
export class Callers {
  readonly #chronicle: Chronicle;
  readonly #model: VendorModel;
  readonly #witness: Witness;
  readonly #ledger: Ledger;
  readonly #isCalm: boolean;
  readonly #last = new Map<string, Answer>();

  constructor(chronicle: Chronicle, model: VendorModel, witness: Witness, ledger: Ledger, isCalm: boolean) {
    this.#isCalm = isCalm;
    this.#chronicle = chronicle;
    this.#model = model;
    this.#witness = witness;
    this.#ledger = ledger;
  }

  /** One call; undefined when it was refused, or the sidecar died. */
  ask(sidecar: Sidecar, asked: Asked, told: (answer: Answer | undefined) => void = () => undefined): void {
    const { life } = sidecar;
    if (life?.isReady) life.process.deliver(() => void this.#call(sidecar, life, asked).then(told));
    else told(undefined);
  }

  async #call(sidecar: Sidecar, life: Life, asked: Asked): Promise<Answer | undefined> {
    const { time } = sidecar.host;
    const startedAtMs = time.nowMs;
    const name = `${asked.key.accountId}/${asked.key.slot}`;
    const last = this.#last.get(name);
    const ask = {
      key: asked.key,
      minValidityMs: asked.minValidityMs,
      rejected: asked.rejects ? last : undefined,
      trigger: "demand",
    } as const;
    const untilBootMs = life.process.clock.boot() + asked.waitMs;
    let answered = false;
    const punctual = () => {
      if (answered || life.process.state === "dead") return;
      if (life.process.state === "paused" || time.nowMs < sidecar.unsettledUntilMs - STALE_MS + PUNCTUAL_MS) {
        time.after(PUNCTUAL_MS * 100, punctual);
      } else this.#chronicle.broken("every caller is answered by its deadline", name);
    };
    time.after(asked.waitMs + PUNCTUAL_MS, punctual);
    try {
      const waiting = { untilBootMs, actor: { caller: "simulation", purpose: "token" } };
      const bytes = await life.heart.broker.getToken(ask, waiting);
      answered = true;
      const answer: Answer = JSON.parse(Buffer.from(bytes).toString());
      this.#chronicle.seen("served");
      this.#check(sidecar, name, answer, startedAtMs);
      this.#last.set(name, answer);
      return answer;
    } catch (error) {
      answered = true;
      const isOurs = error instanceof KeyturnError;
      this.#chronicle.seen(isOurs ? `refused ${error.reason} (${error.metadata["cause"] ?? ""})` : "failed");
      // Whose turn does not come in time, for want of a budget or behind a slow disk, is told so.
      const isLate = isReason(error, "WAIT_TIMED_OUT", "PROVIDER_RATE_LIMITED", "SHUTTING_DOWN");
      if (this.#isCalm && !isLate)
        this.#chronicle.broken("nobody is refused on a calm day", `${name}: ${String(error)}`);
      if (!isOurs || NEVER.includes(error.reason))
        this.#chronicle.broken("callers are told what is so", `${name}: ${stackOf(error)}`);
      return undefined;
    }
  }

  #check(sidecar: Sidecar, name: string, answer: Answer, startedAtMs: number): void {
    const { host } = sidecar;
    if (this.#model.ownerOfAccess(answer.access) !== name)
      this.#chronicle.broken("callers get their own account's token", `${name}: ${answer.access}`);
    const jumped = host.time.nowMs - host.jumpedAtMs < 10_000;
    if (!jumped && answer.expiresAtMs !== undefined && answer.expiresAtMs < host.nowMs - 1_000)
      this.#chronicle.broken(
        "no expired token is handed out",
        `${name}: ${answer.access} by ${host.name}, asked at ${startedAtMs}, expired ${host.nowMs - answer.expiresAtMs} ms ago`,
      );
    if (startedAtMs < sidecar.unsettledUntilMs) return;
    const deletedAtMs = this.#witness.deletedAtMs.get(answer.incarnation);
    if (deletedAtMs !== undefined && startedAtMs - deletedAtMs > STALE_MS)
      this.#chronicle.broken("a change reaches every cache", `${name} was deleted`);
    const stored = this.#witness.storedAtMs.get(`${answer.incarnation}/${answer.slot}`);
    if (stored !== undefined && stored.generation > answer.generation && startedAtMs - stored.atMs > STALE_MS)
      this.#chronicle.broken("a change reaches every cache", `${name}: an old generation`);
    const disabledAtMs = this.#ledger.disabledAtMs.get(answer.incarnation);
    if (disabledAtMs !== undefined && startedAtMs - disabledAtMs > STALE_MS)
      this.#chronicle.broken("a change reaches every cache", `${name} was disabled`);
  }
}
