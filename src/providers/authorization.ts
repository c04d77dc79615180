import { invalid, KeyturnError } from "../errors.ts";
import { activeVersion, type Credential } from "../tokens/credential.ts";
import { Secret } from "../tokens/secret.ts";
import type { Authorization, ContextClient, UseContext } from "../tokens/vendor.ts";
import { isObject, type Value, type ValueObject } from "./expression/values.ts";
import type { Expression } from "./fence.ts";
import { fieldLookup } from "./fields.ts";
import type { AuthorizationPlan, Provider } from "./provider.ts";
import { customerValues } from "./request-values.ts";
import { headerValue, render, renderUrl } from "./template.ts";

/** How the account's credential goes into a request, and the client's further secrets, as its provider's file says. */
export function authorizationFor(provider: Provider, context: UseContext): Authorization {
  const { credential, account } = context;
  const values = { ...valuesOf(credential, account.fields), client: clientValues(provider, context.client) };
  const headers: [string, string][] = [];
  const query: [string, string][] = [];
  const plans = provider.tokens.get(context.slot)?.authorization ?? provider.authorization;
  for (const plan of plans) place(plan, credential, values, headers, query);
  return {
    accessToken: new Secret(mainSecret(plans, credential, values)),
    tokenType: tokenTypeOf(credential),
    headers: new Secret(Object.fromEntries(headers)),
    queryParameters: new Secret(Object.fromEntries(query)),
    baseUrl: baseUrlOf(provider, account.fields),
  };
}

/**
 * What templates, paths and expressions of `authorization` read, beside `client.…`: `oauth.token.…`, the values of a
 * secret or of the customer's minting secrets, and `fields.…`.
 */
function valuesOf(credential: Credential, fields: Readonly<Record<string, string>>): ValueObject {
  switch (credential.kind) {
    case "oauth":
      return {
        ...customerValues(credential.source),
        oauth: { token: { ...credential.members.reveal(), access_token: credential.accessToken.reveal() } },
        fields,
      };
    case "unminted":
      throw new KeyturnError("ACCOUNT_PENDING", "No token has been fetched for this account yet.");
    default: {
      const values = Object.entries(activeVersion(credential).values).map(([name, value]) => [
        name,
        value.reveal(),
      ]);
      return { ...Object.fromEntries(values), fields };
    }
  }
}

function clientValues(
  { name: provider, clientFields }: Provider,
  client: ContextClient | undefined,
): ValueObject {
  const values = clientFields.map((name) => {
    const secret = client?.fields?.[name];
    if (secret !== undefined) return [name, secret.reveal()] as const;
    throw new KeyturnError(
      "CLIENT_MISCONFIGURED",
      `The OAuth client has no ${name}, which calls of this provider's API carry; give it one: keyturn clients put ${provider} ${client?.record.name ?? "NAME"} --client-id ID --secret-file ${name}=PATH`,
      { metadata: { provider, client: client?.record.name ?? "", cause: "secret_field_missing" } },
    );
  });
  return Object.fromEntries(values);
}

function place(
  plan: AuthorizationPlan,
  credential: Credential,
  values: ValueObject,
  headers: [string, string][],
  query: [string, string][],
): void {
  const lookup = (name: string) => textAt(values, name);
  switch (plan.format) {
    case "bearer": {
      const token = textAt(values, plan.path ?? defaultPath(credential));
      headers.push(["Authorization", headerValue("Authorization", `Bearer ${token}`)]);
      return;
    }
    case "basic": {
      // An empty user name or password is a way some providers take a key.
      const maybeEmpty = (name: string) => (values[name] === "" ? "" : lookup(name));
      const username = render(plan.username, maybeEmpty);
      if (username.includes(":")) throw invalid("username", "must not contain a colon (RFC 7617)");
      const pair = Buffer.from(`${username}:${render(plan.password, maybeEmpty)}`).toString("base64");
      headers.push(["Authorization", `Basic ${pair}`]);
      return;
    }
    case "header":
      headers.push([plan.name, headerValue(plan.name, render(plan.value, lookup))]);
      return;
    case "query":
      query.push([plan.name, render(plan.value, lookup)]);
      return;
    case "custom":
      for (const [name, expression] of plan.headers)
        headers.push([name, headerValue(name, computed(name, expression, values))]);
      for (const [name, expression] of plan.query) query.push([name, computed(name, expression, values)]);
  }
}

function defaultPath(credential: Credential): string {
  if (credential.kind === "oauth") return "oauth.token.access_token";
  return credential.kind === "api_key" ? "api_key" : credential.kind === "basic" ? "password" : "token";
}

function mainSecret(
  plans: readonly AuthorizationPlan[],
  credential: Credential,
  values: ValueObject,
): string {
  const bearer = plans.find((plan) => plan.format === "bearer");
  if (bearer?.path !== undefined) return textAt(values, bearer.path);
  if (credential.kind === "oauth") return credential.accessToken.reveal();
  const names = [defaultPath(credential), ...Object.keys(values)];
  return textAt(
    values,
    names.find((name) => typeof values[name] === "string" && values[name] !== "") ?? names[0] ?? "",
  );
}

/** The text at a dotted path; own members only. */
function textAt(values: ValueObject, path: string): string {
  let value: Value = values;
  for (const step of path.split("."))
    value = isObject(value) && Object.hasOwn(value, step) ? value[step] : undefined;
  if (typeof value === "string" && value !== "") return value;
  throw invalid("credential", `has no ${path}, which the provider's file puts into requests`);
}

function computed(name: string, expression: Expression, values: ValueObject): string {
  const outcome = expression.run(values);
  if (outcome.ok && typeof outcome.value === "string") return outcome.value;
  throw invalid(name, "its expression in the provider's file gives no text for this credential");
}

function tokenTypeOf(credential: Credential): string {
  if (credential.kind === "oauth") return credential.tokenType;
  return credential.kind === "bearer" ? "Bearer" : credential.kind === "basic" ? "Basic" : "ApiKey";
}

/** Empty when the file has none, or the account's fields do not make a permitted one: a token is still of use then. */
function baseUrlOf(provider: Provider, fields: Readonly<Record<string, string>>): string {
  if (provider.baseUrl === undefined) return "";
  try {
    return renderUrl(provider.baseUrl, fieldLookup(provider.fields, fields)).href.replace(/\/$/, "");
  } catch (error) {
    if (error instanceof KeyturnError) return "";
    throw error;
  }
}
