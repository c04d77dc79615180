import type { Compiler, DescribedValues, Path } from "./compiler.ts";
import { durationMs } from "./duration.ts";
import type { AssertionPlan, ClientAuth, RequestPlan, ResponsePlan } from "./provider.ts";
import { compileRateLimits } from "./rate-limit-plan.ts";
import type { ProviderFile } from "./schema.ts";

/** A request as the file writes it, under the names that all places of the file share. */
export interface DescribedRequest {
  readonly method?: RequestPlan["method"] | undefined;
  readonly headers?: DescribedValues;
  readonly params?: DescribedValues;
  readonly bodyFormat?: RequestPlan["bodyFormat"] | undefined;
  readonly body?: string | undefined;
}

/** Where the parts of a request stand in the file, for its faults. */
export interface RequestPaths {
  readonly url: Path;
  readonly headers: Path;
  readonly params: Path;
  readonly body: Path;
}

export function requestPaths(base: Path): RequestPaths {
  const at = (member: string) => [...base, member];
  return { url: at("url"), headers: at("headers"), params: at("params"), body: at("body") };
}

/** `known` answers whether a variable may stand in the request's texts, beside the account's fields. */
export function compileRequest(
  compiler: Compiler,
  paths: RequestPaths,
  url: string,
  described: DescribedRequest,
  known: (name: string) => boolean,
): RequestPlan {
  return {
    method: described.method ?? "POST",
    url: compiler.url(paths.url, url, known),
    headers: compiler.values(paths.headers, described.headers, known),
    params: compiler.values(paths.params, described.params, known),
    bodyFormat: described.bodyFormat ?? "form",
    body: described.body === undefined ? undefined : compiler.requestExpression(paths.body, described.body),
  };
}

type Response = NonNullable<ProviderFile["response"]>;

/** `own` members stand instead of the file's. */
export function compileResponse(
  compiler: Compiler,
  file: ProviderFile,
  own?: { readonly at: Path; readonly response: Response | undefined },
  required: readonly string[] = [],
): ResponsePlan {
  const response: Response = { ...file.response, ...own?.response };
  const at = (member: keyof Response, ...rest: Path): Path =>
    own?.response?.[member] === undefined ? ["response", member, ...rest] : [...own.at, member, ...rest];
  const { refresh_token_lifetime: lifetime, map = {} } = response;
  const mapped = Object.entries(map).map(([name, source]) => [
    name,
    compiler.expression(at("map", name), source ?? ""),
  ]);
  return {
    success: compiler.maybeExpression(at("success"), response.success),
    token: compiler.maybeExpression(at("token"), response.token),
    map: Object.fromEntries(mapped),
    expiresIn: response.expires_in ?? "s",
    refreshLifetime: lifetime && { kind: lifetime.kind, ms: maybeMs(lifetime.duration) },
    fields: Object.entries(response.fields ?? {}).map(([name, field]) =>
      typeof field === "string"
        ? [name, compiler.expression(at("fields", name), field)]
        : [name, compiler.expression(at("fields", name, "value"), field.value)],
    ),
    required: required.filter((name) => !Object.hasOwn(map, name)),
    keep: file.merge?.keep ?? [],
    forget: file.merge?.forget ?? [],
    errors: compiler.maybeExpression(["errors"], file.errors),
    rateLimits: compileRateLimits(compiler, file.rate_limits),
  };
}

interface DescribedAssertion {
  readonly issuer?: DescribedValue;
  readonly subject?: DescribedValue;
  readonly audience?: DescribedValue;
  readonly lifetime?: string | number | undefined;
  readonly algorithm?: string | undefined;
  readonly keyId?: DescribedValue;
  readonly claims?: DescribedValues;
  readonly key?: string | undefined;
}
type DescribedValue = NonNullable<DescribedValues>[string] | undefined;

const ASSERTION_LIFETIME_MS = 60_000;

export function compileAssertion(
  compiler: Compiler,
  at: Path,
  described: DescribedAssertion,
  known: (name: string) => boolean,
): AssertionPlan {
  const value = (member: "issuer" | "subject" | "audience" | "keyId") => {
    const source = described[member];
    return source === undefined ? undefined : compiler.value([...at, member], source, known);
  };
  return {
    issuer: value("issuer"),
    subject: value("subject"),
    audience: value("audience"),
    lifetimeMs: maybeMs(described.lifetime) ?? ASSERTION_LIFETIME_MS,
    algorithm: described.algorithm,
    keyId: value("keyId"),
    claims: compiler.values([...at, "claims"], described.claims, known),
    key: described.key === undefined ? { of: "client" } : { of: "customer", field: described.key },
  };
}

type Method = "header" | "body" | "none" | "custom" | Exclude<ClientAuth, "header" | "body" | "id" | "none">;

/** A public client (RFC 6749 §3.2.1) still names itself; `custom` leaves everything to the file. */
export function clientAuthOf(method: Method): ClientAuth {
  if (method === "custom") return "none";
  return method === "none" ? "id" : method;
}

export function maybeMs(duration: string | number | undefined): number | undefined {
  return duration === undefined ? undefined : durationMs(duration);
}
