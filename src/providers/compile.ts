import { compileAuthorization } from "./compile-authorization.ts";
import { callbackFields, compileConsent } from "./compile-connection.ts";
import {
  compileRequest,
  compileResponse,
  type DescribedRequest,
  maybeMs,
  requestPaths,
} from "./compile-request.ts";
import { asksForTokens, compileTokens } from "./compile-token.ts";
import type { Compiled } from "./compiled.ts";
import { type CompileFault, Compiler, type Path } from "./compiler.ts";
import { durationMs } from "./duration.ts";
import type { AfterConnectPlan, Provider, RequestPlan } from "./provider.ts";
import { requestNames } from "./request-values.ts";
import type { ProviderFile } from "./schema.ts";

const ABOUT_A_TOKEN = ["token", "token_type_hint", "client_secret"];

/** What the shape of a file cannot say is checked here: templates, hosts, expressions, references. */
export function compileProvider(
  name: string,
  file: ProviderFile,
  compiled: Compiled,
): { readonly provider: Provider; readonly faults: readonly CompileFault[] } {
  const compiler = new Compiler(
    compiled,
    file.allow_loopback_http === true,
    Object.keys(file.client_fields ?? {}),
  );
  checkClasses(compiler, file.errors);
  declareFields(compiler, file);
  const { refresh } = file;
  const tokens = compileTokens(compiler, file);
  const [token] = tokens.values();
  const response = compileResponse(compiler, file);
  const introspection = plan(compiler, ["introspection"], file.introspection, ABOUT_A_TOKEN);
  const revocation = plan(compiler, ["revocation"], file.revocation, ABOUT_A_TOKEN);
  const verification = plan(compiler, ["verification"], file.verification);
  const baseUrl =
    file.proxy?.base_url === undefined ? undefined : compiler.url(["proxy", "base_url"], file.proxy.base_url);
  const at = (member: string) => ["verification", member];
  const provider: Provider = {
    name,
    file,
    fields: compiler.fields,
    consent: compileConsent(compiler, file, tokens),
    callbackFields: callbackFields(file),
    clientFields: compiler.clientFields,
    identity: compiler.maybeExpression(["identity"], file.identity),
    afterConnect: (file.after_connect ?? []).map((described, n) => afterConnect(compiler, described, n)),
    token,
    tokens,
    tokenNames: Object.keys(file.tokens ?? { default: {} }),
    response,
    authorization: compileAuthorization(compiler, file.credentials, file.authorization, ["authorization"]),
    baseUrl,
    proxy: {
      headers: compiler.templates(["proxy", "headers"], file.proxy?.headers),
      tokenEnded: compiler.maybeExpression(["proxy", "token_ended"], file.proxy?.token_ended),
    },
    introspection: introspection && {
      ...introspection,
      clientAuth: file.introspection?.client_auth ?? token?.clientAuth ?? "header",
    },
    revocation: revocation && {
      ...revocation,
      clientAuth: file.revocation?.client_auth ?? token?.clientAuth ?? "header",
      success: compiler.maybeExpression(["revocation", "success"], file.revocation?.success),
      tokens: file.revocation?.tokens ?? ["refresh_token", "access_token"],
      accessTokenAlone: file.revocation?.access_token_alone ?? false,
    },
    verification: verification && {
      ...verification,
      method: file.verification?.method ?? "GET",
      accepted: compiler.maybeExpression(at("accepted"), file.verification?.accepted),
      refused: compiler.maybeExpression(at("refused"), file.verification?.refused),
    },
    allowedHosts: compiler.allowedHosts(["allowed_hosts"], file.allowed_hosts),
    allowLoopback: file.allow_loopback_http === true,
    allowPrivate: false,
    refresh: {
      resendSafe: refresh?.resend_safe ?? (asksForTokens(file.credentials) && spendsNothing(tokens)),
      earliestBeforeExpiryMs: maybeMs(refresh?.earliest_before_expiry),
      leadMs: maybeMs(refresh?.lead),
      maxConcurrent: refresh?.max_concurrent,
      budget: refresh?.budget && { requests: refresh.budget.requests, perMs: durationMs(refresh.budget.per) },
    },
  };
  return { provider, faults: compiler.distinctFaults };
}

/** True when every token is made of lasting secrets, so that asking twice costs nothing. */
function spendsNothing(tokens: Provider["tokens"]): boolean {
  return [...tokens.values()].every(
    ({ refresh, refreshCredential }) => refresh === undefined || refreshCredential === "client",
  );
}

const CLASSES = ["reauth", "fix_configuration", "rate_limited", "transient"];
const CLASS_TEXT = /(["'])class\1\s*:\s*(["'])([^"']*)\2\s*[,}]/g;

/** A class that is written out must be one: another is as if none had been said, which nobody would notice. */
function checkClasses(compiler: Compiler, errors = ""): void {
  for (const { 3: name = "", index } of errors.matchAll(CLASS_TEXT)) {
    if (CLASSES.includes(name)) continue;
    compiler.fault(["errors"], `a class of ${CLASSES.join(", ")} instead of ${name}`, index);
  }
}

/** Fields of the account and of every answer, before anything that may name them. */
function declareFields(compiler: Compiler, file: ProviderFile): void {
  if (compiler.clientFields.length > 0 && !asksForTokens(file.credentials))
    compiler.fault(["client_fields"], "credentials of a format with an OAuth client, such as oauth2");
  for (const [name, field] of Object.entries(file.account_fields ?? {})) {
    compiler.field(["account_fields", name], name, field, "dns_label");
  }
  const { account_fields: given = {}, callback_fields: brought = {} } = file;
  for (const [name, field] of Object.entries(brought))
    laterField(compiler, ["callback_fields", name], name, field, [given]);
  for (const [n, { fields = {} }] of (file.after_connect ?? []).entries())
    for (const [name, field] of Object.entries(fields))
      laterField(compiler, ["after_connect", n, "fields", name], name, field, [given, brought]);
  for (const { at, response } of responsesOf(file)) {
    for (const [name, field] of Object.entries(response?.fields ?? {})) {
      const { value: _, ...constraint } = typeof field === "string" ? { value: field } : field;
      compiler.answerField([...at, "fields", name], name, constraint);
    }
  }
}

/** One that is known by then looks as it was declared first. */
function laterField(
  compiler: Compiler,
  path: Path,
  name: string,
  field: { readonly pattern?: string | undefined; readonly allowed_suffixes?: readonly string[] | undefined },
  earlier: readonly object[],
): void {
  if (!earlier.some((fields) => Object.hasOwn(fields, name))) compiler.field(path, name, field, "any_text");
  else if (field.pattern !== undefined || field.allowed_suffixes !== undefined)
    compiler.fault(path, "no pattern or suffixes of its own: it is declared further up");
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

interface DescribedResponse {
  readonly at: Path;
  readonly response: ProviderFile["response"];
}

/** All places of a file that say how an answer is read. */
function responsesOf(file: ProviderFile): readonly DescribedResponse[] {
  const tokens = Object.entries(file.tokens ?? {}).flatMap(([name, slot]): DescribedResponse[] => [
    { at: ["tokens", name, "refreshRequest", "response"], response: slot.refreshRequest?.response },
    ...(slot.credentials === undefined
      ? []
      : configResponses(["tokens", name, "credentials", "config"], slot.credentials)),
  ]);
  return [
    { at: ["response"], response: file.response },
    ...configResponses(["credentials", "config"], file.credentials),
    ...tokens,
  ];
}

function configResponses(at: Path, { format, config }: ProviderFile["credentials"]): DescribedResponse[] {
  if (format === "api_key" || format === "basic" || format === "bearer") return [];
  const calls =
    format === "custom"
      ? { mint: config.mint, refresh: config.refresh }
      : {
          tokenRequest: config.tokenRequest,
          ...(format === "oauth2" ? { refreshRequest: config.refreshRequest } : {}),
        };
  return [
    ...Object.entries(calls).map(([name, call]) => ({
      at: [...at, name, "response"],
      response: call?.response,
    })),
    ...(config.followUps ?? []).map(({ response }, index) => ({
      at: [...at, "followUps", index, "response"],
      response,
    })),
  ];
}

interface DescribedElsewhere extends Omit<DescribedRequest, "bodyFormat"> {
  readonly url: string;
  readonly body_format?: RequestPlan["bodyFormat"] | undefined;
}

function plan(
  compiler: Compiler,
  path: Path,
  described: DescribedElsewhere | undefined,
  more: readonly string[] = [],
): RequestPlan | undefined {
  return described === undefined ? undefined : requestPlan(compiler, path, described, more);
}

function requestPlan(
  compiler: Compiler,
  path: Path,
  described: DescribedElsewhere,
  more: readonly string[] = [],
): RequestPlan {
  const request = { ...described, bodyFormat: described.body_format };
  return compileRequest(compiler, requestPaths(path), described.url, request, requestNames(more));
}
