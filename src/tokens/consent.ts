import type { Secret } from "./secret.ts";
import type { FailureClass } from "./vendor.ts";

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

/** What the provider's redirect says. `code` and `message` are masked to short printable ASCII. */
export type ConsentReply =
  | {
      readonly kind: "code";
      readonly code: Secret;
      /** What else it brings, as far as the file names it. */
      readonly fields: Readonly<Record<string, string>>;
    }
  | {
      readonly kind: "refused";
      /** `denied`: the customer, or the provider in their name, said no. */
      readonly class: FailureClass | "denied";
      readonly code: string;
      readonly message: string;
    }
  /** Not a reply to what was asked, or a broken one. */
  | { readonly kind: "invalid"; readonly cause: string; readonly message: string };
