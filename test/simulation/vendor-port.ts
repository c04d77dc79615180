import { KeyturnError } from "../../src/errors.ts";
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
} from "../../src/tokens/vendor.ts";
import type { Caps } from "./caps.ts";
import type { Process } from "./machine.ts";
import type { ProviderShape, VendorMode } from "./plan.ts";
import type { Redeemed, VendorModel } from "./vendor-model.ts";
import type { Weather } from "./weather.ts";
import type { Send, Witness } from "./witness.ts";

interface Deps {
  readonly process: Process;
  readonly instance: string;
  readonly model: VendorModel;
  readonly weather: Weather;
  readonly witness: Witness;
  readonly caps: Caps;
  readonly provider: (name: string) => ProviderShape | undefined;
}

/** How a request fares: when the provider acts, what comes back when. */
interface Course {
  /** Undefined: the provider never acts. */
  readonly actsAfterMs: number | undefined;
  /** From sending; Infinity: no answer ever comes. */
  readonly answersAfterMs: number;
  readonly isDoubled?: boolean;
  readonly answer: "grant" | "nothing" | "garbage" | { readonly status: number; readonly error: string };
}

/** One process's way to the providers, who lie, stall and lose things. */
export class VendorPort implements Vendors {
  readonly #deps: Deps;

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  rules(name: string): RefreshRules | undefined {
    const provider = this.#deps.provider(name);
    if (provider === undefined) return undefined;
    return {
      resendSafe: provider.style !== "strict",
      refreshesWithoutToken: false,
      earliestBeforeExpiryMs: provider.earliestBeforeExpiryMs,
      maxConcurrent: undefined,
      budget: undefined,
      canVerify: false,
    };
  }

  async exchange(context: VendorContext, go: () => boolean, ear: AbortSignal): Promise<SendResult> {
    const { process, weather, witness, caps, instance } = this.#deps;
    const { host } = process;
    const provider = this.#providerOf(context);
    const mode = weather.vendor(provider.name, host.random);
    if (mode !== undefined) host.chronicle.seen(`vendor ${mode}`);
    host.pass("vendor.dialled");
    await process.hear(host.random.between(2, 150), () => undefined);
    if (mode === "unreachable") return { kind: "not_sent", cause: "connection_refused" };
    if (!go()) return { kind: "not_sent", cause: "withdrawn" };
    const token = refreshTokenOf(context.credential);
    const of = { accountId: context.account.id, slot: context.slot };
    const send = witness.sending(process, provider, of, token, instance);
    host.chronicle.say(host.name, `sends ${token}${mode === undefined ? "" : ` into ${mode}`}`);
    const course = this.#course(mode);
    const end = caps.sent(provider, process);
    host.pass("vendor.sent");
    return this.#travel(send, provider, course, ear).finally(end);
  }

  #travel(send: Send, provider: ProviderShape, course: Course, ear: AbortSignal): Promise<SendResult> {
    const { process, model, witness } = this.#deps;
    const { host } = process;
    const requestedAtMs = host.nowMs;
    let redeemed: Redeemed | undefined;
    if (course.actsAfterMs !== undefined) {
      host.time.after(course.actsAfterMs, () => {
        redeemed = model.redeem(send.token);
        // Something between us and them delivers the request again.
        if (course.isDoubled) model.redeem(send.token);
        host.chronicle.say(
          provider.name,
          `${send.token}: ${redeemed === undefined ? "invalid_grant" : "granted"}`,
        );
        host.pass("vendor.redeemed");
      });
    }
    return new Promise((resolve) => {
      ear.addEventListener("abort", () => resolve({ kind: "unknown", cause: "timeout" }), { once: true });
      if (course.answersAfterMs === Number.POSITIVE_INFINITY) return;
      host.time.after(course.answersAfterMs, () => {
        if (typeof course.answer === "object" && course.answer.status === 400 && model.honours(send.token))
          witness.lie(send.token);
        process.deliver(() => {
          host.pass("vendor.answered");
          if (course.answer === "nothing") return resolve({ kind: "unknown", cause: "reset" });
          if (!ear.aborted && course.answer === "grant" && redeemed !== undefined) send.hasGrant = true;
          const body = bodyOf(course.answer, redeemed);
          const answer = { ...body, headers: [], requestedAtMs, receivedAtMs: host.nowMs };
          resolve({ kind: "answer", answer });
        });
      });
    });
  }

  #course(mode: VendorMode | undefined): Course {
    const { random } = this.#deps.process.host;
    const soon = random.between(10, 200);
    const back = soon + random.between(10, 200);
    const plain = { actsAfterMs: soon, answersAfterMs: back, answer: "grant" } as const;
    const refuses = (status: number, error: string) =>
      ({ actsAfterMs: undefined, answersAfterMs: back, answer: { status, error } }) as const;
    switch (mode) {
      case "reset_before":
        return { actsAfterMs: undefined, answersAfterMs: back, answer: "nothing" };
      case "reset_after":
        return { ...plain, answer: "nothing" };
      case "slow":
        return { ...plain, answersAfterMs: random.between(2_000, 29_000) };
      case "late":
        return { ...plain, answersAfterMs: random.between(29_500, 59_500) };
      case "deaf":
        return { ...plain, answersAfterMs: Number.POSITIVE_INFINITY };
      case "tardy":
        return {
          actsAfterMs: random.between(1_000, 75_000),
          answersAfterMs: Number.POSITIVE_INFINITY,
          answer: "grant",
        };
      case "twice":
        return { ...plain, isDoubled: true };
      case "malformed":
        return { ...plain, answer: "garbage" };
      case "error_500":
        return { ...refuses(500, ""), actsAfterMs: random.chance(0.5) ? soon : undefined };
      case "error_503":
        return refuses(503, "");
      case "error_429":
        return refuses(429, `retry after ${random.between(1, 90)}`);
      case "error_429_bare":
        return refuses(429, "");
      case "invalid_client":
        return refuses(401, "invalid_client");
      case "invalid_scope":
        return refuses(422, "invalid_scope");
      case "outage":
        return refuses(400, "invalid_grant");
      default:
        return plain;
    }
  }

  async interpret(context: VendorContext, answer: RawAnswer): Promise<Interpretation> {
    const { process, weather } = this.#deps;
    const { host } = process;
    const provider = this.#providerOf(context);
    // Now and then it takes an introspection.
    const ms = host.random.chance(0.05) ? host.random.between(50, 2_000) : host.random.between(0, 2);
    await process.hear(ms, () => undefined);
    host.pass("vendor.interpreted");
    const read = readBody(answer);
    if (read.kind !== "granted") return read;
    if (weather.isFileBroken(provider.name))
      return { kind: "unmapped", cause: "no token where the file says" };
    const refresh = read.redeemed.refresh ?? plainRefreshToken(context.credential);
    const expiresAtMs = answer.requestedAtMs + read.redeemed.lifetimeMs;
    return {
      kind: "granted",
      credential: oauthCredential(read.redeemed.access, refresh, answer.requestedAtMs, expiresAtMs),
      fields: {},
    };
  }

  async verify() {
    return { kind: "unclear", cause: "unsupported" } as const;
  }

  async revoke(context: VendorContext): Promise<Revocation> {
    const { process, model, witness, weather } = this.#deps;
    const { host } = process;
    witness.revoking(context.account.id, context.account.incarnation);
    const inTrouble = weather.vendor(context.account.provider, host.random) !== undefined;
    return process.hear(host.random.between(20, 200), () => {
      const token = plainRefreshToken(context.credential);
      if (inTrouble || token === undefined) return "still_live";
      model.revoke(token);
      return "revoked";
    });
  }

  revokeAccessToken(): never {
    throw new Error("the simulation revokes no token alone");
  }

  authorize(): never {
    throw new Error("the simulation renders answers itself");
  }

  #providerOf(context: VendorContext): ProviderShape {
    const provider = this.#deps.provider(context.account.provider);
    if (provider === undefined) throw new KeyturnError("PROVIDER_NOT_FOUND", "no such provider");
    return provider;
  }
}

export function oauthCredential(
  access: string,
  refresh: string | undefined,
  issuedAtMs: number,
  expiresAtMs: number,
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

function plainRefreshToken(credential: Credential): string | undefined {
  return credential.kind === "oauth" ? credential.refreshToken?.reveal() : undefined;
}

function refreshTokenOf(credential: Credential): string {
  const token = plainRefreshToken(credential);
  if (token === undefined) throw new Error("a credential without a refresh token was sent");
  return token;
}

function bodyOf(answer: Exclude<Course["answer"], "nothing">, redeemed: Redeemed | undefined) {
  if (answer === "garbage") return { status: 200, body: Buffer.from("<html>") };
  if (answer !== "grant") return { status: answer.status, body: Buffer.from(answer.error) };
  return redeemed === undefined
    ? { status: 400, body: Buffer.from("invalid_grant") }
    : { status: 200, body: Buffer.from(JSON.stringify(redeemed)) };
}

/** What the provider's file would read out of an answer. */
export function readBody(
  answer: RawAnswer,
):
  | { readonly kind: "granted"; readonly redeemed: Redeemed }
  | Extract<Interpretation, { kind: "refused" | "unknown" }> {
  const text = Buffer.from(answer.body).toString();
  const refused = { kind: "refused", code: text, message: text, rule: "file", rateLimit: undefined } as const;
  const plain = { ...refused, retryAfterMs: undefined, clientFault: false };
  switch (answer.status) {
    case 200:
      if (text.startsWith("<")) return { kind: "unknown", cause: "not_json" };
      return { kind: "granted", redeemed: JSON.parse(text) };
    case 400:
      return { ...plain, class: "reauth" };
    case 401:
      return { ...plain, class: "fix_configuration", clientFault: true };
    case 422:
      return { ...plain, class: "fix_configuration" };
    case 429: {
      const seconds = Number(text.split(" ").at(-1));
      return { ...plain, class: "rate_limited", retryAfterMs: seconds > 0 ? seconds * 1_000 : undefined };
    }
    case 503:
      return { ...plain, class: "transient" };
    default:
      return { kind: "unknown", cause: `status ${answer.status}` };
  }
}
