import type { Interpretation } from "../tokens/vendor.ts";
import { isSuccessStatus, judge, type ReadAnswer, runOver } from "./answer.ts";
import { isObject, type Value } from "./expression/values.ts";
import type { Masker } from "./mask.ts";
import type { ResponsePlan } from "./provider.ts";
import { rateLimitsOf, throttledForMs } from "./rate-limit.ts";
import { retryAfter } from "./reset-time.ts";

type Refused = Extract<Interpretation, { kind: "refused" }>;
type FailureClass = Refused["class"];

const CLASSES: readonly FailureClass[] = ["reauth", "fix_configuration", "rate_limited", "transient"];
/** RFC 6749 §5.2, but for `invalid_grant`. */
const CONFIGURATION_CODES = [
  "invalid_request",
  "invalid_client",
  "unauthorized_client",
  "unsupported_grant_type",
  "invalid_scope",
];
const CLIENT_FAULTS = ["invalid_client", "unauthorized_client"];
/** RFC 6749 §4.1.2.1: the server's own trouble. */
const SERVER_CODES = ["server_error", "temporarily_unavailable"];

/** An OAuth error, wherever the provider put it: in a JSON or form body, or in the query of a redirect. */
interface OAuthError {
  readonly code: string;
  readonly description: string | undefined;
}

function oauthErrorOf(answer: ReadAnswer): OAuthError | undefined {
  return errorIn(answer.body) ?? errorIn(redirectQuery(answer));
}

function errorIn(body: Value): OAuthError | undefined {
  if (!isObject(body)) return undefined;
  const code = ownText(body, "error");
  return code === undefined ? undefined : { code, description: ownText(body, "error_description") };
}

function ownText(body: { readonly [key: string]: Value }, name: string): string | undefined {
  const value = Object.hasOwn(body, name) ? body[name] : undefined;
  return typeof value === "string" && value !== "" ? value : undefined;
}

function redirectQuery(answer: ReadAnswer): Value {
  const location = answer.headers["location"];
  const at = location?.indexOf("?") ?? -1;
  return location === undefined || at === -1
    ? undefined
    : Object.fromEntries(new URLSearchParams(location.slice(at)));
}

/** True when the answer carries one of OAuth's own error codes, so that the provider certainly refused. */
export function isOAuthRefusal(answer: ReadAnswer): boolean {
  const code = oauthErrorOf(answer)?.code;
  return (
    code !== undefined &&
    (code === "invalid_grant" || CONFIGURATION_CODES.includes(code) || SERVER_CODES.includes(code))
  );
}

/** The file's rule about a failure; undefined when the file has none, or its expression fails or names no class. */
export function refusedByFile(answer: ReadAnswer, plan: ResponsePlan, masker: Masker): Refused | undefined {
  const said = saidByFile(answer, plan);
  return said.class === undefined ? undefined : refused(answer, plan, masker, said.class, "file", said);
}

/** The default classification: invalid_grant, what the file calls a throttling, 429, OAuth's other codes, 401, the rest. */
export function refusedByDefault(answer: ReadAnswer, plan: ResponsePlan, masker: Masker): Refused {
  const said = saidByFile(answer, plan);
  const code = oauthErrorOf(answer)?.code;
  const [failure, rule] =
    code !== "invalid_grant" && judge(plan.rateLimits.throttled, answer) === true
      ? (["rate_limited", "throttled"] as const)
      : defaultClass(answer.status, code);
  return refused(answer, plan, masker, failure, `default:${rule}`, said);
}

/** Status codes with which a gateway says that it does not know what became of the request. */
export function isGatewayDoubt(status: number): boolean {
  return status === 500 || status === 502 || status === 504 || (status >= 520 && status <= 527);
}

function defaultClass(status: number, code: string | undefined): readonly [FailureClass, string] {
  if (code === "invalid_grant") return ["reauth", code];
  if (status === 429) return ["rate_limited", "429"];
  if (code !== undefined && CONFIGURATION_CODES.includes(code)) return ["fix_configuration", code];
  if (code !== undefined && SERVER_CODES.includes(code)) return ["transient", code];
  if (status === 401) return ["reauth", "401"];
  if (status >= 500) return ["transient", "5xx"];
  if (status === 408) return ["transient", "408"];
  return ["transient", "other"];
}

interface Said {
  readonly class: FailureClass | undefined;
  readonly code: string | undefined;
  readonly message: string | undefined;
  readonly retryAfterMs: number | undefined;
  readonly clientFault: boolean | undefined;
}

const SILENT: Said = {
  class: undefined,
  code: undefined,
  message: undefined,
  retryAfterMs: undefined,
  clientFault: undefined,
};

/** Reads the expression's result by type; members of another type are as if not said. */
function saidByFile(answer: ReadAnswer, plan: ResponsePlan): Said {
  const outcome = plan.errors === undefined ? undefined : runOver(plan.errors, answer);
  if (outcome === undefined || !outcome.ok || !isObject(outcome.value)) return SILENT;
  const { value } = outcome;
  const wait = value["retryAfter"];
  const fault = value["clientFault"];
  return {
    class: CLASSES.find((each) => each === value["class"]),
    code: typeof value["code"] === "number" ? String(value["code"]) : ownText(value, "code"),
    message: ownText(value, "message"),
    retryAfterMs: retryAfter(
      typeof wait === "number" ? wait.toFixed(3) : typeof wait === "string" ? wait : undefined,
      answer,
    ),
    clientFault: typeof fault === "boolean" ? fault : undefined,
  };
}

function refused(
  answer: ReadAnswer,
  plan: ResponsePlan,
  masker: Masker,
  failure: FailureClass,
  rule: string,
  said: Said,
): Refused {
  const oauth = oauthErrorOf(answer);
  const code = said.code ?? oauth?.code;
  const message = said.message ?? oauth?.description ?? fallbackMessage(answer);
  const rateLimit = rateLimitsOf(answer, plan.rateLimits);
  return {
    kind: "refused",
    class: failure,
    code: code === undefined ? undefined : masker.code(code),
    message: masker.message(message),
    rule,
    retryAfterMs:
      said.retryAfterMs ?? (failure === "rate_limited" ? throttledForMs(rateLimit) : rateLimit?.retryAfterMs),
    rateLimit,
    clientFault:
      failure === "fix_configuration" &&
      (said.clientFault ?? [code, oauth?.code].some((each) => CLIENT_FAULTS.includes(each ?? ""))),
  };
}

function fallbackMessage(answer: ReadAnswer): string {
  const said = isObject(answer.body)
    ? (ownText(answer.body, "message") ?? ownText(answer.body, "error"))
    : undefined;
  if (said !== undefined) return said;
  return isSuccessStatus(answer.status)
    ? "The provider answered with an error."
    : `The provider answered ${answer.status}.`;
}
