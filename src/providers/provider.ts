import type { Expression } from "./fence.ts";
import type { FieldRule } from "./fields.ts";
import type { RateLimitPlan } from "./rate-limit-plan.ts";
import type { ProviderFile } from "./schema.ts";
import type { Template, UrlTemplate } from "./template.ts";

/**
 * How our app names and proves itself. `id`: its id alone, in the body; `none`: not at all. The rest are RFC 6749 §2.3.1,
 * RFC 7523 §2.2 and RFC 8705 §2.
 */
export type ClientAuth =
  | "header"
  | "body"
  | "id"
  | "none"
  | "client_secret_jwt"
  | "private_key_jwt"
  | "tls_client_auth";

/** A text with variables, or an expression over the same values, which may also give something else than a text. */
export type ValuePlan = Template | Expression;
export type NamedValues = readonly (readonly [string, ValuePlan])[];

export interface RequestPlan {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly url: UrlTemplate;
  readonly headers: NamedValues;
  readonly params: NamedValues;
  readonly bodyFormat: "form" | "json" | "query";
  /** The whole body, instead of the parameters. */
  readonly body: Expression | undefined;
}

/** What a signed assertion says (RFC 7523 §3), and what signs it. */
export interface AssertionPlan {
  readonly issuer: ValuePlan | undefined;
  readonly subject: ValuePlan | undefined;
  readonly audience: ValuePlan | undefined;
  readonly lifetimeMs: number;
  /** Undefined: as the key says. */
  readonly algorithm: string | undefined;
  readonly keyId: ValuePlan | undefined;
  readonly claims: NamedValues;
  /** `customer`: the field of the customer's that holds the key. */
  readonly key: { readonly of: "client" } | { readonly of: "customer"; readonly field: string };
}

/** One request on the way to a token, and how its answer is read. */
export interface StepPlan {
  /** Undefined: nothing is sent, the assertion itself is the token. */
  readonly request: RequestPlan | undefined;
  readonly clientAuth: ClientAuth;
  /** The parameters that the standard names, before the file's own. */
  readonly standard: NamedValues;
  /** The vendor's names of standard parameters; false leaves one out. */
  readonly rename: Readonly<Record<string, string | false>>;
  /** The value `assertion`. */
  readonly assertion: AssertionPlan | undefined;
  readonly response: ResponsePlan;
  /** Lifetime of a token whose answer does not tell it. Undefined: it does not expire. */
  readonly defaultLifetimeMs: number | undefined;
}

/** Where a customer's browser is sent to consent. */
export interface ConsentPlan {
  readonly url: UrlTemplate;
  /** Beside the standard ones, which they win over. */
  readonly params: readonly (readonly [string, Template])[];
  /** The vendor's names of standard parameters; false leaves one out. */
  readonly rename: Readonly<Record<string, string | false>>;
  readonly callbackRename: Readonly<Record<string, string | false>>;
  /** Undefined: no PKCE. */
  readonly pkce: "S256" | "plain" | undefined;
  /** False: what it brings is consent alone, and tokens are minted. */
  readonly bringsCode: boolean;
  /** Over the redirect's query as `body`: whether consent was given. Undefined: unless there is an error. */
  readonly granted: Expression | undefined;
  /** Undefined: any on the host of `url`. */
  readonly issuer: UrlTemplate | undefined;
  readonly scopes: readonly string[];
  readonly scopeSeparator: string;
}

/** A fact that the redirect brings beside the code. */
export interface CallbackField {
  readonly name: string;
  readonly parameter: string;
  readonly required: boolean;
  /** It may be another value than the one given at the start. */
  readonly overrides: boolean;
}

/** One request with a new credential, before it is stored. */
export interface AfterConnectPlan extends RequestPlan {
  readonly success: Expression | undefined;
  readonly fields: readonly (readonly [string, Expression])[];
  readonly identity: Expression | undefined;
}

/** What a refresh is asked with. `client`: nothing of the customer's. */
export type RefreshCredential = "refresh_token" | "access_token" | "client";

/** How one token of an account is got. Undefined lists of steps: that way does not exist. */
export interface TokenPlan {
  /** By the code that the customer brings back. */
  readonly grant: readonly StepPlan[] | undefined;
  /** By the client's own or the customer's lasting secrets. */
  readonly mint: readonly StepPlan[] | undefined;
  readonly refresh: readonly StepPlan[] | undefined;
  readonly refreshCredential: RefreshCredential;
  /** Over the answer of the code's exchange: the object that holds this token's members. */
  readonly inGrant: Expression | undefined;
  /** The customer's lasting secrets, by name, that minting takes. Empty: it takes none. */
  readonly customerFields: readonly string[];
  readonly clientAuth: ClientAuth;
  readonly clientAssertion: AssertionPlan;
  /** RFC 6749 §2.3.1 form-encoding before base64. */
  readonly formEncodeCredentials: boolean;
  /** The client's certificate is shown on connections (RFC 8705). */
  readonly showsCertificate: boolean;
  /** Access tokens work only where that certificate is shown (RFC 8705 §3). */
  readonly bound: boolean;
  readonly scopes: readonly string[];
  readonly scopeSeparator: string;
  /** Undefined: the file's. */
  readonly authorization: readonly AuthorizationPlan[] | undefined;
}

export type AuthorizationPlan =
  | { readonly format: "bearer"; readonly path: string | undefined }
  | { readonly format: "basic"; readonly username: Template; readonly password: Template }
  | { readonly format: "header" | "query"; readonly name: string; readonly value: Template }
  | {
      readonly format: "custom";
      readonly headers: readonly (readonly [string, Expression])[];
      readonly query: readonly (readonly [string, Expression])[];
    };

export interface ResponsePlan {
  readonly success: Expression | undefined;
  readonly token: Expression | undefined;
  readonly map: Readonly<Record<string, Expression>>;
  readonly expiresIn: "s" | "ms" | "absolute";
  readonly refreshLifetime:
    | { readonly kind: "none" | "fixed" | "sliding"; readonly ms: number | undefined }
    | undefined;
  readonly fields: readonly (readonly [string, Expression])[];
  /** Members without which an answer is no grant. */
  readonly required: readonly string[];
  readonly keep: readonly string[];
  readonly forget: readonly string[];
  readonly errors: Expression | undefined;
  readonly rateLimits: RateLimitPlan;
}

/** One provider's file, checked and compiled. Immutable. */
export interface Provider {
  /** The file's name without its ending. */
  readonly name: string;
  readonly file: ProviderFile;
  readonly fields: ReadonlyMap<string, FieldRule>;
  /** Undefined for formats without a token endpoint. */
  readonly token: TokenPlan | undefined;
  /** The tokens of an account that are asked for somewhere, by name; the first one is `token`. */
  readonly tokens: ReadonlyMap<string, TokenPlan>;
  /** Every name that a token of this provider has. */
  readonly tokenNames: readonly string[];
  readonly response: ResponsePlan;
  /** Undefined for formats without a consent. */
  readonly consent: ConsentPlan | undefined;
  readonly callbackFields: readonly CallbackField[];
  /** Names of the OAuth client's further secrets that calls of the API carry. */
  readonly clientFields: readonly string[];
  /** Over the answer that brought the token: who the account is at the vendor. */
  readonly identity: Expression | undefined;
  readonly afterConnect: readonly AfterConnectPlan[];
  readonly authorization: readonly AuthorizationPlan[];
  readonly baseUrl: UrlTemplate | undefined;
  /** Calls at the provider's API. */
  readonly proxy: {
    /** Sent unless the caller says otherwise. */
    readonly headers: readonly (readonly [string, Template])[];
    /** Over an API answer: its token has ended. Undefined: status 401. */
    readonly tokenEnded: Expression | undefined;
  };
  readonly introspection: (RequestPlan & { readonly clientAuth: ClientAuth }) | undefined;
  readonly revocation:
    | (RequestPlan & {
        readonly clientAuth: ClientAuth;
        readonly success: Expression | undefined;
        readonly tokens: readonly ("refresh_token" | "access_token")[];
        /** The grant outlives its access token's revocation. */
        readonly accessTokenAlone: boolean;
      })
    | undefined;
  readonly verification:
    | (RequestPlan & { readonly accepted: Expression | undefined; readonly refused: Expression | undefined })
    | undefined;
  /** Hosts a request may go to: exact, `*.domain`, or with variables in them. */
  readonly allowedHosts: readonly Template[];
  readonly allowLoopback: boolean;
  /** The operator permits private networks for this provider. */
  readonly allowPrivate: boolean;
  readonly refresh: {
    readonly resendSafe: boolean;
    readonly earliestBeforeExpiryMs: number | undefined;
    readonly leadMs: number | undefined;
    readonly maxConcurrent: number | undefined;
    readonly budget: { readonly requests: number; readonly perMs: number } | undefined;
  };
}
