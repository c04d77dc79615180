import type { Account } from "./account.ts";
import type { Credential } from "./credential.ts";
import type { Secret } from "./secret.ts";
import type {
  CodeGrant,
  FailureClass,
  Interpretation,
  RawAnswer,
  SendResult,
  VendorContext,
} from "./vendor.ts";

/** What a consent is asked for with. */
export interface ConsentRequest {
  readonly provider: string;
  readonly clientId: string;
  readonly fields: Readonly<Record<string, string>>;
  /** Empty: the file's. */
  readonly scopes: readonly string[];
  readonly redirectUri: string;
  readonly state: Secret;
  /** PKCE (RFC 7636), for those providers that take one. */
  readonly verifier: Secret;
}

/** Where the customer's browser is to be sent. */
export interface ConsentUrl {
  readonly url: string;
  /** True when the URL carries the verifier's challenge. */
  readonly usesPkce: boolean;
  /** Those that are asked for. */
  readonly scopes: readonly string[];
}

/** What an authorization was started with, as far as its redirect is read by it. */
export interface ConsentAsked {
  /** The account's, with those given at the start. */
  readonly fields: Readonly<Record<string, string>>;
  /** Those given at the start. */
  readonly given: Readonly<Record<string, string>>;
  /** Those that the redirect may repeat. */
  readonly secrets: readonly string[];
}

/** What the provider's redirect says. `code` and `message` are masked to short printable ASCII. */
export type ConsentReply =
  | {
      readonly kind: "code";
      readonly code: Secret;
      /** What else it brings, as far as the file names it. */
      readonly fields: Readonly<Record<string, string>>;
    }
  /** No code: the account's tokens are minted from now on. */
  | { readonly kind: "consented"; readonly fields: Readonly<Record<string, string>> }
  | {
      readonly kind: "refused";
      /** `denied`: the customer, or the provider in their name, said no. */
      readonly class: Exclude<FailureClass, "reauth"> | "denied";
      readonly code: string;
      readonly message: string;
    }
  /** Not a reply to what was asked, or a broken one. */
  | { readonly kind: "invalid"; readonly cause: string; readonly message: string };

/** What the answers of a code's exchange come to. */
export type Grant =
  | {
      readonly kind: "granted";
      /** By token name; the account's first one first. */
      readonly credentials: ReadonlyMap<string, Credential>;
      /** Non-secret account fields read from the answers. */
      readonly fields: Readonly<Record<string, string>>;
      /** Who it is at the vendor. Undefined: the file or the answers do not tell. */
      readonly subject: string | undefined;
    }
  | Exclude<Interpretation, { kind: "granted" }>;

/** What the requests after a connection say of the account. */
export type Introduction =
  | {
      readonly kind: "introduced";
      readonly fields: Readonly<Record<string, string>>;
      readonly subject: string | undefined;
    }
  /** Several match, and the account's field of this name does not say which. */
  | {
      readonly kind: "choice";
      readonly field: string;
      /** The account's is none of them. */
      readonly isForeign?: boolean;
      readonly choices: readonly { readonly value: string; readonly title: string }[];
    }
  | { readonly kind: "failed"; readonly cause: string };

/** How customers connect their accounts, as the providers' files describe it. */
export interface Consents {
  /**
   * INVALID_REQUEST when this provider's accounts are not connected through a browser, or a field is missing;
   * DESTINATION_NOT_ALLOWED when one is not permitted; PROVIDER_NOT_FOUND.
   */
  url(request: ConsentRequest): ConsentUrl;
  /** Throws only PROVIDER_NOT_FOUND. */
  reply(provider: string, query: URLSearchParams, asked: ConsentAsked): ConsentReply;
  /** How many answers the exchange of a code has at most. */
  steps(provider: string): number;
  /** As `Vendors.exchange`, for the exchange of a code. */
  redeem(
    context: VendorContext,
    code: CodeGrant,
    go: () => boolean,
    ear: AbortSignal,
    before: readonly RawAnswer[],
  ): Promise<SendResult>;
  /** Reads all answers so far of a code's exchange. `scopes` are those granted where no answer says it. Never throws. */
  grant(
    context: VendorContext,
    code: CodeGrant,
    scopes: readonly string[],
    answers: readonly RawAnswer[],
  ): Promise<Grant>;
  /** Asks, with the new credential, what else is to be known of the account. May be repeated. Never throws. */
  introduce(context: VendorContext): Promise<Introduction>;
  /** Who an account is at the vendor, by the answer that brought its token. Undefined: neither file nor answer tells. */
  subject(account: Pick<Account, "provider" | "fields">, answer: RawAnswer | undefined): string | undefined;
  /** What a customer handed in, as this provider's credential. INVALID_REQUEST names the missing or unknown secret. */
  credential(
    provider: string,
    secrets: Readonly<Record<string, string>>,
    nowMs: number,
    expiresAtMs: number | undefined,
  ): Credential;
}
