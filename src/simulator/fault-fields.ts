import {
  type ExpiresInLie,
  type Fault,
  type FaultAction,
  type FaultEndpoint,
  type FaultKind,
  type RateLimitDialect,
  TOKEN_ONLY,
} from "./faults.ts";
import { Fields } from "./fields.ts";

const DAY_MS = 86_400_000;
const MAX_BODY_BYTES = 1 << 30;

const ENDPOINTS: readonly FaultEndpoint[] = ["token", "introspect", "revoke", "api"];

const DIALECTS: readonly RateLimitDialect[] = [
  "retry_after_seconds",
  "retry_after_date",
  "x_ratelimit_epoch",
  "x_ratelimit_delta",
  "ratelimit_trio",
  "ratelimit_ietf",
  "ratelimit_dictionary",
  "body",
  "none",
];

const LIES: readonly ExpiresInLie[] = [
  "absent",
  "string",
  "ms",
  "absolute",
  "zero",
  "negative",
  "too_long",
  "nonsense",
];

// Exhaustive on purpose: a new kind does not compile until its parameters can be read.
const READ: { [K in FaultKind]: (fields: Fields) => Extract<FaultAction, { kind: K }> } = {
  hang: (f) => ({ kind: "hang", ms: f.integer("ms", 0, DAY_MS) }),
  reset_before: () => ({ kind: "reset_before" }),
  status: (f) => ({
    kind: "status",
    status: f.required("status", f.integer("status", 200, 599)),
    body: f.text("body"),
    contentType: contentType(f),
    redeems: f.flag("redeems"),
  }),
  rate_limit: (f) => ({
    kind: "rate_limit",
    dialect: f.required("dialect", f.oneOf("dialect", DIALECTS)),
    status: f.integer("status", 400, 599),
    retryAfterMs: f.integer("retry_after_ms", 0, DAY_MS),
    limit: f.integer("limit", 0, 1e9),
    windowMs: f.integer("window_ms", 1, DAY_MS),
  }),
  ok_false_200: (f) => ({ kind: "ok_false_200", error: f.text("error"), redeems: f.flag("redeems") }),
  invalid_grant: (f) => ({
    kind: "invalid_grant",
    status: f.integer("status", 200, 599),
    description: f.text("description"),
  }),
  invalid_client: (f) => ({ kind: "invalid_client", description: f.text("description") }),
  html: (f) => ({ kind: "html", redeems: f.flag("redeems") }),
  html_502: (f) => ({ kind: "html_502", redeems: f.flag("redeems") }),
  huge_body: (f) => ({
    kind: "huge_body",
    bytes: f.required("bytes", f.integer("bytes", 1, MAX_BODY_BYTES)),
    redeems: f.flag("redeems"),
  }),
  wrong_shape: (f) => ({ kind: "wrong_shape", redeems: f.flag("redeems") }),
  expires_in: (f) => ({ kind: "expires_in", as: f.required("as", f.oneOf("as", LIES)) }),
  omit_refresh_token: () => ({ kind: "omit_refresh_token" }),
  scope: (f) => ({ kind: "scope", scope: f.required("scope", f.text("scope")) }),
  reset_after: () => ({ kind: "reset_after" }),
  truncate: (f) => ({ kind: "truncate", bytes: f.integer("bytes", 0, MAX_BODY_BYTES) }),
  slow: (f) => ({ kind: "slow", ms: f.required("ms", f.integer("ms", 0, DAY_MS)) }),
  late: (f) => ({ kind: "late", ms: f.required("ms", f.integer("ms", 0, DAY_MS)) }),
  clock_skew: (f) => ({
    kind: "clock_skew",
    ms: f.required("ms", f.integer("ms", -36500 * DAY_MS, 36500 * DAY_MS)),
  }),
};

/** Every kind of fault. */
export const FAULT_KINDS = Object.keys(READ).filter((kind): kind is FaultKind => kind in READ);

/** A fault from its JSON form (snake_case). INVALID_REQUEST naming the field under `path` that is wrong. */
export function readFault(value: unknown, path: string): Fault {
  const fields = new Fields(value, path);
  const kind = fields.required("kind", fields.oneOf("kind", FAULT_KINDS));
  const target = {
    endpoint: fields.oneOf("endpoint", ENDPOINTS),
    clientId: fields.text("client_id"),
    subject: fields.text("subject"),
    grantType: fields.text("grant_type"),
    times: fields.integer("times", 1, 1e9),
    probability: fields.fraction("probability"),
  };
  if (TOKEN_ONLY.has(kind) && target.endpoint !== undefined && target.endpoint !== "token") {
    throw fields.wrong("endpoint", `${kind} happens at the token endpoint only`);
  }
  if (target.grantType !== undefined && target.endpoint !== undefined && target.endpoint !== "token") {
    throw fields.wrong("grant_type", "is known at the token endpoint only");
  }
  const action = READ[kind](fields);
  fields.end();
  return { ...target, ...action };
}

function contentType(fields: Fields): string | undefined {
  const value = fields.text("content_type");
  if (value !== undefined && !/^[\x20-\x7e]+$/.test(value)) {
    throw fields.wrong("content_type", "must be printable ASCII");
  }
  return value;
}
