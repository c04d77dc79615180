import type { Credential } from "../../src/tokens/credential.ts";
import { Secret } from "../../src/tokens/secret.ts";
import type {
  Interpretation,
  RawAnswer,
  RefreshRules,
  Revocation,
  SendResult,
  VendorContext,
  Vendors,
  Verification,
} from "../../src/tokens/vendor.ts";
import type { VirtualTime } from "../simulation/virtual-time.ts";

type Refused = Extract<Interpretation, { kind: "refused" }>;

/** What the provider does with one request. */
export type Reply =
  /** A new token set; the old refresh token is spent when it rotates. */
  | { readonly kind: "grant"; readonly afterMs?: number; readonly lifetimeMs?: number }
  | ({ readonly kind: "refuse"; readonly afterMs?: number } & Partial<Omit<Refused, "kind">>)
  /** Bytes left; the connection ended (`reset`) or nothing ever comes (until the ear closes). */
  | { readonly kind: "reset" | "silence" | "unreachable"; readonly afterMs?: number }
  /** Complete, but its file reads no token from it, or it is not parseable. */
  | { readonly kind: "unmapped" | "unknown"; readonly afterMs?: number };

/** One request for a token as it arrived. */
export interface Sent {
  readonly accountId: string;
  readonly refreshToken: string | undefined;
  readonly clientSecret: string | undefined;
  readonly atMs: number;
}

export const REAUTH: Reply = { kind: "refuse", class: "reauth", code: "invalid_grant" };

const GRANT: Reply = { kind: "grant" };

/** Third parties that do as they are told. Every grant is `at-N` with the refresh token `rt-N`. */
export class FakeVendors implements Vendors {
  readonly #time: VirtualTime;
  readonly #nowMs: () => number;
  readonly sent: Sent[] = [];
  readonly revoked: (string | undefined)[] = [];
  readonly verified: string[] = [];
  rulesNow: RefreshRules | undefined = {
    resendSafe: false,
    refreshesWithoutToken: false,
    earliestBeforeExpiryMs: undefined,
    maxConcurrent: undefined,
    budget: undefined,
    canVerify: false,
  };
  /** What comes next; then `always`. */
  readonly next: Reply[] = [];
  always: Reply | ((sent: Sent) => Reply) = GRANT;
  lifetimeMs = 3_600_000;
  /** Awaited before an answer is read: it may throw, or take its time like an introspection. */
  reading: () => Promise<void> = async () => undefined;
  verdict: Verification = { kind: "accepted", status: 200 };
  inFlight = 0;
  mostInFlight = 0;
  #granted = 0;

  constructor(time: VirtualTime, nowMs: () => number) {
    this.#time = time;
    this.#nowMs = nowMs;
  }

  rules(): RefreshRules | undefined {
    return this.rulesNow;
  }

  exchange(context: VendorContext, go: () => boolean, ear: AbortSignal): Promise<SendResult> {
    const sent = {
      accountId: context.account.id,
      refreshToken:
        context.credential.kind === "oauth" ? context.credential.refreshToken?.reveal() : undefined,
      clientSecret: context.client?.secret?.reveal(),
      atMs: this.#time.nowMs,
    };
    if (!go()) return Promise.resolve({ kind: "not_sent", cause: "withdrawn" });
    this.sent.push(sent);
    const reply = this.next.shift() ?? (typeof this.always === "function" ? this.always(sent) : this.always);
    this.inFlight += 1;
    this.mostInFlight = Math.max(this.mostInFlight, this.inFlight);
    const requestedAtMs = this.#nowMs();
    const n = reply.kind === "grant" ? this.#mint() : 0;
    return new Promise<SendResult>((resolve) => {
      ear.addEventListener("abort", () => resolve({ kind: "unknown", cause: "timeout" }), { once: true });
      if (reply.kind === "silence") return;
      this.#time.after(reply.afterMs ?? 50, () => resolve(this.#result(reply, n, requestedAtMs)));
    }).finally(() => {
      this.inFlight -= 1;
    });
  }

  #result(reply: Reply, n: number, requestedAtMs: number): SendResult {
    if (reply.kind === "reset") return { kind: "unknown", cause: "reset" };
    if (reply.kind === "unreachable") return { kind: "not_sent", cause: "connect_refused" };
    const body = Buffer.from(JSON.stringify({ ...reply, n }));
    const times = { requestedAtMs, receivedAtMs: this.#nowMs() };
    return {
      kind: "answer",
      answer: { status: reply.kind === "refuse" ? 400 : 200, headers: [], body, ...times },
    };
  }

  #mint(): number {
    this.#granted += 1;
    return this.#granted;
  }

  async interpret(context: VendorContext, answer: RawAnswer): Promise<Interpretation> {
    await this.reading();
    const reply: Reply & { readonly n: number } = JSON.parse(Buffer.from(answer.body).toString("utf8"));
    switch (reply.kind) {
      case "grant": {
        const expiresAtMs = answer.requestedAtMs + (reply.lifetimeMs ?? this.lifetimeMs);
        const isFirst = context.credential.kind !== "oauth";
        const rotates = isFirst || context.credential.refreshToken !== undefined;
        const refresh = rotates ? `rt-${reply.n}` : undefined;
        const credential = oauth(`at-${reply.n}`, refresh, answer.requestedAtMs, expiresAtMs);
        return { kind: "granted", credential, fields: {} };
      }
      case "refuse":
        return { ...BY_DEFAULT, ...reply, kind: "refused" };
      case "unmapped":
        return { kind: "unmapped", cause: "no_access_token" };
      default:
        return { kind: "unknown", cause: "unparseable_answer" };
    }
  }

  async verify(context: VendorContext): Promise<Verification> {
    this.verified.push(context.account.id);
    return this.verdict;
  }

  /** Access tokens that were revoked alone. */
  readonly revokedAlone: string[] = [];

  async revokeAccessToken({ credential }: VendorContext): Promise<Revocation> {
    if (credential.kind !== "oauth") return "unsupported";
    this.revokedAlone.push(credential.accessToken.reveal());
    return "revoked";
  }

  async revoke(context: VendorContext): Promise<Revocation> {
    const token = context.credential.kind === "oauth" ? context.credential.refreshToken?.reveal() : undefined;
    this.revoked.push(token);
    return "revoked";
  }

  authorize(): never {
    throw new Error("answers are rendered without it here");
  }
}

const BY_DEFAULT: Refused = {
  kind: "refused",
  class: "reauth",
  code: undefined,
  message: "",
  rule: "file",
  retryAfterMs: undefined,
  rateLimit: undefined,
  clientFault: false,
};

export function oauth(
  access: string,
  refresh: string | undefined,
  issuedAtMs: number,
  expiresAtMs: number | undefined,
): Credential {
  return {
    kind: "oauth",
    accessToken: new Secret(access),
    tokenType: "Bearer",
    issuedAtMs,
    expiresAtMs,
    refreshToken: refresh === undefined ? undefined : new Secret(refresh),
    refreshTokenExpiresAtMs: undefined,
    scopes: [],
    members: new Secret({}),
  };
}
