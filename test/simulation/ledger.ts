import type { Account, SlotKey, SlotState } from "../../src/tokens/account.ts";
import { credentialContext } from "../../src/tokens/contexts.ts";
import { type Credential, credentialFromBytes } from "../../src/tokens/credential.ts";
import type { EventType, NewEvent } from "../../src/tokens/events.ts";
import { type Attempt, key } from "../../src/tokens/records.ts";
import type { Transaction, TransactionResult } from "../../src/tokens/store.ts";
import { revisionOf } from "../../src/tokens/token.ts";
import { MemoryStore } from "../fakes/memory-store.ts";
import type { Chronicle } from "./chronicle.ts";
import { openNow } from "./fake-sealer.ts";
import { EPOCH_MS } from "./machine.ts";
import type { VirtualTime } from "./virtual-time.ts";

/** What other invariants want to know of every transaction that landed. */
export interface LedgerWatch {
  attempted(attempt: Attempt, of: SlotKey): void;
  /** The holder took the note away. */
  concluded(attempt: Attempt, of: SlotKey): void;
  flagged(account: Account, of: SlotKey, slot: SlotState, credential: Credential | undefined): void;
  unflagged(of: SlotKey): void;
  /** Many were refused at once: the first three are to be taken back. */
  suspected(provider: string): void;
  deleted(account: Account, revoke: boolean): void;
  stored(account: Account, of: SlotKey, slot: SlotState): void;
}

/** The names that slots have here. */
export const SLOTS = ["default", "user"] as const;

/** Every provider's one OAuth client. */
export const CLIENT = "main";

const MATCH = "events match the records";

const RENEWING: readonly EventType[] = [
  "integrated_account:created",
  "integrated_account:token_refreshed",
  "integrated_account:credential_rotated",
];

const EVERYDAY: readonly EventType[] = [
  "integrated_account:refresh_failed",
  "integrated_account:token_refreshed",
  "integrated_account:credential_rotated",
  "feed:account_changed",
  "feed:slot_changed",
];

/** What a transaction may change that belongs to one account. */
interface Records {
  readonly account: Account | undefined;
  readonly attempts: ReadonlyMap<string, Attempt | undefined>;
  /** The client's token endpoint may be asked. */
  readonly mayAsk: boolean;
}

/** The shared store, and the check of every transaction: what it did to the records is what its events say. */
export class Ledger {
  readonly memory: MemoryStore;
  readonly #chronicle: Chronicle;
  readonly #watch: LedgerWatch;
  readonly #time: VirtualTime;
  /** Since when accounts are disabled, by incarnation. */
  readonly disabledAtMs = new Map<string, number>();
  /** Highest generation ever, by incarnation and slot. */
  readonly #generations = new Map<string, number>();

  constructor(time: VirtualTime, chronicle: Chronicle, watch: LedgerWatch) {
    const now = () => EPOCH_MS + time.nowMs;
    const never = () => Promise.reject(new Error("the store does not wait"));
    this.memory = new MemoryStore({ now, boot: () => time.nowMs, sleep: never }, "simulation");
    this.#chronicle = chronicle;
    this.#watch = watch;
    this.#time = time;
  }

  get nowMs(): number {
    return this.#time.nowMs;
  }

  account(id: string): Account | undefined {
    const at = key("account", id);
    return this.memory.readNow([at]).get(at)?.value;
  }

  /** The stored credential in the clear; undefined when there is none, or it does not open. */
  credential({ accountId, slot: name }: SlotKey): Credential | undefined {
    const at = key("credential", accountId, name);
    const entry = this.memory.readNow([at]).get(at);
    const account = this.account(accountId);
    const slot = account?.slots[name];
    if (entry === undefined || account === undefined || slot === undefined) return undefined;
    try {
      return credentialFromBytes(
        openNow(credentialContext(account, name, slot.generation), entry.value.sealed),
      );
    } catch {
      this.#chronicle.broken(
        "a stored credential opens",
        `${accountId}/${name} generation ${slot.generation}`,
      );
      return undefined;
    }
  }

  write(transaction: Transaction, who: string): TransactionResult {
    const before = this.#records(transaction);
    const revision = this.memory.revision;
    const result = this.memory.writeNow(transaction);
    if (!result.applied || this.memory.revision === revision) return result;
    const after = this.#records(transaction);
    const what = transaction.writes.map((write) =>
      "put" in write ? `+${write.put.kind} ${write.put.parts.join("/")}` : `-${write.remove.kind}`,
    );
    const said = transaction.events.map(
      (event) => `${event.type}(${event.reason})${event.detail["generation"] ?? ""}`,
    );
    this.#chronicle.say(who, `writes ${[...what, ...said].join(" ")}`);
    for (const event of transaction.events) {
      this.#chronicle.seen(`event ${event.type} (${event.reason})`);
      if (event.type === "provider:outage_suspected" && event.reason === "refusals")
        this.#watch.suspected(event.provider);
    }
    for (const [id, was] of before) this.#check(id, was, after.get(id) ?? was, transaction.events);
    this.#checkStrangers(transaction);
    return result;
  }

  #records({ writes }: Transaction): ReadonlyMap<string, Records> {
    const ids = new Set(
      writes.flatMap((write) => {
        const at = "put" in write ? write.put : write.remove;
        return ["account", "credential", "attempt"].includes(at.kind) ? [at.parts[0]] : [];
      }),
    );
    return new Map([...ids].map((id) => [id, this.#recordsOf(id)]));
  }

  #recordsOf(id: string): Records {
    const account = this.account(id);
    const reads = SLOTS.map((slot) => key("attempt", id, slot));
    const view = this.memory.readNow(reads);
    const attempts = new Map(reads.map((at) => [at.parts[1], view.get(at)?.value]));
    const provider = account?.provider ?? "-";
    const clientAt = key("client", provider, CLIENT);
    const cooldownAt = key("cooldown", provider, CLIENT);
    const clientView = this.memory.readNow([clientAt, cooldownAt]);
    const client = clientView.get(clientAt)?.value;
    const mayAsk =
      clientView.get(cooldownAt) === undefined && client?.onHold === undefined && client?.fault === undefined;
    return { account, attempts, mayAsk };
  }

  #check(id: string, was: Records, is: Records, events: readonly NewEvent[]): void {
    for (const slot of SLOTS) this.#checkAttempt({ accountId: id, slot }, was, is);
    const expected = this.#expected(was.account, is.account);
    const own = events.filter((event) => event.accountId === id);
    const told = own.map((event) => event.type).filter((type) => !EVERYDAY.includes(type));
    if (told.toSorted().join() !== expected.toSorted().join()) {
      this.#chronicle.broken(MATCH, `${id}: said [${told.join()}] where [${expected.join()}] happened`);
    }
    if (was.account !== is.account && own.length === 0)
      this.#chronicle.broken(MATCH, `${id} was written without an event`);
    if (is.account?.disabled === false) this.disabledAtMs.delete(is.account.incarnation);
    if (is.account?.disabled === true && was.account?.disabled !== true)
      this.disabledAtMs.set(is.account.incarnation, this.nowMs);
    if (is.account !== undefined)
      for (const slot of SLOTS) this.#checkSlot(is.account, was.account, { accountId: id, slot }, own);
    if (was.account !== undefined && is.account === undefined)
      this.#watch.deleted(was.account, own[0]?.reason === "revoked");
  }

  #checkAttempt(of: SlotKey, was: Records, is: Records): void {
    const [before, after] = [was.attempts.get(of.slot), is.attempts.get(of.slot)];
    if (before !== undefined && after === undefined) this.#watch.concluded(before, of);
    if (after === undefined || before?.attemptId === after.attemptId) return;
    this.#watch.attempted(after, of);
    const isActive = was.account?.disabled === false && was.account.slots[of.slot]?.state === "active";
    if (!was.mayAsk || !isActive)
      this.#chronicle.broken(
        "nobody asks on hold, in a fault, in a cool-down or for an inactive account",
        `${of.accountId}/${of.slot}`,
      );
  }

  /** The lifecycle events that a change of an account calls for. */
  #expected(was: Account | undefined, is: Account | undefined): readonly EventType[] {
    if (was === undefined) return is === undefined ? [] : ["integrated_account:created"];
    if (is === undefined) return ["integrated_account:deleted"];
    return SLOTS.flatMap((name): readonly EventType[] => {
      const [before, after] = [was.slots[name], is.slots[name]];
      if (before?.state === after?.state || after === undefined || before === undefined) return [];
      return after.state === "active"
        ? ["integrated_account:reactivated"]
        : ["integrated_account:authentication_error"];
    });
  }

  #checkSlot(is: Account, was: Account | undefined, of: SlotKey, all: readonly NewEvent[]): void {
    const slot = is.slots[of.slot];
    const before = was?.incarnation === is.incarnation ? was.slots[of.slot] : undefined;
    if (slot === undefined) return;
    const events = all.filter((event) => event.slot === of.slot);
    const name = `${is.incarnation}/${of.slot}`;
    const highest = this.#generations.get(name) ?? 0;
    const moved = slot.generation !== before?.generation;
    if (slot.generation < highest || (moved && slot.generation !== highest + 1))
      this.#chronicle.broken("generations only grow", `${name}: ${slot.generation} after ${highest}`);
    this.#generations.set(name, slot.generation);
    if (moved !== events.some((event) => RENEWING.includes(event.type)))
      this.#chronicle.broken(MATCH, `${name}: a new generation and its event go together`);
    this.#checkDates(is, of.slot, slot, events);
    const credential = this.credential(of);
    if (moved) this.#watch.stored(is, of, slot);
    if (slot.state === "needs_reauth" && before?.state === "active")
      this.#watch.flagged(is, of, slot, credential);
    if (slot.state === "active" && before?.state === "needs_reauth") this.#watch.unflagged(of);
  }

  /** Schedules are fed by events: the last one of a slot says when it is due, and of which revision it speaks. */
  #checkDates(is: Account, name: string, slot: SlotState, events: readonly NewEvent[]): void {
    const event = events.findLast(({ reason }) => reason !== "superseded");
    if (event === undefined) return;
    const due = is.disabled || slot.state !== "active" ? undefined : slot.nextRefreshAtMs;
    const said = event.detail["next_refresh_at_ms"];
    const isDue = due === undefined ? undefined : String(Math.round(due));
    if (said === isDue && event.revision === revisionOf(is, name, slot.generation)) return;
    this.#chronicle.broken(
      MATCH,
      `${is.id}: ${event.type} says due ${said} of generation ${event.detail["generation"]}, not ${isDue}`,
    );
  }

  /** No event speaks of an account that the transaction did not touch. */
  #checkStrangers({ writes, events }: Transaction): void {
    const touched = new Set(writes.map((write) => ("put" in write ? write.put : write.remove).parts[0]));
    const stranger = events.find(
      (event) => event.accountId !== "" && event.reason !== "superseded" && !touched.has(event.accountId),
    );
    if (stranger !== undefined)
      this.#chronicle.broken(MATCH, `${stranger.type} of ${stranger.accountId} alone`);
  }
}
