import type { ProviderShape } from "./plan.ts";
import type { VirtualTime } from "./virtual-time.ts";

export const GRACE_MS = 60_000;

/** One authorization that a customer gave: a family of refresh tokens. */
export interface Grant {
  readonly name: string;
  /** Account id and slot. */
  readonly owner: string;
  readonly provider: ProviderShape;
  /** Spent when, by refresh token; undefined: not yet. */
  readonly refreshTokens: Map<string, number | undefined>;
  ended: "reuse" | "revoked" | undefined;
  issued: number;
}

export interface Redeemed {
  readonly access: string;
  readonly refresh: string | undefined;
  readonly lifetimeMs: number;
}

/** The truth at the provider's: which tokens live. Knows nothing of faults. */
export class VendorModel {
  readonly #time: VirtualTime;
  readonly #grants: Grant[] = [];
  readonly #byRefresh = new Map<string, Grant>();
  readonly #byAccess = new Map<string, { readonly grant: Grant; readonly untilMs: number }>();

  constructor(time: VirtualTime) {
    this.#time = time;
  }

  /** The customer authorizes: a new family, nothing to do with earlier ones. */
  authorize(
    provider: ProviderShape,
    accountId: string,
    slot: string,
  ): Redeemed & { readonly refresh: string } {
    const name = `${accountId}.${slot}.${this.#grants.length}`;
    const grant: Grant = {
      name,
      owner: `${accountId}/${slot}`,
      provider,
      refreshTokens: new Map(),
      ended: undefined,
      issued: 0,
    };
    this.#grants.push(grant);
    const refresh = this.#mint(grant);
    return { ...this.#access(grant), refresh };
  }

  /** Undefined: `invalid_grant`. */
  redeem(refreshToken: string): Redeemed | undefined {
    const grant = this.#byRefresh.get(refreshToken);
    if (grant === undefined || grant.ended !== undefined) return undefined;
    const { style, omits } = grant.provider;
    if (style === "none") return { ...this.#access(grant), refresh: omits ? undefined : refreshToken };
    const spentAtMs = grant.refreshTokens.get(refreshToken);
    if (spentAtMs === undefined) grant.refreshTokens.set(refreshToken, this.#time.nowMs);
    else if (style === "strict") {
      grant.ended = "reuse";
      return undefined;
    } else if (this.#time.nowMs - spentAtMs > GRACE_MS) return undefined;
    return { ...this.#access(grant), refresh: this.#mint(grant) };
  }

  /** True when sending it now would bring a token, outages aside. */
  honours(refreshToken: string): boolean {
    const grant = this.#byRefresh.get(refreshToken);
    if (grant === undefined || grant.ended !== undefined) return false;
    const spentAtMs = grant.refreshTokens.get(refreshToken);
    if (spentAtMs === undefined || grant.provider.style === "none") return true;
    return grant.provider.style === "grace" && this.#time.nowMs - spentAtMs <= GRACE_MS;
  }

  /** When an access token ends, true time; undefined when it was never given out or its grant is over. */
  accessUntilMs(accessToken: string): number | undefined {
    const found = this.#byAccess.get(accessToken);
    return found?.grant.ended === undefined ? found?.untilMs : undefined;
  }

  ownerOfAccess(accessToken: string): string | undefined {
    return this.#byAccess.get(accessToken)?.grant.owner;
  }

  revoke(refreshToken: string): void {
    const grant = this.#byRefresh.get(refreshToken);
    if (grant !== undefined) grant.ended ??= "revoked";
  }

  #mint(grant: Grant): string {
    const token = `refresh/${grant.name}/${grant.refreshTokens.size}`;
    grant.refreshTokens.set(token, undefined);
    this.#byRefresh.set(token, grant);
    return token;
  }

  #access(grant: Grant): { readonly access: string; readonly lifetimeMs: number } {
    const { lifetimeMs } = grant.provider;
    const access = `access/${grant.name}/${grant.issued}`;
    grant.issued += 1;
    this.#byAccess.set(access, { grant, untilMs: this.#time.nowMs + lifetimeMs });
    return { access, lifetimeMs };
  }
}
