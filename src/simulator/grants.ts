import type { TokenMint } from "./token-mint.ts";

/**
 * What happens to a refresh token when it is used.
 * - `strict`: it is replaced; a second use of the old one revokes the whole family.
 * - `grace`: as strict, but for `graceMs` the old one answers with the successor it already got.
 * - `none`: it stays, and is left out of the answer.
 */
export type RotationStyle = "strict" | "grace" | "none";

/** One customer's consent: a family of refresh and access tokens that live and die together. */
export interface Grant {
  readonly id: number;
  readonly clientId: string;
  readonly subject: string;
  readonly scope: string;
  readonly accessTokenLifetimeMs: number;
  readonly revoked: boolean;
}

/** What is remembered of an access token; the token itself is not. */
export interface AccessToken {
  readonly issuedAtMs: number;
  readonly expiresAtMs: number;
  readonly scope: string;
}

/** New tokens, in the clear, on their way to an answer. */
export interface Issued {
  readonly grant: Grant;
  readonly accessToken: string;
  /** Undefined when the answer leaves it out. */
  readonly refreshToken: string | undefined;
  readonly expiresAtMs: number;
  readonly scope: string;
}

/** `current` can be redeemed, `graced` answers its successor again, `spent` was redeemed before. */
export type RefreshTokenState = "current" | "graced" | "spent" | "revoked";

/** A refresh token as it stands at one moment. */
export interface RefreshTokenView {
  readonly grant: Grant;
  readonly state: RefreshTokenState;
  /** A newer refresh token of the family exists and no grace covers this one, whether or not the family lives. */
  readonly reuse: boolean;
  /** The same bytes arrived before. */
  readonly seenBefore: boolean;
}

interface Rotation {
  readonly atMs: number;
  readonly issued: Issued;
}

interface Family extends Grant {
  revoked: boolean;
  readonly refreshable: boolean;
  /** Of the one refresh token that can be redeemed. */
  refreshSerial: number;
  presentations: number;
  accessSerial: number;
  readonly accessTokens: Map<number, AccessToken>;
  /** By the serial of the token they spent, oldest first; only those whose grace may still run. */
  readonly rotations: Map<number, Rotation>;
}

/** What a grant is created from. */
export interface NewGrant {
  readonly clientId: string;
  readonly subject: string;
  readonly scope: string;
  readonly accessTokenLifetimeMs: number;
  /** False for client credentials, which get no refresh token. */
  readonly refreshable: boolean;
}

/** `graceMs` counts for style `grace` only. */
export interface GrantsDeps {
  readonly mint: TokenMint;
  readonly style: RotationStyle;
  readonly graceMs: number;
}

/** Every grant and its tokens. No clock and no await in here: each call is one indivisible step. */
export class Grants {
  readonly #deps: GrantsDeps;
  readonly #families = new Map<number, Family>();
  #revoked = 0;
  #revokedByReuse = 0;

  constructor(deps: GrantsDeps) {
    this.#deps = deps;
  }

  create(grant: NewGrant): Grant {
    const id = this.#families.size + 1;
    const family: Family = {
      ...grant,
      id,
      revoked: false,
      refreshSerial: 1,
      presentations: 0,
      accessSerial: 0,
      accessTokens: new Map(),
      rotations: new Map(),
    };
    this.#families.set(id, family);
    return family;
  }

  /** A new access token of `grant`, with its current refresh token when it has one. Expiry and scope default to the grant's. */
  issue(
    grant: Grant,
    nowMs: number,
    special: { expiresAtMs?: number; scope?: string | undefined } = {},
  ): Issued {
    const family = this.#family(grant.id);
    const { expiresAtMs = nowMs + family.accessTokenLifetimeMs, scope = family.scope } = special;
    const accessToken = this.#access(family, scope, nowMs, expiresAtMs);
    const refreshToken = family.refreshable ? this.#refreshToken(family) : undefined;
    return { grant, accessToken, refreshToken, expiresAtMs, scope };
  }

  /** Notes that `refreshToken` has arrived and says what it is; changes nothing else. Undefined: never issued here. */
  present(refreshToken: string, nowMs: number): RefreshTokenView | undefined {
    const view = this.look(refreshToken, nowMs);
    if (view?.state === "current") this.#family(view.grant.id).presentations += 1;
    return view;
  }

  /** What `refreshToken` is worth at `nowMs`. Undefined: never issued here. */
  look(refreshToken: string, nowMs: number): RefreshTokenView | undefined {
    const name = this.#deps.mint.read("rt", refreshToken);
    const family = name && this.#families.get(name.owner);
    if (!name || !family?.refreshable || name.serial > family.refreshSerial) return undefined;
    const old = name.serial < family.refreshSerial;
    const graced = old && this.#rotation(family, name.serial, nowMs) !== undefined;
    return {
      grant: family,
      state: family.revoked ? "revoked" : graced ? "graced" : old ? "spent" : "current",
      reuse: old && !graced,
      seenBefore: old || family.presentations > 0,
    };
  }

  /**
   * Uses a refresh token that `look` called current or graced. `keep` leaves the token as it is even in a rotating
   * style; `scope` is that of the new access token.
   */
  redeem(refreshToken: string, nowMs: number, { keep, scope }: { keep: boolean; scope: string }): Issued {
    const name = this.#deps.mint.read("rt", refreshToken);
    const family = this.#family(name?.owner);
    const earlier = this.#rotation(family, name?.serial, nowMs);
    if (earlier) return this.#again(family, earlier, nowMs);
    if (family.revoked || name?.serial !== family.refreshSerial)
      throw new Error("this refresh token is not to be redeemed");
    const expiresAtMs = nowMs + family.accessTokenLifetimeMs;
    const accessToken = this.#access(family, scope, nowMs, expiresAtMs);
    const issued = { grant: family, accessToken, expiresAtMs, scope };
    if (keep || this.#deps.style === "none") return { ...issued, refreshToken: undefined };
    const spent = family.refreshSerial;
    family.refreshSerial += 1;
    family.presentations = 0;
    const rotated = { ...issued, refreshToken: this.#refreshToken(family) };
    if (this.#deps.style === "grace") this.#remember(family, spent, { atMs: nowMs, issued: rotated });
    return rotated;
  }

  /** The access token and its grant while it is good at `nowMs`. */
  access(accessToken: string, nowMs: number): { grant: Grant; token: AccessToken } | undefined {
    const name = this.#deps.mint.read("at", accessToken);
    const family = name && this.#families.get(name.owner);
    const token = name && family?.accessTokens.get(name.serial);
    return family && token && nowMs < token.expiresAtMs ? { grant: family, token } : undefined;
  }

  /** True when the access token was good until now. Its family lives on. */
  revokeAccess(accessToken: string): boolean {
    const name = this.#deps.mint.read("at", accessToken);
    return name !== undefined && this.#families.get(name.owner)?.accessTokens.delete(name.serial) === true;
  }

  /** Ends the whole family; false when it had ended before. */
  revoke(grant: Grant, reason: "reuse" | "request"): boolean {
    const family = this.#family(grant.id);
    if (family.revoked) return false;
    family.revoked = true;
    family.accessTokens.clear();
    family.rotations.clear();
    this.#revoked += 1;
    if (reason === "reuse") this.#revokedByReuse += 1;
    return true;
  }

  /** Ends every live access token of `grant`, as a vendor does that rejects tokens early. Refreshing still works. */
  expireAccess(grant: Grant): void {
    this.#family(grant.id).accessTokens.clear();
  }

  /** The grants still alive. */
  *live(): Generator<Grant> {
    for (const family of this.#families.values()) if (!family.revoked) yield family;
  }

  find(id: number): Grant | undefined {
    return this.#families.get(id);
  }

  counts(): { active: number; revoked: number; revokedByReuse: number } {
    return {
      active: this.#families.size - this.#revoked,
      revoked: this.#revoked,
      revokedByReuse: this.#revokedByReuse,
    };
  }

  #again(family: Family, { issued }: Rotation, nowMs: number): Issued {
    if (this.access(issued.accessToken, nowMs)) return issued;
    const expiresAtMs = nowMs + family.accessTokenLifetimeMs;
    return { ...issued, expiresAtMs, accessToken: this.#access(family, issued.scope, nowMs, expiresAtMs) };
  }

  #access(family: Family, scope: string, issuedAtMs: number, expiresAtMs: number): string {
    for (const [serial, token] of family.accessTokens) {
      if (token.expiresAtMs > issuedAtMs) break;
      family.accessTokens.delete(serial);
    }
    family.accessSerial += 1;
    family.accessTokens.set(family.accessSerial, { issuedAtMs, expiresAtMs, scope });
    return this.#deps.mint.make("at", { owner: family.id, serial: family.accessSerial });
  }

  #refreshToken(family: Family): string {
    return this.#deps.mint.make("rt", { owner: family.id, serial: family.refreshSerial });
  }

  #remember(family: Family, serial: number, rotation: Rotation): void {
    for (const [old, { atMs }] of family.rotations) {
      if (rotation.atMs - atMs < this.#deps.graceMs) break;
      family.rotations.delete(old);
    }
    family.rotations.set(serial, rotation);
  }

  #rotation(family: Family, serial: number | undefined, nowMs: number): Rotation | undefined {
    const rotation = serial === undefined ? undefined : family.rotations.get(serial);
    return rotation && nowMs - rotation.atMs < this.#deps.graceMs ? rotation : undefined;
  }

  #family(id: number | undefined): Family {
    const family = this.#families.get(id ?? 0);
    if (!family) throw new Error("a grant of another simulator");
    return family;
  }
}
