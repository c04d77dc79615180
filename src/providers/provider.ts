import type { Expression } from "./fence.ts";
import type { FieldRule } from "./fields.ts";
import type { RateLimitPlan } from "./rate-limit-plan.ts";
import type { ProviderFile } from "./schema.ts";
import type { Template, UrlTemplate } from "./template.ts";

/** Where the OAuth client's id and secret go. `id`: the id alone, in the body. */
export type ClientAuth = "header" | "body" | "id" | "none";

export interface RequestPlan {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly url: UrlTemplate;
  readonly headers: readonly (readonly [string, Template])[];
  readonly params: readonly (readonly [string, Template])[];
  readonly bodyFormat: "form" | "json";
}

/** How a token is asked for. */
export interface TokenPlan {
  readonly grant: "refresh_token" | "client_credentials";
  readonly request: RequestPlan;
  readonly clientAuth: ClientAuth;
  /** RFC 6749 §2.3.1 form-encoding before base64. */
  readonly formEncodeCredentials: boolean;
  readonly scopes: readonly string[];
  readonly scopeSeparator: string;
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
}

/** One request with a new credential, before it is stored. */
export interface AfterConnectPlan extends RequestPlan {
  readonly success: Expression | undefined;
  readonly fields: readonly (readonly [string, Expression])[];
  readonly identity: Expression | undefined;
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
  readonly response: ResponsePlan;
  /** Undefined for formats without a consent. */
  readonly consent: ConsentPlan | undefined;
  readonly callbackFields: readonly CallbackField[];
  /** Over the answer that brought the token: who the account is at the vendor. */
  readonly identity: Expression | undefined;
  readonly afterConnect: readonly AfterConnectPlan[];
  readonly authorization: readonly AuthorizationPlan[];
  readonly baseUrl: UrlTemplate | undefined;
  readonly introspection: (RequestPlan & { readonly clientAuth: ClientAuth }) | undefined;
  readonly revocation:
    | (RequestPlan & {
        readonly clientAuth: ClientAuth;
        readonly success: Expression | undefined;
        readonly tokens: readonly ("refresh_token" | "access_token")[];
      })
    | undefined;
  readonly verification:
    | (RequestPlan & { readonly accepted: Expression | undefined; readonly refused: Expression | undefined })
    | undefined;
  /** Hosts a request may go to: exact, `*.domain`, or with variables in them. */
  readonly allowedHosts: readonly Template[];
  readonly allowLoopback: boolean;
  readonly refresh: {
    readonly resendSafe: boolean;
    readonly earliestBeforeExpiryMs: number | undefined;
    readonly maxConcurrent: number | undefined;
    readonly budget: { readonly requests: number; readonly perMs: number } | undefined;
  };
}
