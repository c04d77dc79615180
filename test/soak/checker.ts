import type { HistoryEntry } from "../../src/simulator/simulator.ts";
import type { SlotState } from "../../src/tokens/account.ts";
import { IN_DOUBT_HOLD_MS, LOCK_MS, SEND_WITHIN_MS } from "../../src/tokens/limits.ts";
import type { Lock } from "../../src/tokens/records.ts";
import type { Caps, Conclusion, Histories, LastAnswer, Row, Send } from "./histories.ts";

/** What separates two clocks' readings of one moment: writing down, scheduling, a watch's way. */
const SLACK_MS = 500;

/** A grant that the provider ended because its refresh token came twice, for a reason that nobody could help. */
export interface LostFamily {
  readonly accountId: string;
  readonly fingerprint: string;
}

export interface Verdict {
  /** Empty when every promise was kept. */
  readonly violations: readonly string[];
  readonly lostFamilies: readonly LostFamily[];
  /** How much of its caps each OAuth client had in use, at most, by its id at the provider. */
  readonly mostUsed: Readonly<Record<string, Usage>>;
}

export interface Usage {
  readonly permits: number;
  /** Requests in the blocks of its budget that were taken at one time. */
  readonly budget: number;
  /** Requests that ran at the provider at one time. */
  readonly atATime: number;
  /** Requests that arrived within one window of the budget. */
  readonly inAWindow: number;
}

/** An attempt as the store's history tells it. */
interface Attempted {
  readonly attemptId: string;
  readonly instance: string;
  readonly slot: string;
  readonly generation: number;
  /** The writer's clock just before it wrote. */
  readonly atMs: number;
  readonly revision: number;
  /** The slot as it was stored at that moment. */
  readonly slotState: SlotState | undefined;
  /** Of the note's last write. */
  noteRevision: number;
  /** Its holder, or the replay of its holder's journal, took the note away. */
  concludedRevision: number | undefined;
}

/** Reads the histories of a run and says where they break a promise. Knows nothing of how sidecars work inside. */
export function check(histories: Histories): Verdict {
  const store = new StoreReading(histories.caps, histories.conclusions);
  for (const group of byRevision(histories.rows)) store.read(group);
  const violations = [...store.violations];
  const sent = matched(histories, violations);
  for (const { send } of sent) checkSend(send, store.attempts, violations);
  const lostFamilies = checkResends(sent, store.attempts, violations);
  const mostUsed: Record<string, Usage> = {};
  for (const [clientId, caps] of histories.caps) {
    const used = checkCaps(clientId, caps, histories.requests, violations);
    mostUsed[clientId] = { ...used, ...store.mostTaken(clientId) };
  }
  checkFlags(store.flags, histories.requests, violations);
  checkLastAnswers(histories.lastAnswers, lostFamilies, violations);
  return { violations: [...new Set(violations)], lostFamilies, mostUsed };
}

function byRevision(rows: readonly Row[]): readonly (readonly Row[])[] {
  const groups: Row[][] = [];
  for (const row of rows) {
    const last = groups.at(-1);
    if (last?.[0]?.revision === row.revision) last.push(row);
    else groups.push([row]);
  }
  return groups;
}

interface Flag {
  readonly accountId: string;
  readonly heardAtMs: number;
}

/** What is taken of a client's caps, by number, and the most that ever was. */
interface Taken {
  readonly permits: Set<string>;
  readonly blocks: Map<string, number>;
  readonly most: { permits: number; budget: number };
}

/** Walks through the store's history: exclusion, generations, attempts, permits, flags. */
class StoreReading {
  readonly violations: string[] = [];
  readonly attempts = new Map<string, Attempted>();
  readonly flags: Flag[] = [];
  readonly #slots = new Map<string, { readonly incarnation: string; readonly state: SlotState }>();
  readonly #open = new Map<string, Attempted>();
  /** Attempt ids. */
  readonly #holds = new Map<string, string>();
  readonly #locks = new Map<string, Lock>();
  /** Ids of locks whose holder's session has ended, if only for a moment. */
  readonly #orphans = new Set<string>();
  readonly #members = new Set<string>();
  readonly #taken = new Map<string, Taken>();
  readonly #caps: ReadonlyMap<string, Caps>;
  /** By slot and revision of the note: who said that it was about to take it away. */
  readonly #concluders: ReadonlyMap<string, readonly Conclusion[]>;

  constructor(caps: ReadonlyMap<string, Caps>, conclusions: readonly Conclusion[]) {
    this.#caps = caps;
    this.#concluders = Map.groupBy(
      conclusions,
      ({ accountId, slot, revision }) => `${accountId}/${slot} ${revision}`,
    );
  }

  mostTaken(clientId: string): Taken["most"] {
    return this.#takenOf(clientId).most;
  }

  /** What one transaction, or one lease's end, did. Attempts are read first: they are about what stood before. */
  read(group: readonly Row[]): void {
    for (const row of group) if (row.kind === "attempt") this.#attempt(row);
    for (const row of group) {
      const name = row.parts.join("/");
      if (row.kind === "account") this.#account(row);
      else if (row.kind === "lock") this.#lock(name, row);
      else if (row.kind === "permit") this.#permit(row);
      else if (row.kind === "budget") this.#block(row);
      else if (row.kind === "member") this.#member(name, row.value !== undefined);
      else if (row.kind === "hold") {
        if (row.value === undefined) this.#holds.delete(name);
        else this.#holds.set(name, row.value.attemptId);
      }
    }
  }

  #attempt(row: Extract<Row, { kind: "attempt" }>): void {
    const name = row.parts.join("/");
    const open = this.#open.get(name);
    if (row.value === undefined) {
      if (open !== undefined) this.#concluded(open, row.revision);
      this.#open.delete(name);
      return;
    }
    const { attemptId, instance, incarnation, generation, atMs } = row.value;
    if (open?.attemptId === attemptId) {
      open.noteRevision = row.revision;
      return;
    }
    const slot = this.#slots.get(name);
    const isCurrent = slot?.incarnation === incarnation && slot.state.generation === generation;
    if (!isCurrent) {
      this.#broken(
        "an attempt is of the current generation",
        `${name}: ${generation}, stored ${slot?.state.generation}`,
      );
    }
    const isForeign = open?.generation === generation && open.instance !== instance;
    if (open !== undefined && isForeign && this.#holds.get(name) === open.attemptId) {
      this.#broken("nobody attempts under another's hold", `${name} generation ${generation}`);
    }
    const attempt: Attempted = {
      attemptId,
      instance,
      slot: name,
      generation,
      atMs,
      revision: row.revision,
      slotState: slot?.state,
      noteRevision: row.revision,
      concludedRevision: undefined,
    };
    this.attempts.set(attemptId, attempt);
    this.#open.set(name, attempt);
  }

  /** Only its holder knows how an attempt ended: a note that anybody else takes away says nothing. */
  #concluded(attempt: Attempted, revision: number): void {
    const { slot, instance, noteRevision, generation } = attempt;
    const by = new Set((this.#concluders.get(`${slot} ${noteRevision}`) ?? []).map((one) => one.instance));
    if (by.has(instance)) attempt.concludedRevision = revision;
    if (by.size === 0) this.#broken("every conclusion is announced", `${slot} generation ${generation}`);
    by.delete(instance);
    if (by.size > 0)
      this.#broken(
        "nobody but its holder concludes an attempt",
        `${slot} generation ${generation} of ${instance}, by ${[...by].join()}`,
      );
  }

  #account({ parts: [accountId = ""], value, heardAtMs }: Extract<Row, { kind: "account" }>): void {
    for (const [slot, state] of Object.entries(value?.slots ?? {})) {
      const name = `${accountId}/${slot}`;
      const before = this.#slots.get(name);
      const incarnation = value?.incarnation ?? "";
      const from = before?.incarnation === incarnation ? before.state : undefined;
      const step = state.generation - (from?.generation ?? state.generation);
      if (step < 0 || step > 1) {
        this.#broken("generations grow one by one", `${name}: ${state.generation} after ${from?.generation}`);
      }
      if (state.state === "needs_reauth" && from?.state === "active")
        this.flags.push({ accountId, heardAtMs });
      this.#slots.set(name, { incarnation, state });
    }
  }

  /** May be taken from a dead holder, or when its 30 s have passed; each writes down by its own clock when they will have. */
  #lock(name: string, { value }: Extract<Row, { kind: "lock" }>): void {
    const before = this.#locks.get(name);
    if (value === undefined) {
      this.#locks.delete(name);
      return;
    }
    const ageMs = value.notAfterMs - (before?.notAfterMs ?? 0);
    const isHeld = before !== undefined && ageMs < LOCK_MS - SLACK_MS && !this.#orphans.has(before.lockId);
    if (isHeld && before.instance !== value.instance) {
      this.#broken("a lock has one holder", `${name}: taken ${ageMs} ms after another took it`);
    }
    this.#locks.set(name, value);
    if (!this.#members.has(value.instance)) this.#orphans.add(value.lockId);
  }

  #member(instance: string, isThere: boolean): void {
    keep(this.#members, instance, isThere);
    if (isThere) return;
    for (const lock of this.#locks.values()) if (lock.instance === instance) this.#orphans.add(lock.lockId);
  }

  #permit({ parts: [, client = "", n = ""], value }: Extract<Row, { kind: "permit" }>): void {
    const { permits, most } = this.#takenOf(client);
    keep(permits, n, value !== undefined);
    most.permits = Math.max(most.permits, permits.size);
    const cap = this.#caps.get(client)?.maxConcurrent ?? Number.POSITIVE_INFINITY;
    if (permits.size > cap)
      this.#broken("permits never exceed their cap", `${client}: ${permits.size} of ${cap}`);
  }

  #block({ parts: [, client = "", n = ""], value }: Extract<Row, { kind: "budget" }>): void {
    const { blocks, most } = this.#takenOf(client);
    if (value === undefined) blocks.delete(n);
    else blocks.set(n, value.requests);
    const requests = blocks.values().reduce((sum, one) => sum + one, 0);
    most.budget = Math.max(most.budget, requests);
    const cap = this.#caps.get(client)?.budget.requests ?? Number.POSITIVE_INFINITY;
    if (requests > cap) this.#broken("blocks never exceed their budget", `${client}: ${requests} of ${cap}`);
  }

  #takenOf(client: string): Taken {
    const found = this.#taken.get(client);
    if (found !== undefined) return found;
    const taken = {
      permits: new Set<string>(),
      blocks: new Map<string, number>(),
      most: { permits: 0, budget: 0 },
    };
    this.#taken.set(client, taken);
    return taken;
  }

  #broken(promise: string, how: string): void {
    this.violations.push(`${promise}: ${how}`);
  }
}

function keep(set: Set<string>, name: string, isThere: boolean): void {
  if (isThere) set.add(name);
  else set.delete(name);
}

/** A token request and the word of the sidecar that sent it. */
interface Sent {
  readonly request: HistoryEntry;
  readonly send: Send;
}

/** Every request that reached the provider was announced, just before, by somebody. */
function matched({ sends, requests }: Histories, violations: string[]): readonly Sent[] {
  const waiting = new Map<string, Send[]>();
  for (const send of sends) waiting.set(send.accountId, [...(waiting.get(send.accountId) ?? []), send]);
  return requests.flatMap((request) => {
    if (request.grantType !== "refresh_token") return [];
    const announced = waiting.get(request.subject ?? "") ?? [];
    const at = announced.findLastIndex(({ atMs }) => atMs <= request.arrivedAtMs);
    const [send] = at < 0 ? [] : announced.splice(at, 1);
    if (send !== undefined) return [{ request, send }];
    violations.push(`every token request is announced: ${request.subject}, request ${request.sequence}`);
    return [];
  });
}

function checkSend(send: Send, attempts: ReadonlyMap<string, Attempted>, violations: string[]): void {
  const where = `${send.accountId}/${send.slot} generation ${send.generation}`;
  const attempt = send.attemptId === undefined ? undefined : attempts.get(send.attemptId);
  if (attempt === undefined) {
    violations.push(`an attempt is durable before the first byte leaves: ${where}`);
    return;
  }
  const lateMs = send.atMs - attempt.atMs;
  if (lateMs > SEND_WITHIN_MS + SLACK_MS) {
    violations.push(`nothing leaves later than 5 s after its attempt: ${where}, ${lateMs} ms`);
  }
}

/** True when whoever sent it knows that the provider did nothing: it said so, in an answer that left whole. */
function isRefused({ delivery, redeemed, status }: HistoryEntry): boolean {
  const said = status === 429 || status === 503 || (status !== undefined && status >= 400 && status < 500);
  return delivery === "answered" && !redeemed && said;
}

/** Whoever sends a refresh token a second time needs a reason. */
function checkResends(
  sent: readonly Sent[],
  attempts: ReadonlyMap<string, Attempted>,
  violations: string[],
): readonly LostFamily[] {
  const uses = new Map<string, Sent[]>();
  for (const one of sent) {
    const { fingerprint = "" } = one.request;
    uses.set(fingerprint, [...(uses.get(fingerprint) ?? []), one]);
  }
  const lost: LostFamily[] = [];
  for (const [fingerprint, all] of uses) {
    all.forEach((next, n) => {
      const before = all[n - 1];
      if (before !== undefined) checkResend(before, next, attempts, violations);
    });
    const reuses = all.filter(({ request }) => request.reuse && request.outcome === "invalid_grant");
    const [first] = all;
    if (reuses.length === 0 || first === undefined) continue;
    lost.push({ accountId: first.send.accountId, fingerprint });
    if (reuses.length > 1) violations.push(`a lost family is asked for once: ${first.send.accountId}`);
  }
  return lost;
}

function checkResend(
  { request: earlier, send: first }: Sent,
  { request, send }: Sent,
  attempts: ReadonlyMap<string, Attempted>,
  violations: string[],
): void {
  const where = `${send.accountId} generation ${send.generation}, ${request.arrivedAtMs - earlier.arrivedAtMs} ms after ${earlier.outcome} (${earlier.delivery}, ${earlier.status}, ${earlier.faults.join()})`;
  if (send.generation !== first.generation || send.incarnation !== first.incarnation) {
    violations.push(`a refresh token belongs to one generation: ${where}`);
    return;
  }
  const [a, b] = [attempts.get(first.attemptId ?? ""), attempts.get(send.attemptId ?? "")];
  // Said of each of them already.
  if (a === undefined || b === undefined) return;
  if (a === b) {
    violations.push(`one attempt sends once: ${where}`);
    return;
  }
  const isConcluded = a.concludedRevision !== undefined && a.concludedRevision <= b.revision;
  const hasHoldPassed = b.atMs - a.atMs >= IN_DOUBT_HOLD_MS - SLACK_MS;
  if (!isConcluded && !hasHoldPassed) {
    violations.push(`nothing is sent again while its answer may come: ${where}`);
    return;
  }
  const leftMs = (b.slotState?.expiresAtMs ?? 0) - b.atMs;
  if (!isRefused(earlier) && leftMs > SLACK_MS) {
    violations.push(`nothing is risked while the access token is good: ${where}, ${leftMs} ms left`);
  }
}

function checkCaps(
  clientId: string,
  { maxConcurrent, budget }: Caps,
  requests: readonly HistoryEntry[],
  violations: string[],
): Pick<Usage, "atATime" | "inAWindow"> {
  const own = requests.filter((request) => request.clientId === clientId);
  const steps = own
    .flatMap(({ arrivedAtMs, endedAtMs }) => [
      { atMs: arrivedAtMs, by: 1 },
      { atMs: endedAtMs ?? Number.POSITIVE_INFINITY, by: -1 },
    ])
    .toSorted((one, other) => one.atMs - other.atMs || one.by - other.by);
  let running = 0;
  let atATime = 0;
  for (const { by } of steps) {
    running += by;
    atATime = Math.max(atATime, running);
  }
  if (atATime > maxConcurrent) {
    violations.push(`requests at a time never exceed their cap: ${clientId}, ${atATime} of ${maxConcurrent}`);
  }
  let first = 0;
  let inAWindow = 0;
  own.forEach(({ arrivedAtMs }, n) => {
    while (arrivedAtMs - (own[first]?.arrivedAtMs ?? 0) >= budget.perMs) first += 1;
    inAWindow = Math.max(inAWindow, n - first + 1);
  });
  if (inAWindow > budget.requests) {
    violations.push(
      `requests in a window never exceed their budget: ${clientId}, ${inAWindow} of ${budget.requests}`,
    );
  }
  return { atATime, inAWindow };
}

/** Whoever is flagged has been refused by the provider's own logic, because its family was over. */
function checkFlags(flags: readonly Flag[], requests: readonly HistoryEntry[], violations: string[]): void {
  for (const { accountId, heardAtMs } of flags) {
    const isOver = requests.some(
      ({ subject, outcome, arrivedAtMs }) =>
        subject === accountId && outcome === "invalid_grant" && arrivedAtMs <= heardAtMs,
    );
    if (!isOver) violations.push(`nothing is flagged that the provider had not revoked: ${accountId}`);
  }
}

/** What may be in the way of an account when everything works again, and passes by itself. */
const WAITS: ReadonlySet<string> = new Set([
  // A suspected outage and an open breaker are probed once a minute.
  "PROVIDER_UNAVAILABLE/outage_suspected",
  "PROVIDER_UNAVAILABLE/unavailable",
  "PROVIDER_UNAVAILABLE/backing_off",
  "PROVIDER_RATE_LIMITED/budget",
  "PROVIDER_RATE_LIMITED/token_endpoint",
  "REFRESH_UNCERTAIN/held",
  "REFRESH_UNCERTAIN/listening",
  "REFRESH_UNCERTAIN/overdue",
]);
/** The caller's time was up, or the store's: how fast a busy machine is, nobody promises. */
const OUT_OF_TIME = /DEADLINE_EXCEEDED$|^WAIT_TIMED_OUT|^STORE_UNAVAILABLE/;

/** Once all trouble is over, everybody is served or told what they wait for, and only a lost family needs its customer. */
function checkLastAnswers(
  answers: readonly LastAnswer[],
  lostFamilies: readonly LostFamily[],
  violations: string[],
): void {
  const lost = new Set(lostFamilies.map(({ accountId }) => accountId));
  for (const { accountId, clientId, answer } of answers) {
    if (answer === "served" || WAITS.has(answer) || OUT_OF_TIME.test(answer)) continue;
    if (answer === "REAUTHORIZATION_REQUIRED/refused" && lost.has(accountId)) continue;
    violations.push(
      `everybody is served in the end, or told what they wait for: ${accountId} of ${clientId}, ${answer}`,
    );
  }
}
