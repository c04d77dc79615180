import { type AttemptSummary, HISTORY_LENGTH, type SlotState } from "./account.ts";
import { rejectionPauseMs } from "./backoff.ts";
import { activeVersion, type Credential, type OAuthCredential, type StaticCredential } from "./credential.ts";
import { nextRefreshAtMs } from "./schedule.ts";
import { hintOf } from "./secret.ts";
import type { RefreshRules } from "./vendor.ts";

/** A rejection this much shorter than the promised lifetime is the vendor's doing, not a clock's. */
const EARLY_SHARE = 0.9;
const EARLY_AT_LEAST_MS = 60_000;

/** What making a slot's next state takes besides the credential. */
export interface SlotMaking {
  readonly nowMs: number;
  /** In [0, 1). */
  readonly random: number;
  readonly rules:
    | Pick<
        RefreshRules,
        "refreshesWithoutToken" | "earliestBeforeExpiryMs" | "leadMs" | "refreshesWithAccessToken"
      >
    | undefined;
  /** The refresh was asked for because the vendor rejected the token before. */
  readonly afterRejection: boolean;
  /** The longest `min_validity` among those who asked. */
  readonly minValidityMs: number;
}

const BLANK = {
  state: "active",
  reauthReason: undefined,
  failures: 0,
  backoffUntilMs: undefined,
  unknownSinceMs: undefined,
  unmapped: undefined,
  obtainedForMs: undefined,
  rejection: undefined,
  observedLifetimeMs: undefined,
  expiringNotifiedForMs: undefined,
  history: [],
} as const;

/** The state of a slot that now holds `credential` as generation `generation`. */
export function slotOf(
  before: SlotState | undefined,
  credential: Credential,
  generation: number,
  making: SlotMaking,
): SlotState {
  const history = before?.history ?? [];
  switch (credential.kind) {
    case "oauth":
      return { ...BLANK, ...oauthPart(before, credential, making), generation, history };
    case "unminted":
      return { ...BLANK, ...unmintedPart(making.nowMs), generation, history };
    default:
      return { ...BLANK, ...staticPart(credential, making.nowMs), generation, history };
  }
}

function oauthPart(before: SlotState | undefined, credential: OAuthCredential, making: SlotMaking) {
  const { expiresAtMs, issuedAtMs } = credential;
  const rejection = making.afterRejection ? struck(before, making.nowMs) : before?.rejection;
  const observedLifetimeMs = observedLifetime(before, rejection?.strikes ?? 0, making);
  const promisedMs = expiresAtMs === undefined ? undefined : expiresAtMs - issuedAtMs;
  const believedMs =
    observedLifetimeMs === undefined
      ? promisedMs
      : Math.min(promisedMs ?? observedLifetimeMs, observedLifetimeMs);
  const refreshable = credential.refreshToken !== undefined || making.rules?.refreshesWithoutToken === true;
  const believed = {
    expiresAtMs: believedMs === undefined ? undefined : issuedAtMs + believedMs,
    lifetimeMs: believedMs,
  };
  const tooShort = expiresAtMs !== undefined && expiresAtMs - making.nowMs < making.minValidityMs;
  return {
    refreshable,
    issuedAtMs,
    expiresAtMs,
    refreshTokenExpiresAtMs: credential.refreshTokenExpiresAtMs,
    credentialExpiresAtMs: undefined,
    nextRefreshAtMs: refreshable ? nextRefreshAtMs(believed, making.rules, making.random) : expiresAtMs,
    scopes: credential.scopes,
    tokenType: credential.tokenType,
    hint: hintOf(credential.accessToken),
    obtainedForMs: tooShort ? making.minValidityMs : undefined,
    rejection,
    observedLifetimeMs,
    expiringNotifiedForMs: before?.expiringNotifiedForMs,
  };
}

/** Reports keep counting while they come as soon as they are believed again; a long silence starts anew. */
function struck(before: SlotState | undefined, nowMs: number): NonNullable<SlotState["rejection"]> {
  const last = before?.rejection;
  const silent = last === undefined || nowMs - last.notBeforeMs > 2 * rejectionPauseMs(last.strikes);
  const strikes = silent ? 1 : last.strikes + 1;
  return { strikes, notBeforeMs: nowMs + rejectionPauseMs(strikes) };
}

/** Learnt from the first early rejection; a second in a row shows that the lifetime was not the problem. */
function observedLifetime(
  before: SlotState | undefined,
  strikes: number,
  making: SlotMaking,
): number | undefined {
  if (before === undefined || !making.afterRejection) return before?.observedLifetimeMs;
  if (strikes > 1 || before.expiresAtMs === undefined) return undefined;
  const ageMs = making.nowMs - before.issuedAtMs;
  const early = ageMs < (before.expiresAtMs - before.issuedAtMs) * EARLY_SHARE;
  return early && ageMs >= EARLY_AT_LEAST_MS ? ageMs : before.observedLifetimeMs;
}

/** Expired since ever: the first one who asks, or the scheduler, mints. */
function unmintedPart(nowMs: number) {
  return {
    refreshable: true,
    issuedAtMs: 0,
    expiresAtMs: 0,
    refreshTokenExpiresAtMs: undefined,
    credentialExpiresAtMs: undefined,
    nextRefreshAtMs: nowMs,
    scopes: [],
    tokenType: "",
    hint: "",
  };
}

function staticPart(credential: StaticCredential, nowMs: number) {
  const version = activeVersion(credential);
  const [shown] = Object.values(version.values).slice(-1);
  return {
    refreshable: false,
    issuedAtMs: nowMs,
    expiresAtMs: credential.expiresAtMs,
    refreshTokenExpiresAtMs: undefined,
    credentialExpiresAtMs: credential.expiresAtMs,
    nextRefreshAtMs: credential.expiresAtMs,
    scopes: [],
    tokenType: credential.kind,
    hint: shown === undefined ? "" : hintOf(shown),
  };
}

/** The newest attempts first, no more than are kept. */
export function withAttempt(slot: SlotState, attempt: AttemptSummary): SlotState {
  return { ...slot, history: [attempt, ...slot.history].slice(0, HISTORY_LENGTH) };
}
