import type { Compiler, Path } from "./compiler.ts";
import type { CallbackField, ConsentPlan, TokenPlan } from "./provider.ts";
import type { ProviderFile } from "./schema.ts";

type OAuthConfig = Extract<ProviderFile["credentials"], { format: "oauth2" }>["config"];

/** Where a customer's browser is sent to consent; undefined for providers without a consent. */
export function compileConsent(
  compiler: Compiler,
  file: ProviderFile,
  tokens: ReadonlyMap<string, TokenPlan>,
): ConsentPlan | undefined {
  if (file.consent !== undefined) return withoutCode(compiler, file.consent, tokens);
  if (file.credentials.format !== "oauth2") return undefined;
  const { config } = file.credentials;
  const at = (...members: string[]): Path => ["credentials", "config", ...members];
  const { scope = [], scopeSeparator = " ", pkce } = config;
  return {
    url: authorizeUrl(compiler, config, at),
    params: compiler.templates(at("authorizeParams"), config.authorizeParams),
    rename: config.authorizeRename ?? {},
    callbackRename: config.callbackRename ?? {},
    pkce: pkce === false ? undefined : (pkce?.method ?? "S256"),
    bringsCode: true,
    granted: undefined,
    issuer:
      config.auth.issuer === undefined ? undefined : compiler.url(at("auth", "issuer"), config.auth.issuer),
    scopes: typeof scope === "string" ? scope.split(scopeSeparator).filter((each) => each !== "") : scope,
    scopeSeparator,
  };
}

/** A consent that our app's own credentials are enough for afterwards. */
function withoutCode(
  compiler: Compiler,
  { url, params, rename, callback_rename: callbackRename, granted }: NonNullable<ProviderFile["consent"]>,
  tokens: ReadonlyMap<string, TokenPlan>,
): ConsentPlan {
  const isMinted = [...tokens.values()].every(
    ({ grant, mint, customerFields }) =>
      grant === undefined && mint !== undefined && customerFields.length === 0,
  );
  if (tokens.size === 0 || !isMinted)
    compiler.fault(["consent"], "credentials whose tokens the OAuth client mints by itself");
  const [first] = tokens.values();
  return {
    url: compiler.url(["consent", "url"], url),
    params: compiler.templates(["consent", "params"], params),
    rename: rename ?? {},
    callbackRename: callbackRename ?? {},
    pkce: undefined,
    bringsCode: false,
    granted: compiler.maybeExpression(["consent", "granted"], granted),
    issuer: undefined,
    scopes: first?.scopes ?? [],
    scopeSeparator: first?.scopeSeparator ?? " ",
  };
}

function authorizeUrl(
  compiler: Compiler,
  { auth }: OAuthConfig,
  at: (...members: string[]) => Path,
): ConsentPlan["url"] {
  const { authorizeHost, authorizePath = "/oauth/authorize", tokenHost } = auth;
  // A fault of the host that both share is told once, where it stands.
  const where =
    authorizeHost !== undefined
      ? "authorizeHost"
      : authorizePath.startsWith("/")
        ? "tokenHost"
        : "authorizePath";
  return compiler.url(at("auth", where), `${authorizeHost ?? tokenHost}${authorizePath}`);
}

/** What the redirect brings beside the code, in the file's order. */
export function callbackFields(file: ProviderFile): readonly CallbackField[] {
  return Object.entries(file.callback_fields ?? {}).map(([name, { parameter, required, overrides }]) => ({
    name,
    parameter: parameter ?? name,
    required: required !== false,
    overrides: overrides === true,
  }));
}
