import type { RawAnswer } from "../tokens/vendor.ts";
import { MAX_EXPRESSION_INPUT_BYTES, type ReadAnswer, readAnswer } from "./answer.ts";
import { claimsIn } from "./expression/claims.ts";
import { isObject, type Value } from "./expression/values.ts";
import type { Expression } from "./fence.ts";
import type { Provider } from "./provider.ts";

const MAX_SUBJECT_LENGTH = 256;

/** Who an account is at the vendor, by the answer that brought its token. Undefined: neither file nor answer tells. */
export function subjectOf(
  provider: Provider,
  raw: RawAnswer | undefined,
  fields: Readonly<Record<string, string>>,
): string | undefined {
  if (provider.identity === undefined || raw === undefined) return undefined;
  return subjectIn(provider.identity, readAnswer(raw), fields);
}

/** The expression's text or number over `{status, headers, body, claims, fields}`, as a printable text. */
export function subjectIn(
  expression: Expression,
  answer: ReadAnswer,
  fields: Readonly<Record<string, string>>,
): string | undefined {
  if (answer.bodyBytes > MAX_EXPRESSION_INPUT_BYTES) return undefined;
  const { status, headers, body } = answer;
  const outcome = expression.run({ status, headers, body, claims: claimsOf(body), fields });
  if (!outcome.ok) return undefined;
  const value = typeof outcome.value === "number" ? String(outcome.value) : outcome.value;
  const isFit =
    typeof value === "string" && value.length <= MAX_SUBJECT_LENGTH && /^[\x20-\x7e]+$/.test(value);
  return isFit ? value : undefined;
}

/**
 * Claims of the answer's ID token. Its signature is not checked: it came from the token endpoint itself over TLS (OpenID
 * Connect Core 3.1.3.7), and nothing but the identity is taken from it.
 */
function claimsOf(body: Value): Value {
  const token = isObject(body) ? body["id_token"] : undefined;
  const payload = typeof token === "string" ? token.split(".")[1] : undefined;
  return payload === undefined ? undefined : claimsIn(payload);
}
