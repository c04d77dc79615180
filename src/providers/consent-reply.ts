import { KeyturnError } from "../errors.ts";
import type { ConsentReply } from "../tokens/consent.ts";
import { Secret } from "../tokens/secret.ts";
import { refusedByFile } from "./classify.ts";
import { fieldLookup } from "./fields.ts";
import { Masker } from "./mask.ts";
import type { ConsentPlan, Provider } from "./provider.ts";
import { renderUrl } from "./template.ts";

const MAX_CODE_LENGTH = 8_192;
/** RFC 6749 §4.1.2.1: our registration or request is at fault. `invalid_client` is what some vendors say as well. */
const CONFIGURATION_CODES = [
  "invalid_request",
  "invalid_client",
  "unauthorized_client",
  "unsupported_response_type",
  "invalid_scope",
];
const SERVER_CODES = ["server_error", "temporarily_unavailable"];

/**
 * What the query of a redirect says (RFC 6749 §4.1.2, RFC 9207). `secrets` are those that it may repeat. Never throws for
 * what the provider sent.
 */
export function consentReply(
  provider: Provider,
  query: URLSearchParams,
  fields: Readonly<Record<string, string>>,
  secrets: readonly string[],
): ConsentReply {
  const { consent } = provider;
  if (consent === undefined) return broken("no_consent", "This provider's file names no authorize URL.");
  const of = (name: string) => query.getAll(nameOf(consent, name));
  const repeated = ["code", "error", "iss"].find((name) => of(name).length > 1);
  if (repeated !== undefined) return broken("repeated", `The redirect has ${repeated} more than once.`);
  const [iss] = of("iss");
  // Before anything else: another server's answer must not end what was asked of this one.
  if (iss !== undefined && !isIssuer(provider, consent, iss, fields))
    return broken("iss", "The redirect comes from another authorization server than the one that was asked.");
  const [error] = of("error");
  if (error !== undefined) return refusal(provider, error, of("error_description")[0], query, secrets);
  const [code] = of("code");
  if (code === undefined || code === "" || code.length > MAX_CODE_LENGTH)
    return broken("no_code", "The redirect brings no code.");
  const brought = fieldsOf(provider, query);
  return typeof brought === "string"
    ? broken("callback_field", brought)
    : { kind: "code", code: new Secret(code), fields: brought };
}

function broken(cause: string, message: string): ConsentReply {
  return { kind: "invalid", cause, message };
}

function nameOf(consent: ConsentPlan, name: string): string {
  return consent.callbackRename[name] || name;
}

/** RFC 9207 §2.4: a plain comparison of texts. Without a known issuer, one on the host that was asked. */
function isIssuer(
  provider: Provider,
  consent: ConsentPlan,
  iss: string,
  fields: Readonly<Record<string, string>>,
): boolean {
  try {
    const lookup = fieldLookup(provider.fields, fields);
    if (consent.issuer !== undefined) {
      const known = renderUrl(consent.issuer, lookup).href;
      return iss === known || `${iss}/` === known;
    }
    return URL.canParse(iss) && new URL(iss).origin === renderUrl(consent.url, lookup).origin;
  } catch (error) {
    if (error instanceof KeyturnError) return false;
    throw error;
  }
}

/** The file's own rules see the redirect as an answer whose body is the query. */
function refusal(
  provider: Provider,
  error: string,
  description: string | undefined,
  query: URLSearchParams,
  secrets: readonly string[],
): ConsentReply {
  const masker = new Masker(secrets);
  const body = { ...Object.fromEntries(query), error };
  const answer = { status: 302, headers: {}, body, bodyBytes: 0, requestedAtMs: 0, receivedAtMs: 0 };
  const byFile = refusedByFile(answer, provider.response, masker);
  const byDefault = CONFIGURATION_CODES.includes(error)
    ? "fix_configuration"
    : SERVER_CODES.includes(error)
      ? "transient"
      : "denied";
  return {
    kind: "refused",
    // What would ask for a new authorization elsewhere is what has just been denied here.
    class: byFile === undefined ? byDefault : byFile.class === "reauth" ? "denied" : byFile.class,
    code: byFile?.code ?? masker.code(error),
    message: masker.message(description ?? byFile?.message ?? "The provider did not authorize."),
  };
}

/** A text says what is missing or not as it should be. */
function fieldsOf(provider: Provider, query: URLSearchParams): Readonly<Record<string, string>> | string {
  const fields: [string, string][] = [];
  for (const { name, parameter, required } of provider.callbackFields) {
    const values = query.getAll(parameter);
    const [value = ""] = values;
    if (value === "" && !required) continue;
    if (values.length !== 1 || value === "") return `The redirect does not bring ${parameter} once.`;
    if (!provider.fields.get(name)?.accepts(value))
      return `The redirect's ${parameter} is not ${provider.fields.get(name)?.expected ?? "as expected"}.`;
    fields.push([name, value]);
  }
  return Object.fromEntries(fields);
}
