import type {
  ConsentReply,
  ConsentRequest,
  Consents,
  ConsentUrl,
  Grant,
  Introduction,
} from "../../src/tokens/consent.ts";
import type { Credential } from "../../src/tokens/credential.ts";
import { Secret } from "../../src/tokens/secret.ts";
import type { CodeGrant, RawAnswer, Refusal, SendResult, VendorContext } from "../../src/tokens/vendor.ts";
import type { VirtualTime } from "../simulation/virtual-time.ts";
import { oauth } from "./vendors.ts";

/** What the token endpoint does with one code. */
export type CodeReply =
  | {
      readonly kind: "grant";
      readonly subject?: string;
      readonly fields?: Record<string, string>;
      readonly scope?: string;
      readonly slots?: readonly string[];
    }
  | ({ readonly kind: "refuse" } & Partial<Omit<Refusal, "kind">>)
  | { readonly kind: "unmapped" | "reset" | "unreachable" | "silence" | "broken" };

const REFUSED: Omit<Refusal, "kind"> = {
  class: "reauth",
  code: "invalid_grant",
  message: "",
  rule: "file",
  retryAfterMs: undefined,
  rateLimit: undefined,
  clientFault: false,
};

function replyIn({ body }: RawAnswer): CodeReply & { readonly of: string } {
  return JSON.parse(Buffer.from(body).toString("utf8"));
}

/** Consents that come out as they are told. The code `c` becomes the tokens `at-c` and `rt-c`. */
export class FakeConsents implements Consents {
  readonly #time: VirtualTime;
  readonly #nowMs: () => number;
  readonly redeemed: { readonly code: string; readonly verifier: string | undefined }[] = [];
  readonly next: CodeReply[] = [];
  always: CodeReply = { kind: "grant" };
  /** A good answer to a code asks for one more request; these are what such requests come to, then `always`. */
  hasLogin = false;
  readonly logins: CodeReply[] = [];
  /** How many answers had come before each request. */
  readonly before: number[] = [];
  introduction: Introduction = { kind: "introduced", fields: {}, subject: undefined };
  introductions = 0;
  afterMs = 50;
  inFlight = 0;
  mostInFlight = 0;

  constructor(time: VirtualTime, nowMs: () => number) {
    this.#time = time;
    this.#nowMs = nowMs;
  }

  url({ state, scopes, redirectUri }: ConsentRequest): ConsentUrl {
    const query = new URLSearchParams({ state: state.reveal(), redirect_uri: redirectUri });
    const asked = scopes.length > 0 ? scopes : ["read"];
    return { url: `https://vendor.example/authorize?${query}`, usesPkce: true, scopes: asked };
  }

  reply(_provider: string, query: URLSearchParams): ConsentReply {
    const error = query.get("error");
    if (query.get("iss") === "evil") return { kind: "invalid", cause: "iss", message: "another server" };
    if (error !== null) return { kind: "refused", class: "denied", code: error, message: "no" };
    const installation = query.get("installation");
    if (installation !== null) return { kind: "consented", fields: { installation } };
    return { kind: "code", code: new Secret(query.get("code") ?? ""), fields: {} };
  }

  subject: () => string | undefined = () => undefined;

  steps(): number {
    return this.hasLogin ? 2 : 1;
  }

  async redeem(
    _context: VendorContext,
    { code, codeVerifier }: CodeGrant,
    go: () => boolean,
    ear: AbortSignal,
    before: readonly RawAnswer[],
  ): Promise<SendResult> {
    if (!go()) return { kind: "not_sent", cause: "withdrawn" };
    const isLogin = before.length > 0;
    const reply = (isLogin ? this.logins : this.next).shift() ?? this.always;
    this.before.push(before.length);
    if (!isLogin) this.redeemed.push({ code: code.reveal(), verifier: codeVerifier?.reveal() });
    const requestedAtMs = this.#nowMs();
    this.inFlight += 1;
    this.mostInFlight = Math.max(this.mostInFlight, this.inFlight);
    const isHeard = await new Promise<boolean>((resolve) => {
      ear.addEventListener("abort", () => resolve(false), { once: true });
      if (reply.kind !== "silence") this.#time.after(this.afterMs, () => resolve(true));
    });
    this.inFlight -= 1;
    if (!isHeard) return { kind: "unknown", cause: "timeout" };
    if (reply.kind === "unreachable") return { kind: "not_sent", cause: "connect_refused" };
    if (reply.kind === "reset") return { kind: "unknown", cause: "reset" };
    const body = Buffer.from(JSON.stringify({ ...reply, of: isLogin ? "login" : code.reveal() }));
    const times = { requestedAtMs, receivedAtMs: this.#nowMs() };
    return { kind: "answer", answer: { status: 200, headers: [], body, ...times } };
  }

  async grant(
    _context: VendorContext,
    _code: CodeGrant,
    scopes: readonly string[],
    answers: readonly RawAnswer[],
  ): Promise<Grant> {
    const replies = answers.map(replyIn);
    for (const reply of replies) {
      if (reply.kind === "unmapped") return { kind: "unmapped", cause: "no_access_token" };
      if (reply.kind === "refuse") return { ...REFUSED, ...reply, kind: "refused" };
      if (reply.kind !== "grant") return { kind: "unknown", cause: "status_500" };
    }
    if (replies.length < this.steps()) return { kind: "more" };
    const [first] = replies;
    const last = replies.at(-1);
    if (first?.kind !== "grant" || last === undefined) return { kind: "unmapped", cause: "no_answer" };
    const issuedAtMs = answers[0]?.requestedAtMs ?? 0;
    const name = first === last ? first.of : `${first.of}-${last.of}`;
    const made = oauth(`at-${name}`, `rt-${first.of}`, issuedAtMs, issuedAtMs + 3_600_000);
    const credential: Credential =
      made.kind === "oauth" ? { ...made, scopes: first.scope?.split(" ") ?? scopes } : made;
    const credentials = new Map((first.slots ?? ["default"]).map((slot) => [slot, credential]));
    return { kind: "granted", credentials, fields: first.fields ?? {}, subject: first.subject };
  }

  async introduce(): Promise<Introduction> {
    this.introductions += 1;
    return this.introduction;
  }

  credential(
    _provider: string,
    secrets: Readonly<Record<string, string>>,
    nowMs: number,
    expiresAtMs: number | undefined,
  ): Credential {
    const values = Object.fromEntries(
      Object.entries(secrets).map(([name, text]) => [name, new Secret(text)]),
    );
    return {
      kind: "api_key",
      versions: [{ version: "1", state: "active", createdAtMs: nowMs, values }],
      expiresAtMs,
    };
  }
}
