import { KeyturnError } from "../errors.ts";
import type { ConsentAsked, ConsentReply } from "../tokens/consent.ts";
import { Secret } from "../tokens/secret.ts";
import { judge, type ReadAnswer } from "./answer.ts";
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

/** What the query of a redirect says (RFC 6749 §4.1.2, RFC 9207). Never throws for what the provider sent. */
export function consentReply(
  provider: Provider,
  query: URLSearchParams,
  { fields, given, secrets }: ConsentAsked,
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
  if (!consent.bringsCode) return withoutCode(provider, consent, query, { fields, given, secrets });
  const [code] = of("code");
  if (code === undefined || code === "" || code.length > MAX_CODE_LENGTH)
    return broken("no_code", "The redirect brings no code.");
  const brought = fieldsOf(provider, query, given);
  return typeof brought === "string"
    ? broken("callback_field", brought)
    : { kind: "code", code: new Secret(code), fields: brought };
}

/** Consent alone: an app's installation, or an administrator's word. */
function withoutCode(
  provider: Provider,
  { granted }: ConsentPlan,
  query: URLSearchParams,
  { given, secrets }: ConsentAsked,
): ConsentReply {
  if (granted !== undefined && judge(granted, answerOf(Object.fromEntries(query))) !== true)
    return refusal(provider, "not_granted", undefined, query, secrets);
  const brought = fieldsOf(provider, query, given);
  return typeof brought === "string"
    ? broken("callback_field", brought)
    : { kind: "consented", fields: brought };
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
  const answer = answerOf({ ...Object.fromEntries(query), error });
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

function answerOf(body: Readonly<Record<string, string>>): ReadAnswer {
  return { status: 302, headers: {}, body, bodyBytes: 0, requestedAtMs: 0, receivedAtMs: 0 };
}

/** A text says what is missing or not as it should be. */
function fieldsOf(
  provider: Provider,
  query: URLSearchParams,
  given: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> | string {
  const fields: [string, string][] = [];
  for (const { name, parameter, required, overrides } of provider.callbackFields) {
    const values = query.getAll(parameter);
    const [value = ""] = values;
    if (value === "" && !required) continue;
    if (values.length !== 1 || value === "") return `The redirect does not bring ${parameter} once.`;
    if (!provider.fields.get(name)?.accepts(value))
      return `The redirect's ${parameter} is not ${provider.fields.get(name)?.expected ?? "as expected"}.`;
    const before = Object.hasOwn(given, name) ? given[name] : undefined;
    if (before !== undefined && before !== value && !overrides)
      return `The redirect's ${parameter} is another one than the authorization was started for.`;
    fields.push([name, value]);
  }
  return Object.fromEntries(fields);
}
