import { compileAuthorization } from "./compile-authorization.ts";
import {
  clientAuthOf,
  compileAssertion,
  compileRequest,
  compileResponse,
  type DescribedRequest,
  maybeMs,
  requestPaths,
} from "./compile-request.ts";
import type { Compiler, DescribedValue, Path } from "./compiler.ts";
import type { AssertionPlan, NamedValues, StepPlan, TokenPlan } from "./provider.ts";
import { tokenRequestNames } from "./request-values.ts";
import type { ProviderFile } from "./schema.ts";

type Credentials = ProviderFile["credentials"];
type Slot = NonNullable<ProviderFile["tokens"]>[string];
type Config<F extends Credentials["format"]> = Extract<Credentials, { format: F }>["config"];
type Asking =
  | Config<"oauth2">
  | Config<"oauth2_client_credentials">
  | Config<"jwt">
  | Config<"token_exchange">;
type TokenCall = NonNullable<Config<"oauth2">["tokenRequest"]>;
type FollowUps = NonNullable<Asking["followUps"]>;
type DescribedStep = NonNullable<Config<"custom">["mint"]>;

const JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token";

/** Formats of credentials that tokens are asked for with. */
export function asksForTokens(credentials: Credentials): boolean {
  return !["api_key", "basic", "bearer"].includes(credentials.format);
}

/** The tokens of an account, by name; an account without `tokens` in its file has one, `default`. */
export function compileTokens(compiler: Compiler, file: ProviderFile): ReadonlyMap<string, TokenPlan> {
  const plans = new Map<string, TokenPlan>();
  for (const [name, slot] of Object.entries(file.tokens ?? { default: {} })) {
    const plan = new TokenCompiler(compiler, file, ["tokens", name], slot).compile();
    if (slot.credentials?.format === "oauth2")
      compiler.fault(["tokens", name, "credentials"], "a format without a consent of its own");
    if (plan !== undefined) plans.set(name, plan);
    else if (file.tokens !== undefined)
      compiler.fault(["tokens", name], "credentials of a format that tokens are asked for with");
  }
  const granted = [...plans.values()].filter((plan) => plan.grant !== undefined);
  if (granted.length > 1 && granted.some((plan) => (plan.grant?.length ?? 0) > 1))
    compiler.fault(["tokens"], "followUps on refresh only, where one code gives several tokens");
  return plans;
}

class TokenCompiler {
  readonly #compiler: Compiler;
  readonly #file: ProviderFile;
  readonly #slotAt: Path;
  readonly #slot: Slot;
  readonly #credentials: Credentials;
  /** Where the credentials' config stands. */
  readonly #at: Path;

  constructor(compiler: Compiler, file: ProviderFile, slotAt: Path, slot: Slot) {
    this.#compiler = compiler;
    this.#file = file;
    this.#slotAt = slotAt;
    this.#slot = slot;
    this.#credentials = slot.credentials ?? file.credentials;
    this.#at = [...(slot.credentials === undefined ? [] : slotAt), "credentials", "config"];
  }

  compile(): TokenPlan | undefined {
    const credentials = this.#credentials;
    switch (credentials.format) {
      case "oauth2":
        return this.#oauth2(credentials.config);
      case "oauth2_client_credentials": {
        const { config } = credentials;
        return this.#minting(
          config,
          [["grant_type", "client_credentials"], ...this.#scope(config)],
          undefined,
          [],
        );
      }
      case "jwt":
        return this.#jwt(credentials.config);
      case "token_exchange":
        return this.#exchange(credentials.config);
      case "custom":
        return this.#custom(credentials.config);
      default:
        return undefined;
    }
  }

  #oauth2(config: Config<"oauth2">): TokenPlan {
    const { auth, tokenRequest: call = {}, options } = config;
    const tokenPath = auth.tokenPath ?? "/oauth/token";
    const grant = this.#call({
      config,
      url: [[...this.#at, "auth", "tokenHost"], `${auth.tokenHost}${tokenPath}`],
      call,
      callAt: [...this.#at, "tokenRequest"],
      params: ["tokenParams", config.tokenParams],
      standard: [
        ["grant_type", "authorization_code"],
        ["code", { value: "code" }],
        ["redirect_uri", { value: "redirect_uri" }],
        ["code_verifier", { value: "code_verifier" }],
      ],
      code: true,
    });
    const { credential = "refresh_token", ...own } = {
      ...config.refreshRequest,
      ...this.#slot.refreshRequest,
    };
    const rename = { ...call.rename, ...own.rename };
    const host = auth.refreshHost ?? auth.tokenHost;
    const refreshAt =
      this.#slot.refreshRequest === undefined
        ? [...this.#at, "refreshRequest"]
        : [...this.#slotAt, "refreshRequest"];
    const refresh = this.#call({
      config,
      url: [
        [...this.#at, "auth", auth.refreshHost === undefined ? "tokenHost" : "refreshHost"],
        `${host}${auth.refreshPath ?? tokenPath}`,
      ],
      call: { ...call, body: undefined, ...own, rename },
      callAt: own.response === undefined ? [...this.#at, "tokenRequest"] : refreshAt,
      bodyAt: refreshAt,
      params:
        this.#slot.refreshParams === undefined
          ? ["refreshParams", config.refreshParams]
          : ["refreshParams", this.#slot.refreshParams, this.#slotAt],
      headers: config.refreshHeaders,
      standard: this.#refreshing(credential, config),
    });
    const followUps = (on: "grant" | "refresh") => this.#followUps(config.followUps, on, on === "grant", []);
    return {
      ...this.#plan(config, [], options?.authorizationMethod),
      grant: [grant, ...followUps("grant")],
      mint: undefined,
      refresh: [refresh, ...followUps("refresh")],
      refreshCredential: credential,
    };
  }

  #refreshing(credential: TokenPlan["refreshCredential"], config: Asking): readonly Standard[] {
    if (credential === "client") return [["grant_type", "client_credentials"], ...this.#scope(config)];
    // Never a scope: the standard forbids more than was granted, and less is not what a refresh is for.
    return credential === "refresh_token"
      ? [
          ["grant_type", "refresh_token"],
          ["refresh_token", { value: "refresh_token" }],
        ]
      : [];
  }

  #jwt(config: Config<"jwt">): TokenPlan {
    const customerFields = Object.keys(config.fields ?? {});
    const known = tokenRequestNames({ code: false, assertion: false, customerFields });
    const at = [...this.#at, "assertion"];
    const { key } = config.assertion;
    if (key !== undefined && !customerFields.includes(key))
      this.#compiler.fault([...at, "key"], "the name of one of fields");
    const audience = config.assertion.audience ?? config.auth?.issuer;
    const assertion = compileAssertion(this.#compiler, at, { ...config.assertion, audience }, known);
    if (config.auth !== undefined) {
      const standard: readonly Standard[] = [
        ["grant_type", JWT_BEARER],
        ["assertion", { value: "assertion" }],
        ...this.#scope(config),
      ];
      return this.#minting({ ...config, auth: config.auth }, standard, assertion, customerFields);
    }
    // The answer that is read is made here: its lifetime is the assertion's.
    const step: StepPlan = {
      request: undefined,
      clientAuth: "none",
      standard: [],
      rename: {},
      assertion,
      response: compileResponse(this.#compiler, { ...this.#file, response: undefined }),
      defaultLifetimeMs: assertion.lifetimeMs,
    };
    return {
      ...this.#plan(config, customerFields, "custom"),
      grant: undefined,
      mint: [step, ...this.#followUps(config.followUps, "refresh", false, customerFields)],
      refresh: undefined,
      refreshCredential: "client",
    };
  }

  #exchange(config: Config<"token_exchange">): TokenPlan {
    const { subjectToken, subjectTokenType = ACCESS_TOKEN_TYPE, actorToken, actorTokenType } = config;
    if ((actorToken === undefined) !== (actorTokenType === undefined))
      this.#compiler.fault([...this.#at, "actorToken"], "actorToken and actorTokenType together");
    const standard: readonly Standard[] = [
      ["grant_type", TOKEN_EXCHANGE],
      ["subject_token", subjectToken],
      ["subject_token_type", subjectTokenType],
      ...maybe("actor_token", actorToken),
      ...maybe("actor_token_type", actorTokenType),
      ...maybe("requested_token_type", config.requestedTokenType),
      ...maybe("audience", config.audience),
      ...maybe("resource", config.resource),
      ...this.#scope(config),
    ];
    // RFC 8693 §2.2.1.
    return this.#minting(config, standard, undefined, Object.keys(config.fields ?? {}), [
      "issued_token_type",
    ]);
  }

  #custom(config: Config<"custom">): TokenPlan {
    const customerFields = Object.keys(config.fields ?? {});
    const known = tokenRequestNames({ code: false, assertion: false, customerFields });
    const step = (name: "mint" | "refresh"): StepPlan | undefined => {
      const described = config[name];
      if (described === undefined) return undefined;
      return this.#describedStep(
        [...this.#at, name],
        described,
        known,
        this.#lifetimeMs(config.tokenExpiryDuration),
      );
    };
    const followUps = this.#followUps(config.followUps, "refresh", false, customerFields);
    const [mint, refresh] = [step("mint"), step("refresh")];
    return {
      ...this.#plan(config, customerFields, config.options?.authorizationMethod),
      grant: undefined,
      mint: mint && [mint, ...followUps],
      refresh: refresh && [refresh, ...followUps],
      refreshCredential: config.refresh?.credential ?? "refresh_token",
    };
  }

  #minting(
    config:
      | Config<"oauth2_client_credentials">
      | (Omit<Config<"jwt">, "auth"> & EndpointOf)
      | Config<"token_exchange">,
    standard: readonly Standard[],
    assertion: AssertionPlan | undefined,
    customerFields: readonly string[],
    required: readonly string[] = [],
  ): TokenPlan {
    const mint = this.#call({
      config,
      url: [
        [...this.#at, "auth", "tokenHost"],
        `${config.auth.tokenHost}${config.auth.tokenPath ?? "/oauth/token"}`,
      ],
      call: config.tokenRequest ?? {},
      callAt: [...this.#at, "tokenRequest"],
      params: ["tokenParams", config.tokenParams],
      standard,
      assertion,
      customerFields,
      required,
    });
    return {
      ...this.#plan(config, customerFields, config.options?.authorizationMethod),
      grant: undefined,
      mint: [mint, ...this.#followUps(config.followUps, "refresh", false, customerFields)],
      refresh: undefined,
      refreshCredential: "client",
    };
  }

  #call(of: {
    readonly config: Asking;
    readonly url: readonly [Path, string];
    readonly call: Partial<TokenCall>;
    readonly callAt: Path;
    readonly bodyAt?: Path;
    readonly params: readonly [member: string, values: DescribedRequest["params"], at?: Path];
    readonly headers?: DescribedRequest["headers"];
    readonly standard: readonly Standard[];
    readonly code?: boolean;
    readonly assertion?: AssertionPlan | undefined;
    readonly customerFields?: readonly string[];
    readonly required?: readonly string[];
  }): StepPlan {
    const { config, call, assertion, customerFields = [] } = of;
    const known = tokenRequestNames({
      code: of.code === true,
      assertion: assertion !== undefined,
      customerFields,
    });
    const [paramsName, params, paramsAt = this.#at] = of.params;
    const paths = {
      url: of.url[0],
      headers: [...this.#at, "tokenHeaders"],
      params: [...paramsAt, paramsName],
      body: [...(of.bodyAt ?? of.callAt), "body"],
    };
    const described = {
      method: call.method,
      headers: { ...config.tokenHeaders, ...of.headers },
      params,
      bodyFormat: call.bodyFormat ?? config.options?.bodyFormat,
      body: call.body,
    };
    const own = { at: [...of.callAt, "response"], response: call.response };
    const method = call.authorizationMethod ?? config.options?.authorizationMethod ?? this.#usualMethod();
    return {
      request: compileRequest(this.#compiler, paths, of.url[1], described, known),
      clientAuth: clientAuthOf(method),
      standard: this.#standard(of.standard, known),
      rename: call.rename ?? {},
      assertion,
      response: compileResponse(this.#compiler, this.#file, own, of.required),
      defaultLifetimeMs: this.#lifetimeMs(config.tokenExpiryDuration),
    };
  }

  /** An assertion is a grant of its own: the client need not prove itself beside it. */
  #usualMethod() {
    const { format } = this.#credentials;
    return format === "jwt" ? ("custom" as const) : ("header" as const);
  }

  #standard(standard: readonly Standard[], known: (name: string) => boolean): NamedValues {
    return standard.map(([name, value]) => [name, this.#compiler.value([...this.#at, name], value, known)]);
  }

  #followUps(
    followUps: FollowUps | undefined,
    on: "grant" | "refresh",
    code: boolean,
    customerFields: readonly string[],
  ): StepPlan[] {
    const known = tokenRequestNames({ code, assertion: false, customerFields });
    return (followUps ?? []).flatMap((described, index) => {
      if ((described.on ?? on) !== on) return [];
      const at = [...this.#at, "followUps", index];
      return [this.#describedStep(at, described, known, maybeMs(described.tokenExpiryDuration))];
    });
  }

  /** A request that the file describes whole: nothing of it is a format's own. */
  #describedStep(
    at: Path,
    described: DescribedStep,
    known: (name: string) => boolean,
    defaultLifetimeMs: number | undefined,
  ): StepPlan {
    const own = { at: [...at, "response"], response: described.response };
    return {
      request: compileRequest(this.#compiler, requestPaths(at), described.url, described, known),
      clientAuth: clientAuthOf(described.authorizationMethod ?? "custom"),
      standard: [],
      rename: {},
      assertion: undefined,
      response: compileResponse(this.#compiler, this.#file, own),
      defaultLifetimeMs,
    };
  }

  #lifetimeMs(configured: string | number | undefined): number | undefined {
    return maybeMs(this.#slot.tokenExpiryDuration ?? configured);
  }

  #plan(
    config: Asking | Config<"custom">,
    customerFields: readonly string[],
    method: Parameters<typeof clientAuthOf>[0] | undefined,
  ): Omit<TokenPlan, "grant" | "mint" | "refresh" | "refreshCredential"> {
    const { options, scopeSeparator = " " } = config;
    const issuer = "auth" in config ? config.auth?.issuer : undefined;
    const described = { audience: issuer, ...options?.clientAssertion };
    const known = tokenRequestNames({ code: false, assertion: false, customerFields });
    const { authorization, credentials } = this.#slot;
    const showsCertificate = options?.clientCertificate === true || method === "tls_client_auth";
    const bound = options?.certificateBoundAccessTokens === true;
    if (bound && !showsCertificate) {
      const at = [...this.#at, "options", "certificateBoundAccessTokens"];
      this.#compiler.fault(at, "clientCertificate: true beside it, or tls_client_auth");
    }
    return {
      inGrant: this.#compiler.maybeExpression([...this.#slotAt, "token"], this.#slot.token),
      customerFields,
      clientAuth: clientAuthOf(method ?? this.#usualMethod()),
      clientAssertion: compileAssertion(
        this.#compiler,
        [...this.#at, "options", "clientAssertion"],
        described,
        known,
      ),
      formEncodeCredentials: options?.credentialsEncoding !== "loose",
      showsCertificate,
      bound,
      scopes: scopesOf(config),
      scopeSeparator,
      authorization:
        authorization === undefined && credentials === undefined
          ? undefined
          : compileAuthorization(
              this.#compiler,
              this.#credentials,
              authorization ?? this.#file.authorization,
              authorization === undefined ? ["authorization"] : [...this.#slotAt, "authorization"],
            ),
    };
  }

  #scope(config: Asking): readonly Standard[] {
    const scope = scopesOf(config).join(config.scopeSeparator ?? " ");
    return scope === "" ? [] : [["scope", scope]];
  }
}

interface EndpointOf {
  readonly auth: NonNullable<Config<"jwt">["auth"]>;
}

/** A standard parameter: its name, and a text or an expression. */
type Standard = readonly [name: string, value: DescribedValue];

function maybe(name: string, value: DescribedValue | undefined): readonly Standard[] {
  return value === undefined ? [] : [[name, value]];
}

function scopesOf(config: Pick<Asking, "scope" | "scopeSeparator">): readonly string[] {
  const { scope = [], scopeSeparator = " " } = config;
  return typeof scope === "string" ? scope.split(scopeSeparator).filter((each) => each !== "") : scope;
}
