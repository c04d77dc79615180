import { createHash, createHmac, randomBytes } from "node:crypto";

/** What a token is for; part of its prefix and of what is signed. */
export type TokenKind = "at" | "rt" | "ac";

/** Which grant (or code) a token belongs to, and which of that grant's tokens it is. */
export interface TokenName {
  readonly owner: number;
  readonly serial: number;
}

const PAYLOAD_CHARS = 16;

/**
 * Makes and recognises tokens such as `sim_rt_…`. A token carries its own name under a keyed hash, so every refresh
 * token ever issued is recognised for ever while none of them is kept in memory.
 */
export class TokenMint {
  readonly #key: Buffer;

  /** Without `seed` the key is random; with it the same tokens come out of every run, and anyone may guess them. */
  constructor(seed: number | undefined) {
    this.#key =
      seed === undefined ? randomBytes(32) : createHash("sha256").update(`simulator ${seed}`).digest();
  }

  make(kind: TokenKind, { owner, serial }: TokenName): string {
    const payload = Buffer.alloc(12);
    payload.writeUIntBE(owner, 0, 6);
    payload.writeUIntBE(serial, 6, 6);
    const proof = createHmac("sha256", this.#key).update(kind).update(payload).digest("base64url");
    return `sim_${kind}_${payload.toString("base64url")}${proof}`;
  }

  /** Undefined when the token is not of this kind or was not made with this key. */
  read(kind: TokenKind, token: string): TokenName | undefined {
    const prefix = `sim_${kind}_`;
    if (!token.startsWith(prefix)) return undefined;
    const payload = Buffer.from(token.slice(prefix.length, prefix.length + PAYLOAD_CHARS), "base64url");
    if (payload.length !== 12) return undefined;
    const name = { owner: payload.readUIntBE(0, 6), serial: payload.readUIntBE(6, 6) };
    return this.make(kind, name) === token ? name : undefined;
  }
}
