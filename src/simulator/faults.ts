/** The endpoints that can misbehave. */
export type FaultEndpoint = "token" | "introspect" | "revoke" | "api";

/** How a throttled answer says when to come back. `none` says nothing at all. */
export type RateLimitDialect =
  | "retry_after_seconds"
  | "retry_after_date"
  | "x_ratelimit_epoch"
  | "x_ratelimit_delta"
  | "ratelimit_trio"
  | "ratelimit_ietf"
  | "ratelimit_dictionary"
  | "body"
  | "none";

/** What an answer claims about the lifetime of its token, whose real lifetime stays as it was. */
export type ExpiresInLie =
  | "absent"
  | "string"
  | "ms"
  | "absolute"
  | "zero"
  | "negative"
  | "too_long"
  | "nonsense";

type Opt<T> = T | undefined;

/** Happens before the vendor's logic sees the request. */
export type ArrivalFault =
  /** Waits, then goes on as usual even when nobody listens any more; without `ms`, for ever. */
  { readonly kind: "hang"; readonly ms?: Opt<number> } | { readonly kind: "reset_before" };

/** Answers in place of the vendor's logic, which runs unseen when `redeems` is true. */
export type AnswerFault =
  | {
      readonly kind: "status";
      readonly status: number;
      readonly body?: Opt<string>;
      readonly contentType?: Opt<string>;
      readonly redeems?: Opt<boolean>;
    }
  | {
      readonly kind: "rate_limit";
      readonly dialect: RateLimitDialect;
      /** Default 429. */
      readonly status?: Opt<number>;
      /** Default 30,000. */
      readonly retryAfterMs?: Opt<number>;
      /** Default 100 requests. */
      readonly limit?: Opt<number>;
      /** Default 60,000. */
      readonly windowMs?: Opt<number>;
    }
  | { readonly kind: "ok_false_200"; readonly error?: Opt<string>; readonly redeems?: Opt<boolean> }
  | { readonly kind: "invalid_grant"; readonly status?: Opt<number>; readonly description?: Opt<string> }
  | { readonly kind: "invalid_client"; readonly description?: Opt<string> }
  | { readonly kind: "html"; readonly redeems?: Opt<boolean> }
  | { readonly kind: "html_502"; readonly redeems?: Opt<boolean> }
  | { readonly kind: "huge_body"; readonly bytes: number; readonly redeems?: Opt<boolean> }
  | { readonly kind: "wrong_shape"; readonly redeems?: Opt<boolean> };

/** Bends a token answer that would otherwise be right; spent only on such an answer. */
export type ShapeFault =
  | { readonly kind: "expires_in"; readonly as: ExpiresInLie }
  /** The refresh token is neither replaced nor returned. */
  | { readonly kind: "omit_refresh_token" }
  /** The new access token gets this scope instead. */
  | { readonly kind: "scope"; readonly scope: string };

/** Spoils the delivery of an answer after the vendor's logic ran. */
export type DeliveryFault =
  | { readonly kind: "reset_after" }
  /** Sends `bytes` of the body (default: half) under its full content length, then closes. */
  | { readonly kind: "truncate"; readonly bytes?: Opt<number> }
  /** Dribbles the body over `ms`. */
  | { readonly kind: "slow"; readonly ms: number }
  | { readonly kind: "late"; readonly ms: number };

/** The `Date` header is off by `ms`, ahead when positive. */
export type SkewFault = { readonly kind: "clock_skew"; readonly ms: number };

/** What goes wrong. */
export type FaultAction = ArrivalFault | AnswerFault | ShapeFault | DeliveryFault | SkewFault;
/** The closed list of what can go wrong. */
export type FaultKind = FaultAction["kind"];

/** Which requests a fault hits; undefined members do not narrow. */
export interface FaultTarget {
  readonly endpoint?: Opt<FaultEndpoint>;
  readonly clientId?: Opt<string>;
  readonly subject?: Opt<string>;
  readonly grantType?: Opt<string>;
  /** Gone after so many hits; undefined: stays until cleared. */
  readonly times?: Opt<number>;
  /** Chance of a hit, 0 to 1; undefined: always. */
  readonly probability?: Opt<number>;
}

/** What goes wrong, and for whom. */
export type Fault = FaultTarget & FaultAction;

/** What is known of a request when a fault is looked for. */
export interface Who {
  readonly endpoint: FaultEndpoint;
  readonly clientId: string | undefined;
  readonly subject: string | undefined;
  readonly grantType: string | undefined;
}

/** The switchable faults of a running simulator. */
export interface FaultControl {
  /** Adds to those that are on; of several that fit a request, the oldest of its stage wins. */
  add(...faults: readonly Fault[]): void;
  clear(): void;
  /** Those still on, `times` counted down. */
  list(): readonly Fault[];
}

interface Armed {
  readonly fault: Fault;
  left: number;
}

/** The faults that are on, and the one place where they are used up. */
export class FaultSet implements FaultControl {
  readonly #random: () => number;
  #armed: Armed[] = [];

  /** `random` decides about `probability`. */
  constructor(random: () => number) {
    this.#random = random;
  }

  add(...faults: readonly Fault[]): void {
    this.#armed.push(...faults.map((fault) => ({ fault, left: fault.times ?? Number.POSITIVE_INFINITY })));
  }

  clear(): void {
    this.#armed = [];
  }

  list(): readonly Fault[] {
    return this.#armed.map(({ fault, left }) =>
      fault.times === undefined ? fault : { ...fault, times: left },
    );
  }

  /** The first fault of `stage` that hits this request, used up by one. */
  take<F extends FaultAction>(stage: (fault: FaultAction) => fault is F, who: Who): F | undefined {
    for (const armed of this.#armed) {
      const { fault } = armed;
      if (!hits(fault, who) || !stage(fault) || !this.#strikes(armed.fault)) continue;
      armed.left -= 1;
      if (armed.left <= 0) this.#armed = this.#armed.filter((other) => other !== armed);
      return fault;
    }
    return undefined;
  }

  #strikes({ probability }: FaultTarget): boolean {
    return probability === undefined || this.#random() < probability;
  }
}

function hits(fault: Fault, who: Who): boolean {
  return (
    (fault.endpoint === undefined || fault.endpoint === who.endpoint) &&
    (fault.clientId === undefined || fault.clientId === who.clientId) &&
    (fault.subject === undefined || fault.subject === who.subject) &&
    (fault.grantType === undefined || fault.grantType === who.grantType) &&
    (who.endpoint === "token" || !TOKEN_ONLY.has(fault.kind))
  );
}

/** Kinds that mean something at the token endpoint only. */
export const TOKEN_ONLY: ReadonlySet<FaultKind> = new Set<FaultKind>([
  "expires_in",
  "omit_refresh_token",
  "scope",
  "invalid_grant",
]);

// Exhaustive on purpose: a new kind does not compile until it has a stage.
const STAGE: Record<FaultKind, "arrival" | "answer" | "shape" | "delivery" | "skew"> = {
  hang: "arrival",
  reset_before: "arrival",
  status: "answer",
  rate_limit: "answer",
  ok_false_200: "answer",
  invalid_grant: "answer",
  invalid_client: "answer",
  html: "answer",
  html_502: "answer",
  huge_body: "answer",
  wrong_shape: "answer",
  expires_in: "shape",
  omit_refresh_token: "shape",
  scope: "shape",
  reset_after: "delivery",
  truncate: "delivery",
  slow: "delivery",
  late: "delivery",
  clock_skew: "skew",
};

/** Stage 1: before the vendor's logic. */
export const isArrival = (fault: FaultAction): fault is ArrivalFault => STAGE[fault.kind] === "arrival";
/** Stage 2: in place of its answer. */
export const isAnswer = (fault: FaultAction): fault is AnswerFault => STAGE[fault.kind] === "answer";
/** Stage 4, after the shape faults: on the way back. */
export const isDelivery = (fault: FaultAction): fault is DeliveryFault => STAGE[fault.kind] === "delivery";
/** Beside the stages: the date of whatever is sent. */
export const isSkew = (fault: FaultAction): fault is SkewFault => STAGE[fault.kind] === "skew";

/** Matches one kind of shape fault, so that different ones can bend the same answer. */
export function isKind<K extends ShapeFault["kind"]>(
  kind: K,
): (fault: FaultAction) => fault is Extract<ShapeFault, { kind: K }> {
  return (fault): fault is Extract<ShapeFault, { kind: K }> => fault.kind === kind;
}
