import { type Answer, json, problem } from "./answer.ts";
import type { AnswerFault, RateLimitDialect } from "./faults.ts";

const HTML = { "content-type": "text/html; charset=utf-8" };
const CHUNK = "x".repeat(64);

type RateLimitFault = Extract<AnswerFault, { kind: "rate_limit" }>;

/** The answer that `fault` gives in place of the vendor's. */
export function faultAnswer(fault: AnswerFault, nowMs: number): Answer {
  switch (fault.kind) {
    case "status":
      return {
        status: fault.status,
        headers: {
          "content-type": fault.contentType ?? (isJson(fault.body) ? "application/json" : "text/plain"),
        },
        body: fault.body ?? "",
      };
    case "rate_limit":
      return throttled(fault, nowMs);
    case "ok_false_200":
      return json(200, { ok: false, error: fault.error ?? "internal_error" });
    case "invalid_grant":
      return problem(
        fault.status ?? 400,
        "invalid_grant",
        fault.description ?? "the grant is no longer valid",
      );
    case "invalid_client":
      return problem(401, "invalid_client", fault.description ?? "client authentication failed");
    case "html":
      return {
        status: 200,
        headers: HTML,
        body: "<!doctype html><title>Sign in</title><p>Please sign in.</p>",
      };
    case "html_502":
      return {
        status: 502,
        headers: HTML,
        body: "<!doctype html><title>502 Bad Gateway</title><h1>Bad Gateway</h1>",
      };
    case "huge_body":
      return { status: 200, headers: { "content-type": "application/json" }, body: huge(fault.bytes) };
    case "wrong_shape":
      return json(200, { status: "success", data: { id: 1 } });
  }
}

/** True when the vendor's logic runs although its answer is replaced. */
export function redeems(fault: AnswerFault): boolean {
  return "redeems" in fault && fault.redeems === true;
}

function throttled(fault: RateLimitFault, nowMs: number): Answer {
  const { retryAfterMs = 30_000, limit = 100, windowMs = 60_000 } = fault;
  const seconds = Math.ceil(retryAfterMs / 1000);
  const hint = fault.dialect === "body" ? { retry_after: seconds } : {};
  const message =
    fault.dialect === "body"
      ? `Rate limit exceeded. Retry after ${seconds} seconds.`
      : "Rate limit exceeded.";
  const headers = limitHeaders(fault.dialect, {
    seconds,
    limit,
    windowSeconds: Math.ceil(windowMs / 1000),
    nowMs,
  });
  return json(fault.status ?? 429, { error: "rate_limited", message, ...hint }, headers);
}

interface Limit {
  readonly seconds: number;
  readonly limit: number;
  readonly windowSeconds: number;
  readonly nowMs: number;
}

function limitHeaders(
  dialect: RateLimitDialect,
  { seconds, limit, windowSeconds, nowMs }: Limit,
): Record<string, string> {
  // Rounded up: who comes back at that second has waited long enough.
  const epoch = Math.ceil(nowMs / 1000) + seconds;
  const x = { "x-ratelimit-limit": `${limit}`, "x-ratelimit-remaining": "0" };
  switch (dialect) {
    case "retry_after_seconds":
      return { "retry-after": `${seconds}` };
    case "retry_after_date":
      return { "retry-after": new Date(epoch * 1000).toUTCString() };
    case "x_ratelimit_epoch":
      return { ...x, "x-ratelimit-reset": `${epoch}` };
    case "x_ratelimit_delta":
      return { ...x, "x-ratelimit-reset": `${seconds}` };
    case "ratelimit_trio":
      return { "ratelimit-limit": `${limit}`, "ratelimit-remaining": "0", "ratelimit-reset": `${seconds}` };
    case "ratelimit_ietf":
      return {
        ratelimit: `"default";r=0;t=${seconds}`,
        "ratelimit-policy": `"default";q=${limit};w=${windowSeconds}`,
      };
    case "ratelimit_dictionary":
      return { ratelimit: `limit=${limit}, remaining=0, reset=${seconds}` };
    case "body":
    case "none":
      return {};
  }
}

/** Valid JSON of exactly `bytes` bytes, from 10 on. */
function huge(bytes: number): Uint8Array {
  const body = Buffer.alloc(bytes, CHUNK, "latin1");
  body.write('{"pad":"', 0, "latin1");
  body.write('"}', Math.max(0, bytes - 2), "latin1");
  return body;
}

function isJson(body: string | undefined): boolean {
  return body?.startsWith("{") === true;
}
