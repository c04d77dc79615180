import type { Compiler, Path } from "./compiler.ts";
import type { AuthorizationPlan } from "./provider.ts";
import type { ProviderFile } from "./schema.ts";

type Described = Extract<ProviderFile["authorization"], { format: string }>;

/** How the file puts a credential into requests; several ways at once are allowed. */
export function compileAuthorization(compiler: Compiler, file: ProviderFile): AuthorizationPlan[] {
  const { authorization } = file;
  const known = knownValues(compiler, file);
  if (!Array.isArray(authorization)) return [one(compiler, ["authorization"], authorization, file, known)];
  return authorization.map((each, at) => one(compiler, ["authorization", at], each, file, known));
}

/** The names that a credential of this file's format gives its values. */
function knownValues(compiler: Compiler, file: ProviderFile): (name: string) => boolean {
  const { credentials } = file;
  const isField = (name: string) =>
    name.startsWith("fields.") && compiler.fields.has(name.slice("fields.".length));
  switch (credentials.format) {
    case "oauth2":
    case "oauth2_client_credentials":
      return (name) => name.startsWith("oauth.token.") || isField(name);
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
  file: ProviderFile,
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
      const apiKey = file.credentials.format === "api_key";
      const username = described.config?.username ?? (apiKey ? "${api_key}" : "${username}");
      const password = described.config?.password ?? (apiKey ? "" : "${password}");
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
