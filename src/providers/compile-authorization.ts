import type { Compiler, Path } from "./compiler.ts";
import type { AuthorizationPlan } from "./provider.ts";
import type { ProviderFile } from "./schema.ts";

type Described = Extract<ProviderFile["authorization"], { format: string }>;

/** How a credential of these is put into requests; several ways at once are allowed. */
export function compileAuthorization(
  compiler: Compiler,
  credentials: ProviderFile["credentials"],
  authorization: ProviderFile["authorization"],
  path: Path,
): AuthorizationPlan[] {
  const known = knownValues(compiler, credentials);
  const isKey = credentials.format === "api_key";
  if (!Array.isArray(authorization)) return [one(compiler, path, authorization, isKey, known)];
  return authorization.map((each, at) => one(compiler, [...path, at], each, isKey, known));
}

/** The names that a credential of this file's format gives its values. */
function knownValues(
  compiler: Compiler,
  credentials: ProviderFile["credentials"],
): (name: string) => boolean {
  const isField = (name: string) =>
    (name.startsWith("fields.") && compiler.fields.has(name.slice("fields.".length))) ||
    (name.startsWith("client.") && compiler.clientFields.includes(name.slice("client.".length)));
  switch (credentials.format) {
    case "oauth2":
    case "oauth2_client_credentials":
      return (name) => name.startsWith("oauth.token.") || isField(name);
    case "jwt":
    case "token_exchange":
    case "custom": {
      const names = Object.keys(credentials.config.fields ?? {});
      return (name) => name.startsWith("oauth.token.") || names.includes(name) || isField(name);
    }
    case "api_key": {
      const names = ["api_key", ...Object.keys(credentials.config?.fields ?? {})];
      return (name) => names.includes(name) || isField(name);
    }
    case "basic":
      return (name) => name === "username" || name === "password" || isField(name);
    case "bearer":
      return (name) => name === "token" || isField(name);
  }
}

function one(
  compiler: Compiler,
  path: Path,
  described: Described,
  isKey: boolean,
  known: (name: string) => boolean,
): AuthorizationPlan {
  const at = (member: string) => [...path, "config", member];
  switch (described.format) {
    case "bearer": {
      const token = described.config?.path;
      if (token !== undefined && !known(token))
        compiler.fault(at("path"), "a path such as oauth.token.access_token");
      return { format: "bearer", path: token };
    }
    case "basic": {
      const username = described.config?.username ?? (isKey ? "${api_key}" : "${username}");
      const password = described.config?.password ?? (isKey ? "" : "${password}");
      return {
        format: "basic",
        username: compiler.template(at("username"), username, known),
        password: compiler.template(at("password"), password, known),
      };
    }
    case "header":
    case "query": {
      const { name, value } = described.config;
      if (described.format === "header") checkHeaderName(compiler, at("name"), name);
      return { format: described.format, name, value: compiler.template(at("value"), value, known) };
    }
    case "custom": {
      const { headers, query } = described.config;
      for (const name of Object.keys(headers ?? {}))
        checkHeaderName(compiler, [...at("headers"), name], name);
      return {
        format: "custom",
        headers: compiler.expressions(at("headers"), headers),
        query: compiler.expressions(at("query"), query),
      };
    }
  }
}

function checkHeaderName(compiler: Compiler, path: Path, name: string): void {
  if (!/^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/.test(name)) compiler.fault(path, "a header name");
}
