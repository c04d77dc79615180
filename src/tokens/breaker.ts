import { throttledMs } from "./backoff.ts";
import { BREAKER_OPENS_AT } from "./decide.ts";
import { clientEvent, type Draft } from "./draft.ts";
import { type Breaker, type KeyOf, key, type VerdictMark } from "./records.ts";
import type { Snapshot, Standing } from "./snapshot.ts";

/** Between two probes of a client in trouble; also how long a verdict counts towards a burst. */
const PROBE_EVERY_MS = 60_000;
const VERDICTS_WITHOUT_DOUBT = 3;
/** Refused probes in a row, a minute apart at least, after which mass refusals are taken for real. */
const CONFIRMED_AFTER_PROBES = 30;
const CONFIRMED_FOR_MS = 3_600_000;
const MIN_COOLDOWN_MS = 1_000;
const MAX_COOLDOWN_MS = 86_400_000;

const CALM: Breaker = {
  failing: [],
  throttled: 0,
  suspected: undefined,
  confirmedUntilMs: undefined,
  reverting: [],
};

export function breakerOf(snapshot: Standing): Breaker {
  return snapshot.breaker?.value ?? CALM;
}

/** True when only one paced probe at a time may be sent. */
export function isProbing(breaker: Breaker): boolean {
  return breaker.suspected !== undefined || breaker.failing.length >= BREAKER_OPENS_AT;
}

function isCalm(breaker: Breaker, nowMs: number): boolean {
  return (
    breaker.failing.length === 0 &&
    breaker.throttled === 0 &&
    breaker.suspected === undefined &&
    breaker.reverting.length === 0 &&
    (breaker.confirmedUntilMs ?? 0) <= nowMs
  );
}

function setBreaker(draft: Draft, snapshot: Snapshot, next: Breaker, nowMs: number): void {
  const at = key("breaker", snapshot.client.provider, snapshot.client.client);
  draft.expect(at, snapshot.breaker);
  if (isCalm(next, nowMs)) draft.remove(snapshot.breaker);
  else draft.put(at, next);
}

/** A minute, or the provider's own time, in which nobody asks this client's token endpoint. */
export function setCooldown(
  draft: Draft,
  snapshot: Snapshot,
  reason: "rate_limited" | "unavailable" | "outage_suspected",
  forMs: number,
  nowMs: number,
  limits: { readonly limit: number | undefined; readonly remaining: number | undefined } | undefined,
): void {
  const at = key("cooldown", snapshot.client.provider, snapshot.client.client);
  const value = { reason, untilMs: nowMs + forMs, limit: limits?.limit, remaining: limits?.remaining };
  draft.expect(at, snapshot.cooldown).put(at, value, forMs);
}

/** Whoever probes keeps the others from probing for a minute, by the store's clock. */
export function keepOthersOff(draft: Draft, snapshot: Snapshot, nowMs: number): void {
  const reason = breakerOf(snapshot).suspected === undefined ? "unavailable" : "outage_suspected";
  setCooldown(draft, snapshot, reason, PROBE_EVERY_MS, nowMs, undefined);
}

/** The provider granted a token: runs of failures end, and a probe that got through ends a suspicion. */
export function recordSuccess(draft: Draft, snapshot: Snapshot, wasProbe: boolean, nowMs: number): void {
  const breaker = breakerOf(snapshot);
  const { suspected } = breaker;
  const clears = suspected !== undefined && wasProbe;
  const wasOpen = breaker.failing.length >= BREAKER_OPENS_AT;
  const next: Breaker = {
    ...breaker,
    failing: [],
    throttled: 0,
    suspected: clears ? undefined : suspected,
    reverting: clears ? [...breaker.reverting, ...suspected.flagged] : breaker.reverting,
  };
  if (snapshot.breaker === undefined || (!wasOpen && !clears && sameBreaker(next, breaker))) return;
  setBreaker(draft, snapshot, next, nowMs);
  if (!clears && !wasOpen) return;
  const cooldownKey = key("cooldown", snapshot.client.provider, snapshot.client.client);
  draft.expect(cooldownKey, snapshot.cooldown).remove(snapshot.cooldown);
  draft.event(clientEvent("provider:outage_cleared", snapshot.client, nowMs, "recovered"));
}

function sameBreaker(a: Breaker, b: Breaker): boolean {
  return a.failing.length === b.failing.length && a.throttled === b.throttled;
}

/** A failure that blames the provider or the way to it: the fifth in a row over different accounts opens the breaker. */
export function recordTransient(draft: Draft, snapshot: Snapshot, nowMs: number): void {
  const breaker = breakerOf(snapshot);
  const known = breaker.failing.includes(snapshot.key.accountId);
  if (known || breaker.failing.length >= BREAKER_OPENS_AT) return;
  const failing = [...breaker.failing, snapshot.key.accountId];
  setBreaker(draft, snapshot, { ...breaker, failing }, nowMs);
  if (failing.length < BREAKER_OPENS_AT) return;
  setCooldown(draft, snapshot, "unavailable", PROBE_EVERY_MS, nowMs, undefined);
  draft.event(clientEvent("provider:outage_suspected", snapshot.client, nowMs, "unavailable"));
}

/** 429: everyone waits for as long as the provider said. Returns that time, in milliseconds. */
export function recordThrottled(
  draft: Draft,
  snapshot: Snapshot,
  retryAfterMs: number | undefined,
  limits: { readonly limit: number | undefined; readonly remaining: number | undefined } | undefined,
  nowMs: number,
): number {
  const breaker = breakerOf(snapshot);
  const throttled = retryAfterMs === undefined ? breaker.throttled + 1 : breaker.throttled;
  if (throttled !== breaker.throttled) setBreaker(draft, snapshot, { ...breaker, throttled }, nowMs);
  const forMs = Math.min(MAX_COOLDOWN_MS, Math.max(MIN_COOLDOWN_MS, retryAfterMs ?? throttledMs(throttled)));
  setCooldown(draft, snapshot, "rate_limited", forMs, nowMs, limits);
  return forMs;
}

/** What a `reauth` verdict may do: `flag` the account, or be `held` because the provider itself is suspect. */
export function recordVerdict(
  draft: Draft,
  snapshot: Snapshot,
  mark: VerdictMark,
  wasProbe: boolean,
  nowMs: number,
): "flag" | "held" {
  const breaker = breakerOf(snapshot);
  if (breaker.suspected !== undefined) return whileSuspected(draft, snapshot, breaker, wasProbe, nowMs);
  if ((breaker.confirmedUntilMs ?? 0) > nowMs) return "flag";
  const accounts = new Set(snapshot.verdicts.map((entry) => entry.value.accountId));
  if (accounts.has(mark.accountId) || accounts.size < VERDICTS_WITHOUT_DOUBT) {
    takeMark(draft, snapshot, mark);
    return "flag";
  }
  // Nobody is flagged beside this and left out of the list.
  for (const entry of snapshot.verdicts) draft.expect(entry.key, entry);
  draft.expect(freeMark(snapshot), undefined);
  const flagged = snapshot.verdicts.map((entry) => entry.value);
  const suspected = { sinceMs: nowMs, flagged, confirmations: 0 };
  setBreaker(draft, snapshot, { ...breaker, suspected }, nowMs);
  setCooldown(draft, snapshot, "outage_suspected", PROBE_EVERY_MS, nowMs, undefined);
  draft.event(clientEvent("provider:outage_suspected", snapshot.client, nowMs, "refusals"));
  return "held";
}

/** Every slot that is flagged without doubt is marked, so that all of them can be taken back. */
function takeMark(draft: Draft, snapshot: Snapshot, mark: VerdictMark): void {
  const { client, verdicts } = snapshot;
  const same = verdicts.find(({ value }) => value.accountId === mark.accountId && value.slot === mark.slot);
  const at = same?.key ?? freeMark(snapshot);
  draft.expect(at, same).put(at, mark, PROBE_EVERY_MS);
  draft.expect(key("breaker", client.provider, client.client), snapshot.breaker);
}

/** The lowest number that is free, so that two who take one at the same time collide. */
function freeMark({ client, verdicts }: Snapshot): KeyOf<"verdict"> {
  const taken = new Set(verdicts.map((entry) => entry.key.parts[2]));
  let free = 0;
  while (taken.has(String(free))) free += 1;
  return key("verdict", client.provider, client.client, String(free));
}

function whileSuspected(
  draft: Draft,
  snapshot: Snapshot,
  breaker: Breaker,
  wasProbe: boolean,
  nowMs: number,
): "flag" | "held" {
  if (!wasProbe || breaker.suspected === undefined) return "held";
  const confirmations = breaker.suspected.confirmations + 1;
  if (confirmations < CONFIRMED_AFTER_PROBES) {
    setBreaker(draft, snapshot, { ...breaker, suspected: { ...breaker.suspected, confirmations } }, nowMs);
    return "held";
  }
  const confirmedUntilMs = nowMs + CONFIRMED_FOR_MS;
  // The first three were refused while nobody could tell: each of them is judged once more, by its own request.
  const reverting = [...breaker.reverting, ...breaker.suspected.flagged];
  setBreaker(draft, snapshot, { ...breaker, suspected: undefined, confirmedUntilMs, reverting }, nowMs);
  draft.event(clientEvent("provider:outage_cleared", snapshot.client, nowMs, "refusals_confirmed"));
  return "flag";
}
