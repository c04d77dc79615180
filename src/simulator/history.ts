import { hash } from "node:crypto";
import type { OAuthErrorCode } from "./answer.ts";
import type { FaultKind } from "./faults.ts";

/** What the vendor's logic did with a token request. `unprocessed`: a fault kept the request from it. */
export type Outcome = "issued" | "rotated" | "kept" | "replayed" | "unprocessed" | OAuthErrorCode;

/** How much of the answer left. `answered` means handed to the operating system whole. */
export type Delivery = "pending" | "answered" | "truncated" | "dropped";

/** One token request. */
export interface HistoryEntry {
  /** From 1, without gaps. */
  readonly sequence: number;
  readonly arrivedAtMs: number;
  /** Undefined while it runs. */
  readonly endedAtMs: number | undefined;
  readonly grantType: string | undefined;
  /** As claimed, proven or not. */
  readonly clientId: string | undefined;
  readonly subject: string | undefined;
  /** First 16 hex digits of the SHA-256 of the refresh token that was sent. */
  readonly fingerprint: string | undefined;
  /** Another request with the same refresh token ran at the same time. */
  readonly concurrent: boolean;
  /** The refresh token had been replaced before, and no grace covered it. */
  readonly reuse: boolean;
  /** The same refresh token had arrived before. */
  readonly seenBefore: boolean;
  /** A grant was used: a new access token exists, whether or not its answer arrived. */
  readonly redeemed: boolean;
  readonly outcome: Outcome;
  readonly delivery: Delivery;
  /** Undefined when no status line left. */
  readonly status: number | undefined;
  /** The faults that hit it, in order. */
  readonly faults: readonly FaultKind[];
}

type Draft = { -readonly [K in keyof HistoryEntry]: HistoryEntry[K] } & { faults: FaultKind[] };

/** Exact since the start, whatever `historyLimit` is. */
export interface TokenCounters {
  readonly tokenRequests: number;
  /** A missing grant type counts as `none`, one that is not supported as `other`. */
  readonly byGrantType: Readonly<Record<string, number>>;
  /** Statuses as sent; requests that got none are in `unanswered` once they have ended. */
  readonly byStatus: Readonly<Record<string, number>>;
  readonly unanswered: number;
  readonly redeemed: number;
  /** Redeemed, but the answer did not leave whole. */
  readonly redeemedButDropped: number;
  readonly reuseSeen: number;
  /** The most requests that ever ran at once with one refresh token. */
  readonly maxConcurrentUses: number;
}

/** A token request on arrival; its refresh token is kept as a fingerprint only. */
export interface TokenRequest {
  readonly arrivedAtMs: number;
  readonly grantType: string | undefined;
  readonly clientId: string | undefined;
  readonly subject: string | undefined;
  readonly refreshToken: string | undefined;
  readonly reuse: boolean;
  readonly seenBefore: boolean;
}

/** The open record of one token request; the exchange reports into it. */
export interface TokenRecord {
  fault(kind: FaultKind): void;
  decide(outcome: Outcome, redeemed: boolean): void;
  /** The status line is about to leave. */
  status(status: number): void;
  /** How delivery went; the first `dropped` or `truncated` stands. */
  deliver(delivery: "answered" | "truncated" | "dropped"): void;
  end(nowMs: number): void;
}

const GRANT_TYPES: ReadonlySet<string> = new Set([
  "authorization_code",
  "refresh_token",
  "client_credentials",
]);

/** The latest token requests, and counters over all of them. */
export class History {
  readonly #limit: number;
  readonly #entries: Draft[] = [];
  readonly #running = new Map<string, Set<Draft>>();
  readonly #byGrantType = new Map<string, number>();
  readonly #byStatus = new Map<string, number>();
  #total = 0;
  #unanswered = 0;
  #redeemed = 0;
  #redeemedButDropped = 0;
  #reuseSeen = 0;
  #maxConcurrentUses = 0;

  /** Keeps the last `limit` entries. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  open(request: TokenRequest): TokenRecord {
    const { refreshToken, grantType, clientId } = request;
    this.#total += 1;
    const fingerprint = refreshToken === undefined ? undefined : fingerprintOf(refreshToken);
    const draft: Draft = {
      sequence: this.#total,
      arrivedAtMs: request.arrivedAtMs,
      grantType: grantType?.slice(0, 64),
      clientId: clientId?.slice(0, 128),
      subject: request.subject,
      reuse: request.reuse,
      seenBefore: request.seenBefore,
      endedAtMs: undefined,
      fingerprint,
      concurrent: false,
      redeemed: false,
      outcome: "unprocessed",
      delivery: "pending",
      status: undefined,
      faults: [],
    };
    if (this.#limit > 0) this.#entries[(this.#total - 1) % this.#limit] = draft;
    bump(
      this.#byGrantType,
      grantType === undefined ? "none" : GRANT_TYPES.has(grantType) ? grantType : "other",
    );
    if (request.reuse) this.#reuseSeen += 1;
    this.#start(draft);
    return this.#record(draft);
  }

  /** The kept entries, oldest first, as they are now. */
  entries(): readonly HistoryEntry[] {
    const start = this.#entries.length < this.#limit ? 0 : this.#total % Math.max(1, this.#limit);
    const ordered = [...this.#entries.slice(start), ...this.#entries.slice(0, start)];
    return ordered.map((draft) => ({ ...draft, faults: [...draft.faults] }));
  }

  counters(): TokenCounters {
    return {
      tokenRequests: this.#total,
      byGrantType: Object.fromEntries(this.#byGrantType),
      byStatus: Object.fromEntries(this.#byStatus),
      unanswered: this.#unanswered,
      redeemed: this.#redeemed,
      redeemedButDropped: this.#redeemedButDropped,
      reuseSeen: this.#reuseSeen,
      maxConcurrentUses: this.#maxConcurrentUses,
    };
  }

  #start(draft: Draft): void {
    if (draft.fingerprint === undefined) return;
    const running = this.#running.get(draft.fingerprint) ?? new Set();
    this.#running.set(draft.fingerprint, running.add(draft));
    this.#maxConcurrentUses = Math.max(this.#maxConcurrentUses, running.size);
    if (running.size > 1) for (const each of running) each.concurrent = true;
  }

  #record(draft: Draft): TokenRecord {
    return {
      fault: (kind) => {
        draft.faults.push(kind);
      },
      decide: (outcome, redeemed) => {
        draft.outcome = outcome;
        draft.redeemed = redeemed;
        if (redeemed) this.#redeemed += 1;
      },
      status: (status) => {
        draft.status = status;
        bump(this.#byStatus, String(status));
      },
      deliver: (delivery) => {
        if (draft.delivery === "truncated" || draft.delivery === "dropped") return;
        draft.delivery = delivery;
        if (delivery !== "answered" && draft.redeemed) this.#redeemedButDropped += 1;
      },
      end: (nowMs) => {
        draft.endedAtMs = nowMs;
        if (draft.status === undefined) this.#unanswered += 1;
        const running = draft.fingerprint === undefined ? undefined : this.#running.get(draft.fingerprint);
        running?.delete(draft);
        if (draft.fingerprint !== undefined && running?.size === 0) this.#running.delete(draft.fingerprint);
      },
    };
  }
}

/** What stands for a refresh token in the history: the first 16 hex digits of its SHA-256. */
export function fingerprintOf(refreshToken: string): string {
  return hash("sha256", refreshToken).slice(0, 16);
}

function bump(counts: Map<string, number>, key: string): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}
