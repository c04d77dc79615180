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
  /** How long before expiry the schedule refreshes. Absent: one to three minutes. */
  readonly leadMs?: number | undefined;
  /** A refresh needs the living access token: it has to happen well before the token ends. */
  readonly refreshesWithAccessToken?: boolean;
  /** Every name that a token of an account has. Absent: `default` alone. */
  readonly tokenNames?: readonly string[];
  /** Tokens are minted from these secrets of the customer's, which are kept. Absent: they are not. */
  readonly mintsFrom?: readonly string[] | undefined;
  /** Which of `mintsFrom` is a private key that signs. Absent: none. */
  readonly signsWith?: string | undefined;
  /** How many answers one exchange has at most. Absent: one. */
  readonly steps?: number;
  /** The OAuth client's certificate is shown on every connection to the provider. */
  readonly showsCertificate?: boolean;
  /** Access tokens work nowhere else (RFC 8705 §3). */
  readonly isBound?: boolean;
  /** Absent: refreshes go through an OAuth client. */
  readonly needsClient?: boolean;
  /** Names of the OAuth client's further secrets that calls of the API carry. Absent: they carry none. */
  readonly clientFields?: readonly string[];
  /** Absent: the accounts' fields are anything. */
  readonly fields?: readonly FieldRule[];
}

/** A fact of an account that requests are made of. */
export interface FieldRule {
  readonly name: string;
  /** Somebody has to give it before an account can be used. */
  readonly needed: boolean;
  /** What a value has to be, for people. */
  readonly expected: string;
  accepts(value: string): boolean;
}

/** What an outbound request is made of. */
export interface VendorContext {
  readonly account: Account;
  readonly slot: string;
  readonly credential: Credential;
  /** Undefined for formats without an OAuth client. */
  readonly client: ContextClient | undefined;
}

/** Our app as it proves itself to the provider. */
export interface ContextClient {
  readonly record: OAuthClient;
  /** Undefined for a public client, or one that proves itself by a key. */
  readonly secret: Secret | undefined;
  /** What it signs with. */
  readonly privateKey?: PrivateKey | undefined;
  /** What it shows on TLS connections. */
  readonly certificate?: ClientCertificate | undefined;
  /** Further secrets by name, which calls of the API carry. */
  readonly fields?: Readonly<Record<string, Secret>> | undefined;
}

/** What a call of the API is authorized with. The client is needed where its own secrets go along. */
export type UseContext = Omit<VendorContext, "client"> & { readonly client?: ContextClient | undefined };

export interface PrivateKey {
  /** PEM or JWK. */
  readonly key: Secret;
  /** The `kid` that the provider knows it by. Undefined: the JWK's own, or none. */
  readonly keyId: string | undefined;
}

export interface ClientCertificate {
  /** PEM, the client's own first. */
  readonly chain: string;
  readonly key: Secret;
}

/** What a customer's consent came back with: spent by the first request that carries it. */
export interface CodeGrant {
  readonly code: Secret;
  readonly redirectUri: string;
  /** PKCE (RFC 7636). Undefined: none was used. */
  readonly codeVerifier: Secret | undefined;
  readonly state: string;
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

export interface Refusal {
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

/** How a request failed. */
export type Failure =
  | Refusal
  | { readonly kind: "unknown" | "not_sent" | "unmapped"; readonly cause: string };

/** An answer as the provider's file reads it. `code` and `message` are masked to short printable ASCII; never a secret. */
export type Interpretation =
  | {
      readonly kind: "granted";
      /** Merged with the existing one. */
      readonly credential: Credential;
      /** Non-secret account fields read from the answer (`instance_url`). */
      readonly fields: Readonly<Record<string, string>>;
      /**
       * A later request of the exchange failed: `credential` only saves what the earlier ones have spent and got, with
       * the access token there was before. Absent: all of it is there.
       */
      readonly unfinished?: Failure | undefined;
    }
  | Refusal
  /** Not parseable, or a 500/502/504 without an OAuth error: the provider may have acted. */
  | { readonly kind: "unknown"; readonly cause: string }
  /** Only when the exchange ended before the request that a good answer asked for: nothing has been spent by then. */
  | { readonly kind: "not_sent"; readonly cause: string }
  /** A good answer, and one more request is needed: ask for it with the answers so far. */
  | { readonly kind: "more" }
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
  /** Of one of the account's tokens; without a name, of its first. Undefined: there is no such file (any more). */
  rules(provider: string, slot?: string): RefreshRules | undefined;
  /**
   * Sends one request of an exchange, the first one or the one that `before` (the answers so far) asks for, and listens
   * until `ear` aborts. `go` is asked right before the first byte: false sends nothing. Throws DESTINATION_NOT_ALLOWED
   * or INVALID_REQUEST before anything is sent, when the file and the account's fields do not make a permitted request.
   */
  exchange(
    context: VendorContext,
    go: () => boolean,
    ear: AbortSignal,
    before?: readonly RawAnswer[],
  ): Promise<SendResult>;
  /**
   * Reads the newest answer of an exchange; `before` are those that came before it. With `ended`, the request that this
   * answer asked for came to that. May ask the provider's introspection endpoint for the expiry. Pure otherwise:
   * replay-safe.
   */
  interpret(
    context: VendorContext,
    answer: RawAnswer,
    before?: readonly RawAnswer[],
    ended?: Exclude<SendResult, { kind: "answer" }>,
  ): Promise<Interpretation>;
  verify(context: VendorContext): Promise<Verification>;
  /** RFC 7009 order: the refresh token first. */
  revoke(context: VendorContext): Promise<Revocation>;
  /** Its access token and not the grant; `unsupported` unless its file says that the grant outlives that. */
  revokeAccessToken(context: VendorContext): Promise<Revocation>;
  /** Throws PROVIDER_NOT_FOUND when the file is missing, CLIENT_MISCONFIGURED when the client lacks a secret it asks for. */
  authorize(context: UseContext): Authorization;
}
