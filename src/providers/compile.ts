import { compileAuthorization } from "./compile-authorization.ts";
import { callbackFields, compileConsent } from "./compile-connection.ts";
import { type CompileFault, Compiler, type Path } from "./compiler.ts";
import { durationMs } from "./duration.ts";
import type {
  AfterConnectPlan,
  ClientAuth,
  Provider,
  RequestPlan,
  ResponsePlan,
  TokenPlan,
} from "./provider.ts";
import { compileRateLimits } from "./rate-limit-plan.ts";
import type { ProviderFile } from "./schema.ts";

/** What the shape of a file cannot say is checked here: templates, hosts, expressions, references. */
export function compileProvider(
  name: string,
  file: ProviderFile,
): { readonly provider: Provider; readonly faults: readonly CompileFault[] } {
  const compiler = new Compiler(file.allow_loopback_http === true);
  declareFields(compiler, file);
  const { refresh } = file;
  const token = tokenPlan(compiler, file);
  const response = responsePlan(compiler, file);
  const introspection = plan(compiler, ["introspection"], file.introspection);
  const revocation = plan(compiler, ["revocation"], file.revocation, ["token", "token_type_hint"]);
  const verification = plan(compiler, ["verification"], file.verification);
  const baseUrl =
    file.proxy?.base_url === undefined ? undefined : compiler.url(["proxy", "base_url"], file.proxy.base_url);
  compiler.templates(["proxy", "headers"], file.proxy?.headers);
  const at = (member: string) => ["verification", member];
  const provider: Provider = {
    name,
    file,
    fields: compiler.fields,
    consent: compileConsent(compiler, file),
    callbackFields: callbackFields(file),
    identity: compiler.maybeExpression(["identity"], file.identity),
    afterConnect: (file.after_connect ?? []).map((described, n) => afterConnect(compiler, described, n)),
    token,
    response,
    authorization: compileAuthorization(compiler, file),
    baseUrl,
    introspection: introspection && {
      ...introspection,
      clientAuth: file.introspection?.client_auth ?? token?.clientAuth ?? "header",
    },
    revocation: revocation && {
      ...revocation,
      clientAuth: file.revocation?.client_auth ?? token?.clientAuth ?? "header",
      success: compiler.maybeExpression(["revocation", "success"], file.revocation?.success),
      tokens: file.revocation?.tokens ?? ["refresh_token", "access_token"],
    },
    verification: verification && {
      ...verification,
      method: file.verification?.method ?? "GET",
      accepted: compiler.maybeExpression(at("accepted"), file.verification?.accepted),
      refused: compiler.maybeExpression(at("refused"), file.verification?.refused),
    },
    allowedHosts: compiler.allowedHosts(["allowed_hosts"], file.allowed_hosts),
    allowLoopback: file.allow_loopback_http === true,
    refresh: {
      resendSafe: refresh?.resend_safe ?? token?.grant === "client_credentials",
      earliestBeforeExpiryMs: ms(refresh?.earliest_before_expiry),
      maxConcurrent: refresh?.max_concurrent,
      budget: refresh?.budget && { requests: refresh.budget.requests, perMs: durationMs(refresh.budget.per) },
    },
  };
  return { provider, faults: compiler.faults };
}

function declareFields(compiler: Compiler, file: ProviderFile): void {
  for (const [name, field] of Object.entries(file.account_fields ?? {})) {
    compiler.field(["account_fields", name], name, field, "dns_label");
  }
  for (const [name, field] of Object.entries(file.callback_fields ?? {})) {
    compiler.field(["callback_fields", name], name, field, "any_text");
  }
  for (const [n, { fields = {} }] of (file.after_connect ?? []).entries()) {
    for (const [name, field] of Object.entries(fields))
      compiler.field(["after_connect", n, "fields", name], name, field, "any_text");
  }
  for (const [name, field] of Object.entries(file.response?.fields ?? {})) {
    const constraint = typeof field === "string" ? {} : field;
    compiler.field(["response", "fields", name], name, constraint, "any_text");
  }
}

function afterConnect(
  compiler: Compiler,
  described: NonNullable<ProviderFile["after_connect"]>[number],
  n: number,
): AfterConnectPlan {
  const path: Path = ["after_connect", n];
  return {
    ...requestPlan(compiler, path, described),
    method: described.method ?? "GET",
    success: compiler.maybeExpression([...path, "success"], described.success),
    fields: Object.entries(described.fields ?? {}).map(([name, { value }]) => [
      name,
      compiler.expression([...path, "fields", name, "value"], value),
    ]),
    identity: compiler.maybeExpression([...path, "identity"], described.identity),
  };
}

function tokenPlan(compiler: Compiler, file: ProviderFile): TokenPlan | undefined {
  const { credentials } = file;
  if (credentials.format !== "oauth2" && credentials.format !== "oauth2_client_credentials") return undefined;
  const { config } = credentials;
  const at: Path = ["credentials", "config"];
  const oauth = credentials.format === "oauth2" ? credentials.config : undefined;
  const params =
    credentials.format === "oauth2"
      ? compiler.templates([...at, "refreshParams"], credentials.config.refreshParams)
      : compiler.templates([...at, "tokenParams"], credentials.config.tokenParams);
  const tokenPath = oauth?.auth.refreshPath ?? config.auth.tokenPath ?? "/oauth/token";
  const { scope = [], scopeSeparator = " ", options } = config;
  return {
    grant: oauth === undefined ? "client_credentials" : "refresh_token",
    request: {
      method: "POST",
      url: compiler.url([...at, "auth", "tokenHost"], `${config.auth.tokenHost}${tokenPath}`),
      headers: compiler.templates([...at, "tokenHeaders"], config.tokenHeaders),
      params,
      bodyFormat: options?.bodyFormat ?? "form",
    },
    // A public client (RFC 6749 §3.2.1) still names itself.
    clientAuth: options?.authorizationMethod === "none" ? "id" : (options?.authorizationMethod ?? "header"),
    formEncodeCredentials: options?.credentialsEncoding !== "loose",
    scopes: typeof scope === "string" ? scope.split(scopeSeparator).filter((each) => each !== "") : scope,
    scopeSeparator,
    defaultLifetimeMs: ms(config.tokenExpiryDuration),
  };
}

interface DescribedRequest {
  readonly method?: RequestPlan["method"] | undefined;
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly params?: Readonly<Record<string, string>> | undefined;
  readonly body_format?: "form" | "json" | undefined;
  readonly client_auth?: ClientAuth | undefined;
}

function plan(
  compiler: Compiler,
  path: Path,
  described: DescribedRequest | undefined,
  extra: readonly string[] = [],
): RequestPlan | undefined {
  return described === undefined ? undefined : requestPlan(compiler, path, described, extra);
}

function requestPlan(
  compiler: Compiler,
  path: Path,
  described: DescribedRequest,
  extra: readonly string[] = [],
): RequestPlan {
  return {
    method: described.method ?? "POST",
    url: compiler.url([...path, "url"], described.url, extra),
    headers: compiler.templates([...path, "headers"], described.headers, extra),
    params: compiler.templates([...path, "params"], described.params, extra),
    bodyFormat: described.body_format ?? "form",
  };
}

function responsePlan(compiler: Compiler, file: ProviderFile): ResponsePlan {
  const { response, merge } = file;
  const lifetime = response?.refresh_token_lifetime;
  const map = Object.entries(response?.map ?? {}).map(([name, source]) => [
    name,
    compiler.expression(["response", "map", name], source ?? ""),
  ]);
  const fields = Object.entries(response?.fields ?? {});
  return {
    success: compiler.maybeExpression(["response", "success"], response?.success),
    token: compiler.maybeExpression(["response", "token"], response?.token),
    map: Object.fromEntries(map),
    expiresIn: response?.expires_in ?? "s",
    refreshLifetime: lifetime && { kind: lifetime.kind, ms: ms(lifetime.duration) },
    fields: fields.map(([name, field]) => {
      const at = ["response", "fields", name];
      return typeof field === "string"
        ? [name, compiler.expression(at, field)]
        : [name, compiler.expression([...at, "value"], field.value)];
    }),
    keep: merge?.keep ?? [],
    forget: merge?.forget ?? [],
    errors: compiler.maybeExpression(["errors"], file.errors),
    rateLimits: compileRateLimits(compiler, file.rate_limits),
  };
}

function ms(duration: string | number | undefined): number | undefined {
  return duration === undefined ? undefined : durationMs(duration);
}
