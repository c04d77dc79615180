import { createHash } from "node:crypto";
import type { TokenMint } from "./token-mint.ts";

/** An authorization code lives a minute (RFC 6749 §4.1.2 allows ten). */
const CODE_LIFETIME_MS = 60_000;

// How long a used code is remembered, so that its second use can end the grant it made.
const MEMORY_MS = 600_000;

/** What the customer agreed to, waiting to be exchanged. */
export interface Consent {
  readonly clientId: string;
  readonly subject: string;
  readonly scope: string;
  /** As sent; undefined when the request left it to the registration. */
  readonly redirectUri: string | undefined;
  readonly challenge: { readonly value: string; readonly method: "S256" | "plain" } | undefined;
  readonly issuedAtMs: number;
}

interface Kept {
  readonly consent: Consent;
  usedForGrant: number | undefined;
}

/** What comes with a code to the token endpoint. */
export interface CodeUse {
  readonly clientId: string;
  readonly redirectUri: string | undefined;
  readonly verifier: string | undefined;
  readonly nowMs: number;
}

/** A code that may be exchanged, one that was exchanged for a grant before, or why it may not. */
export type CodeVerdict =
  | { readonly consent: Consent }
  | { readonly replayOfGrant: number }
  | { readonly refusal: string };

/** The authorization codes given out. */
export class Codes {
  readonly #mint: TokenMint;
  readonly #kept = new Map<number, Kept>();
  #last = 0;

  constructor(mint: TokenMint) {
    this.#mint = mint;
  }

  issue(consent: Consent): string {
    for (const [serial, { consent: old }] of this.#kept) {
      if (consent.issuedAtMs - old.issuedAtMs < MEMORY_MS) break;
      this.#kept.delete(serial);
    }
    this.#last += 1;
    this.#kept.set(this.#last, { consent, usedForGrant: undefined });
    return this.#mint.make("ac", { owner: this.#last, serial: 0 });
  }

  /** What the customer of `code` agreed to; changes nothing. */
  look(code: string): Consent | undefined {
    return this.#find(code)?.consent;
  }

  /** Checks client, age, redirect address and PKCE (RFC 7636 §4.6); changes nothing. */
  check(code: string, use: CodeUse): CodeVerdict {
    const kept = this.#find(code);
    if (!kept || kept.consent.clientId !== use.clientId) return { refusal: "the code is unknown" };
    if (kept.usedForGrant !== undefined) return { replayOfGrant: kept.usedForGrant };
    const { consent } = kept;
    if (use.nowMs - consent.issuedAtMs >= CODE_LIFETIME_MS) return { refusal: "the code has expired" };
    if (use.redirectUri !== consent.redirectUri)
      return { refusal: "redirect_uri differs from the authorization request" };
    if (!proves(consent, use.verifier)) return { refusal: "code_verifier does not match the code challenge" };
    return { consent };
  }

  /** Notes that `code` became the grant with this id; a second use ends that grant. */
  use(code: string, grantId: number): void {
    const kept = this.#find(code);
    if (kept) kept.usedForGrant = grantId;
  }

  #find(code: string): Kept | undefined {
    const name = this.#mint.read("ac", code);
    return name && this.#kept.get(name.owner);
  }
}

function proves({ challenge }: Consent, verifier: string | undefined): boolean {
  // A verifier nobody asked for is the mark of a stripped challenge (RFC 9700 §4.8.2).
  if (challenge === undefined || verifier === undefined)
    return challenge === undefined && verifier === undefined;
  if (challenge.method === "plain") return verifier === challenge.value;
  return createHash("sha256").update(verifier).digest("base64url") === challenge.value;
}
