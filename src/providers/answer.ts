import type { RawAnswer } from "../tokens/vendor.ts";
import { isArray, type Value } from "./expression/values.ts";
import type { Expression, Outcome } from "./fence.ts";

/** Larger answers are still read, but no expression of a file sees them. */
export const MAX_EXPRESSION_INPUT_BYTES = 65_536;
const MAX_NESTING = 64;

/** An answer, parsed as far as it can be. */
export interface ReadAnswer {
  readonly status: number;
  /** The first value of each header, under its lower-case name. */
  readonly headers: Readonly<Record<string, string>>;
  /** Undefined when the body is neither JSON nor a form. */
  readonly body: Value;
  readonly bodyBytes: number;
  readonly requestedAtMs: number;
  readonly receivedAtMs: number;
}

export function readAnswer(answer: RawAnswer): ReadAnswer {
  const head = readHead(answer);
  const text = Buffer.from(answer.body).toString("utf8");
  const body = parseBody(text, head.headers["content-type"] ?? "");
  return { ...head, body, bodyBytes: answer.body.length };
}

/** An answer whose body nobody looks into. */
export function readHead({
  status,
  headers,
  requestedAtMs,
  receivedAtMs,
}: Omit<RawAnswer, "body">): ReadAnswer {
  const named = new Map<string, string>();
  for (const [name, value] of headers) {
    const lower = name.toLowerCase();
    if (!named.has(lower)) named.set(lower, value);
  }
  return {
    status,
    headers: Object.fromEntries(named),
    body: undefined,
    bodyBytes: 0,
    requestedAtMs,
    receivedAtMs,
  };
}

function parseBody(text: string, contentType: string): Value {
  try {
    return pruned(JSON.parse(text.replace(/^\ufeff/, "")), MAX_NESTING);
  } catch {
    return parseForm(text, contentType);
  }
}

/** What is nested deeper than anything real does not get to whoever recurses later. */
function pruned(value: Value, depth: number): Value {
  if (typeof value !== "object" || value === null) return value;
  if (depth === 0) return null;
  if (isArray(value)) return value.map((item) => pruned(item, depth - 1));
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, pruned(member, depth - 1)]));
}

/** Some token endpoints answer in the form encoding, under that type or as plain text. */
function parseForm(text: string, contentType: string): Value {
  const declared = contentType.toLowerCase().startsWith("application/x-www-form-urlencoded");
  if (!declared && !/^(access_token|error|error_description|token_type|refresh_token)=[^\s<>{}]*$/.test(text))
    return undefined;
  const form = new URLSearchParams(text);
  const members = new Map<string, string>();
  for (const [name, value] of form) if (!members.has(name)) members.set(name, value);
  return members.size === 0 ? undefined : Object.fromEntries(members);
}

/** What a file's expressions are evaluated over: `{status, headers, body}`. */
export function runOver(expression: Expression, answer: ReadAnswer): Outcome {
  if (answer.bodyBytes > MAX_EXPRESSION_INPUT_BYTES)
    return { ok: false, why: "the answer is too large for expressions" };
  const { status, headers, body } = answer;
  return expression.run({ status, headers, body });
}

/** The expression's verdict; undefined when it has none to give. */
export function judge(expression: Expression | undefined, answer: ReadAnswer): boolean | undefined {
  const outcome = expression === undefined ? undefined : runOver(expression, answer);
  return outcome?.ok && typeof outcome.value === "boolean" ? outcome.value : undefined;
}

/** True for a status of 200 to 299. */
export function isSuccessStatus(status: number): boolean {
  return status >= 200 && status <= 299;
}

/** The vendor's clock when it answered, epoch milliseconds; undefined when not said, or more than a day off. */
export function vendorNowMs(answer: ReadAnswer): number | undefined {
  const date = answer.headers["date"];
  const atMs = date === undefined ? Number.NaN : Date.parse(date);
  return Math.abs(atMs - answer.receivedAtMs) <= 86_400_000 ? atMs : undefined;
}
