import type { RateLimit } from "../errors.ts";
import type { Account } from "./account.ts";
import type { Credential } from "./credential.ts";
import type { OAuthClient } from "./records.ts";
import type { Secret } from "./secret.ts";

/** What a provider's file says about refreshing, in the terms of the heart. */
export interface RefreshRules {
  /** A refresh whose outcome is unknown may be sent again at once (no rotation, or a documented grace period). */
  readonly resendSafe: boolean;
  /** The OAuth client mints its own tokens (client credentials): a refresh needs no refresh token. */
  readonly refreshesWithoutToken: boolean;
  /** The provider refuses a refresh earlier than this before expiry. Undefined: any time. */
  readonly earliestBeforeExpiryMs: number | undefined;
  /** Caps of the token endpoint, when the client has none of its own. */
  readonly maxConcurrent: number | undefined;
  readonly budget: { readonly requests: number; readonly perMs: number } | undefined;
  /** A credential of this provider can be checked against the provider without changing it. */
  readonly canVerify: boolean;
}

/** What an outbound request is made of. */
export interface VendorContext {
  readonly account: Account;
  readonly slot: string;
  readonly credential: Credential;
  /** Undefined for formats without an OAuth client. */
  readonly client: { readonly record: OAuthClient; readonly secret: Secret | undefined } | undefined;
}

/** A complete answer, unparsed. */
export interface RawAnswer {
  readonly status: number;
  /** Lower-case names. */
  readonly headers: readonly (readonly [string, string])[];
  readonly body: Uint8Array;
  /** Wall clock before the request was sent: what a relative expiry counts from. */
  readonly requestedAtMs: number;
  readonly receivedAtMs: number;
}

export type SendResult =
  | { readonly kind: "answer"; readonly answer: RawAnswer }
  /** Not one byte of the request left. */
  | { readonly kind: "not_sent"; readonly cause: string }
  /** Bytes left and no complete answer came: the provider may have acted. */
  | { readonly kind: "unknown"; readonly cause: string };

export type FailureClass = "reauth" | "fix_configuration" | "rate_limited" | "transient";

/** An answer as the provider's file reads it. `code` and `message` are masked to short printable ASCII; never a secret. */
export type Interpretation =
  | {
      readonly kind: "granted";
      /** Merged with the existing one. */
      readonly credential: Credential;
      /** Non-secret account fields read from the answer (`instance_url`). */
      readonly fields: Readonly<Record<string, string>>;
    }
  | {
      readonly kind: "refused";
      readonly class: FailureClass;
      readonly code: string | undefined;
      readonly message: string;
      /** The matched rule: `file`, or `default:<which>`. */
      readonly rule: string;
      readonly retryAfterMs: number | undefined;
      readonly rateLimit: RateLimit | undefined;
      /** The provider refuses the OAuth client itself, not this account. */
      readonly clientFault: boolean;
    }
  /** Not parseable, or a 500/502/504 without an OAuth error: the provider may have acted. */
  | { readonly kind: "unknown"; readonly cause: string }
  /** A parseable success from which the file reads no token: kept for `remap`. */
  | { readonly kind: "unmapped"; readonly cause: string };

/** `unclear`: no complete or no telling answer. */
export type Verification =
  | { readonly kind: "accepted" | "refused"; readonly status: number }
  | { readonly kind: "unclear"; readonly cause: string };

/** `still_live`: the provider could not or would not (RFC 7009: 503); `unsupported`: its file names no revocation. */
export type Revocation = "revoked" | "still_live" | "unsupported";

/** How a token goes into a request: what `GetToken` hands out beside the token itself. */
export interface Authorization {
  readonly accessToken: Secret;
  readonly tokenType: string;
  readonly headers: Secret<Readonly<Record<string, string>>>;
  readonly queryParameters: Secret<Readonly<Record<string, string>>>;
  readonly baseUrl: string;
}

/** Third parties, each described by its file. None of these methods ever throws for what a provider answers. */
export interface Vendors {
  /** Undefined: there is no such file (any more). */
  rules(provider: string): RefreshRules | undefined;
  /**
   * Sends one refresh and listens until `ear` aborts. `go` is asked right before the first byte: false sends nothing.
   * Throws DESTINATION_NOT_ALLOWED or INVALID_REQUEST before anything is sent, when the file and the account's fields
   * do not make a permitted request.
   */
  exchange(context: VendorContext, go: () => boolean, ear: AbortSignal): Promise<SendResult>;
  /** Reads an answer; may ask the provider's introspection endpoint for the expiry. Pure otherwise: replay-safe. */
  interpret(context: VendorContext, answer: RawAnswer): Promise<Interpretation>;
  verify(context: VendorContext): Promise<Verification>;
  /** RFC 7009 order: the refresh token first. */
  revoke(context: VendorContext): Promise<Revocation>;
  /** Throws PROVIDER_NOT_FOUND when the file is missing. */
  authorize(context: Omit<VendorContext, "client">): Authorization;
}
