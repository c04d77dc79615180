import type { Compiler, Path } from "./compiler.ts";
import type { CallbackField, ConsentPlan } from "./provider.ts";
import type { ProviderFile } from "./schema.ts";

type OAuthConfig = Extract<ProviderFile["credentials"], { format: "oauth2" }>["config"];

/** Where a customer's browser is sent to consent; undefined for formats without a consent. */
export function compileConsent(compiler: Compiler, file: ProviderFile): ConsentPlan | undefined {
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
    issuer:
      config.auth.issuer === undefined ? undefined : compiler.url(at("auth", "issuer"), config.auth.issuer),
    scopes: typeof scope === "string" ? scope.split(scopeSeparator).filter((each) => each !== "") : scope,
    scopeSeparator,
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
  return Object.entries(file.callback_fields ?? {}).map(([name, { parameter, required }]) => ({
    name,
    parameter: parameter ?? name,
    required: required !== false,
  }));
}
