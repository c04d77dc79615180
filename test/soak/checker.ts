import type { HistoryEntry } from "../../src/simulator/simulator.ts";
import type { SlotState } from "../../src/tokens/account.ts";
import { IN_DOUBT_HOLD_MS, LOCK_MS, SEND_WITHIN_MS } from "../../src/tokens/limits.ts";
import type { Lock } from "../../src/tokens/records.ts";
import type { Caps, Histories, Row, Send } from "./histories.ts";

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
  /** Its holder, or a replay, took the note away. */
  concludedRevision: number | undefined;
}

/** Reads the histories of a run and says where they break a promise. Knows nothing of how sidecars work inside. */
export function check(histories: Histories): Verdict {
  const store = new StoreReading(histories.caps);
  for (const group of byRevision(histories.rows)) store.read(group);
  const violations = [...store.violations];
  const sent = matched(histories, violations);
  for (const { send } of sent) checkSend(send, store.attempts, violations);
  const lostFamilies = checkResends(sent, store.attempts, violations);
  for (const [clientId, caps] of histories.caps) checkCaps(clientId, caps, histories.requests, violations);
  checkFlags(store.flags, histories.requests, violations);
  return { violations: [...new Set(violations)], lostFamilies };
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
  readonly #permits = new Map<string, Set<string>>();

  constructor(caps: ReadonlyMap<string, Caps>) {
    for (const clientId of caps.keys()) this.#permits.set(clientId, new Set());
    this.#caps = caps;
  }

  readonly #caps: ReadonlyMap<string, Caps>;

  /** What one transaction, or one lease's end, did. Attempts are read first: they are about what stood before. */
  read(group: readonly Row[]): void {
    for (const row of group) if (row.kind === "attempt") this.#attempt(row);
    for (const row of group) {
      const name = row.parts.join("/");
      if (row.kind === "account") this.#account(row);
      else if (row.kind === "lock") this.#lock(name, row);
      else if (row.kind === "permit") this.#permit(row);
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
      if (open !== undefined) open.concludedRevision = row.revision;
      this.#open.delete(name);
      return;
    }
    const { attemptId, instance, incarnation, generation, atMs } = row.value;
    if (open?.attemptId === attemptId) return;
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
      concludedRevision: undefined,
    };
    this.attempts.set(attemptId, attempt);
    this.#open.set(name, attempt);
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
    const taken = this.#permits.get(client) ?? new Set();
    this.#permits.set(client, taken);
    keep(taken, n, value !== undefined);
    const cap = this.#caps.get(client)?.maxConcurrent ?? Number.POSITIVE_INFINITY;
    if (taken.size > cap)
      this.#broken("permits never exceed their cap", `${client}: ${taken.size} of ${cap}`);
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
): void {
  const own = requests.filter((request) => request.clientId === clientId);
  const steps = own
    .flatMap(({ arrivedAtMs, endedAtMs }) => [
      { atMs: arrivedAtMs, by: 1 },
      { atMs: endedAtMs ?? Number.POSITIVE_INFINITY, by: -1 },
    ])
    .toSorted((one, other) => one.atMs - other.atMs || one.by - other.by);
  let running = 0;
  for (const { by } of steps) {
    running += by;
    if (running > maxConcurrent) {
      violations.push(
        `requests at a time never exceed their cap: ${clientId}, ${running} of ${maxConcurrent}`,
      );
    }
  }
  own.forEach(({ arrivedAtMs }, n) => {
    const last = own[n + budget.requests];
    const withinMs = last === undefined ? budget.perMs : last.arrivedAtMs - arrivedAtMs;
    if (withinMs < budget.perMs) {
      violations.push(
        `requests in a window never exceed their budget: ${clientId}, one more after ${withinMs} ms`,
      );
    }
  });
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
