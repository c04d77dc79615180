import { describe, expect, it } from "vitest";
import { readAnswer } from "../../src/providers/answer.ts";
import { isThrottled, limitHeaders, rateLimitsOf } from "../../src/providers/rate-limit.ts";

import { answerOf, interpretation, NOW_MS, oauthFile, providerOf } from "./stage.ts";

const SECONDS = NOW_MS / 1_000;

/** What the headers and the body of an answer come to under `rate_limits: DIALECT`. */
function normalised(dialect: string, headers: Record<string, string>, body: unknown = "", status = 429) {
  const { rateLimits } = providerOf(oauthFile(dialect === "" ? "" : `rate_limits: ${dialect}`)).response;
  const answer = readAnswer(answerOf(status, body, headers, { receivedAtMs: NOW_MS }));
  const limits = rateLimitsOf(answer, rateLimits);
  const throttled = isThrottled(answer, rateLimits);
  return { limits, throttled, headers: limits && Object.fromEntries(limitHeaders(limits, throttled)) };
}

interface Row {
  readonly says: string;
  readonly dialect: string;
  readonly headers?: Record<string, string>;
  readonly body?: unknown;
  readonly status?: number;
  readonly expected: Record<string, string>;
}

const trio = (limit: string, remaining: string, reset: string) => ({
  "ratelimit-limit": limit,
  "ratelimit-remaining": remaining,
  "ratelimit-reset": reset,
  ratelimit: `"default";r=${remaining};t=${reset}`,
  "ratelimit-policy": `"default";q=${limit}`,
  "retry-after": reset,
});

const ROWS: readonly Row[] = [
  {
    says: "Retry-After in seconds",
    dialect: "",
    headers: { "retry-after": "30" },
    expected: { "retry-after": "30" },
  },
  {
    says: "Retry-After as a date",
    dialect: "",
    headers: { "retry-after": "Thu, 01 Jan 2026 00:00:30 GMT" },
    expected: { "retry-after": "30" },
  },
  {
    says: "Retry-After in milliseconds",
    dialect: "{ retry_after: { header: Retry-After, unit: delta_ms } }",
    headers: { "retry-after": "1500" },
    expected: { "retry-after": "2" },
  },
  {
    says: "x-ratelimit-reset in epoch seconds",
    dialect: "{ reset: epoch }",
    headers: {
      "x-ratelimit-limit": "60",
      "x-ratelimit-remaining": "0",
      "x-ratelimit-reset": `${SECONDS + 30}`,
    },
    expected: trio("60", "0", "30"),
  },
  {
    says: "x-ratelimit-reset in epoch milliseconds",
    dialect: "{ reset: epoch_ms }",
    headers: {
      "x-ratelimit-limit": "60",
      "x-ratelimit-remaining": "0",
      "x-ratelimit-reset": `${NOW_MS + 29_001}`,
    },
    expected: trio("60", "0", "30"),
  },
  {
    says: "x-ratelimit-reset in seconds from now",
    dialect: "{ reset: delta }",
    headers: { "x-ratelimit-limit": "60", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "30" },
    expected: trio("60", "0", "30"),
  },
  {
    says: "x-ratelimit-reset as a time of day in ISO 8601",
    dialect: "{ reset: date }",
    headers: {
      "x-ratelimit-limit": "60",
      "x-ratelimit-remaining": "0",
      "x-ratelimit-reset": "2026-01-01 00:00:30 UTC",
    },
    expected: trio("60", "0", "30"),
  },
  {
    says: "x-rate-limit-reset in epoch seconds",
    dialect: "{ reset: epoch }",
    headers: {
      "x-rate-limit-limit": "60",
      "x-rate-limit-remaining": "0",
      "x-rate-limit-reset": `${SECONDS + 30}`,
    },
    expected: trio("60", "0", "30"),
  },
  {
    says: "x-rate-limit-reset in seconds from now",
    dialect: "{ reset: delta }",
    headers: { "x-rate-limit-limit": "60", "x-rate-limit-remaining": "0", "x-rate-limit-reset": "30" },
    expected: trio("60", "0", "30"),
  },
  {
    says: "ratelimit-reset in seconds from now",
    dialect: "",
    headers: { "ratelimit-limit": "60", "ratelimit-remaining": "0", "ratelimit-reset": "30" },
    expected: trio("60", "0", "30"),
  },
  {
    says: "ratelimit-reset in epoch seconds",
    dialect: "{ reset: epoch }",
    headers: { "ratelimit-limit": "60", "ratelimit-remaining": "0", "ratelimit-reset": `${SECONDS + 30}` },
    expected: trio("60", "0", "30"),
  },
  {
    says: "only what is left",
    dialect: "",
    headers: { "x-ratelimit-remaining": "0" },
    expected: { "ratelimit-remaining": "0", ratelimit: '"default";r=0' },
  },
  {
    says: "the IETF pair",
    dialect: "",
    headers: { ratelimit: '"burst";r=0;t=30', "ratelimit-policy": '"burst";q=60;w=60' },
    expected: {
      ...trio("60", "0", "30"),
      ratelimit: '"burst";r=0;t=30',
      "ratelimit-policy": '"burst";q=60;w=60',
    },
  },
  {
    says: "the older dictionary",
    dialect: "",
    headers: { ratelimit: "limit=60, remaining=0, reset=30" },
    expected: trio("60", "0", "30"),
  },
  {
    says: "a vendor's own names, milliseconds from now",
    dialect:
      "{ windows: [{ limit: X-Acme-Max, remaining: X-Acme-Left, reset: { header: X-Acme-Wait-Ms, unit: delta_ms }, window: 10s }] }",
    headers: { "x-acme-max": "60", "x-acme-left": "0", "x-acme-wait-ms": "30000" },
    expected: { ...trio("60", "0", "30"), "ratelimit-policy": '"default";q=60;w=10' },
  },
  {
    says: "a duration as Go writes it",
    dialect:
      "{ windows: [{ limit: x-limit, remaining: x-left, reset: { header: x-reset, unit: duration } }] }",
    headers: { "x-limit": "60", "x-left": "0", "x-reset": "1m30.5s" },
    expected: trio("60", "0", "91"),
  },
  {
    says: "what is used instead of what is left",
    dialect: "{ windows: [{ limit: x-limit, used: x-used, reset: x-reset }] }",
    headers: { "x-limit": "60", "x-used": "61", "x-reset": "30" },
    expected: trio("60", "0", "30"),
  },
  {
    says: "used and limit in one header",
    dialect:
      "{ windows: [{ limit: { value: '$substringAfter(headers.`x-call-limit`, \"/\")' }, used: { value: '$substringBefore(headers.`x-call-limit`, \"/\")' } }] }",
    headers: { "x-call-limit": "32/40" },
    expected: {
      "ratelimit-limit": "40",
      "ratelimit-remaining": "8",
      ratelimit: '"default";r=8',
      "ratelimit-policy": '"default";q=40',
    },
  },
  {
    says: "several windows, the exhausted one that stays shut longest first",
    dialect:
      "{ windows: [{ name: minute, limit: x-min, remaining: x-min-left, reset: x-min-reset, window: 1m }, { name: day, limit: x-day, remaining: x-day-left, reset: x-day-reset, window: 1d }] }",
    headers: {
      "x-min": "60",
      "x-min-left": "0",
      "x-min-reset": `${NOW_MS + 30_000}`,
      "x-day": "5000",
      "x-day-left": "0",
      "x-day-reset": `${NOW_MS + 4_000_000}`,
    },
    expected: {
      "ratelimit-limit": "5000",
      "ratelimit-remaining": "0",
      "ratelimit-reset": "4000",
      ratelimit: '"day";r=0;t=4000, "minute";r=0;t=30',
      "ratelimit-policy": '"day";q=5000;w=86400, "minute";q=60;w=60',
      "retry-after": "4000",
    },
  },
  {
    says: "a wait in a header of another name",
    dialect: "{ retry_after: { header: X-Retry-In, unit: delta } }",
    headers: { "x-retry-in": "30" },
    expected: { "retry-after": "30" },
  },
  {
    says: "a number of seconds in the body",
    dialect: "{ retry_after: { value: body.error.retry_after_seconds } }",
    body: { error: { retry_after_seconds: 30 } },
    expected: { "retry-after": "30" },
  },
  {
    says: "a time inside the text of an error",
    dialect:
      "{ retry_after: { value: '$match(body.error.message, /Retry after ([0-9TZ:.-]+)/)[0].groups[0]' } }",
    body: { error: { message: "User-rate limit exceeded. Retry after 2026-01-01T00:00:30.000Z" } },
    expected: { "retry-after": "30" },
  },
  {
    says: "a duration inside the body",
    dialect: "{ retry_after: { value: 'body.details.retryDelay' } }",
    body: { details: [{ retryDelay: "30s" }] },
    expected: { "retry-after": "30" },
  },
  {
    says: "throttling by 403",
    dialect: "{ reset: epoch, throttled: 'status = 403 and headers.`x-ratelimit-remaining` = \"0\"' }",
    headers: {
      "x-ratelimit-limit": "60",
      "x-ratelimit-remaining": "0",
      "x-ratelimit-reset": `${SECONDS + 30}`,
    },
    status: 403,
    expected: trio("60", "0", "30"),
  },
  {
    says: "throttling by 400",
    dialect: "{ throttled: 'status = 400 and body.errors.extensions.code = \"RATELIMITED\"' }",
    headers: { "x-ratelimit-limit": "60", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "30" },
    body: { errors: [{ extensions: { code: "RATELIMITED" } }] },
    status: 400,
    expected: trio("60", "0", "30"),
  },
  {
    says: "the standard headers where the vendor's own are missing",
    dialect: "{ windows: [{ limit: x-limit, remaining: x-left }] }",
    headers: { "ratelimit-limit": "60", "ratelimit-remaining": "0", "ratelimit-reset": "30" },
    expected: trio("60", "0", "30"),
  },
];

describe("a vendor's dialect of rate limits, as data", () => {
  it.each(ROWS)("$says", ({ dialect, headers = {}, body, status = 429, expected }) => {
    const read = normalised(dialect, headers, body, status);
    expect(read.headers).toEqual(expected);
    expect(read.throttled).toBe(true);
  });

  it("tells no wait of an answer that is not a throttling", () => {
    const headers = { "x-ratelimit-limit": "60", "x-ratelimit-remaining": "5", "x-ratelimit-reset": "30" };
    const read = normalised(
      "{ throttled: 'status = 403 and headers.`x-ratelimit-remaining` = \"0\"' }",
      headers,
      "",
      403,
    );
    expect(read.throttled).toBe(false);
    expect(read.headers).not.toHaveProperty("retry-after");
  });

  it.each(["soon", "", "NaN", "-", "1e9", "2026-13-45T99:99:99Z", "Thu, 99 Foo 2026", "1m30", "0x10"])(
    "ignores a malformed value: %j",
    (value) => {
      for (const unit of ["delta", "delta_ms", "epoch", "epoch_ms", "date", "duration"]) {
        const dialect = `{ windows: [{ limit: x-limit, remaining: x-left, reset: { header: x-reset, unit: ${unit} } }] }`;
        const { limits } = normalised(dialect, { "x-limit": value, "x-left": value, "x-reset": value });
        expect(limits).toBeUndefined();
      }
    },
  );

  it("bounds what is negative or absurd", () => {
    const of = (unit: string, value: string) =>
      normalised(`{ windows: [{ reset: { header: x-reset, unit: ${unit} } }] }`, { "x-reset": value }).limits
        ?.resetAfterMs;
    const year = 365 * 86_400_000;
    expect(of("delta", "-30")).toBe(0);
    expect(of("delta", "999999999999999")).toBe(year);
    expect(of("delta_ms", "999999999999999")).toBe(year);
    expect(of("epoch", "1")).toBe(0);
    expect(of("epoch_ms", "999999999999999")).toBe(year);
    expect(of("duration", "999999999h")).toBe(year);
    expect(of("date", "9999-12-31T23:59:59Z")).toBe(year);
  });

  it("counts points in time from the vendor's own clock", () => {
    const date = "Thu, 01 Jan 2026 00:01:00 GMT";
    const of = (value: string) =>
      normalised("{ windows: [{ reset: x-reset }] }", { "x-reset": value, date }).limits?.resetAfterMs;
    expect(of(`${SECONDS + 90}`)).toBe(30_000);
    expect(of("2026-01-01T00:01:30Z")).toBe(30_000);
    expect(of("30")).toBe(30_000);
  });
});

describe("a token endpoint's throttling in a vendor's dialect", () => {
  const file = providerOf(
    oauthFile(
      "rate_limits: { reset: epoch, throttled: 'status = 403 and headers.`x-ratelimit-remaining` = \"0\"' }",
    ),
  );
  const headers = {
    "x-ratelimit-limit": "60",
    "x-ratelimit-remaining": "0",
    "x-ratelimit-reset": `${SECONDS + 30}`,
  };

  it("is rate_limited, typed, and waits for the exhausted window", async () => {
    const answer = answerOf(403, { message: "slow down" }, headers, { receivedAtMs: NOW_MS });
    expect(await interpretation(answer, file)).toMatchObject({
      kind: "refused",
      class: "rate_limited",
      rule: "default:throttled",
      retryAfterMs: 30_000,
      rateLimit: { limit: 60, remaining: 0, resetAfterMs: 30_000, retryAfterMs: undefined },
    });
  });

  it.each([
    ["", { "x-ratelimit-reset": "300" }],
    ["", { "x-rate-limit-reset": `${SECONDS + 300}` }],
    ["", { ratelimit: '"burst";r=0;t=300' }],
    ["rate_limits: { reset: date }", { "ratelimit-reset": "2026-01-01T00:05:00Z" }],
    [
      "rate_limits: { windows: [{ reset: { header: x-wait-ms, unit: delta_ms } }] }",
      { "x-wait-ms": "300000" },
    ],
  ])("waits for the reset where a 429 says nothing else: %s %j", async (dialect, told) => {
    const answer = answerOf(429, "", told, { receivedAtMs: NOW_MS });
    expect(await interpretation(answer, providerOf(oauthFile(dialect)))).toMatchObject({
      class: "rate_limited",
      retryAfterMs: 300_000,
    });
  });

  it("never hides that the grant has ended", async () => {
    const answer = answerOf(403, { error: "invalid_grant" }, headers);
    expect(await interpretation(answer, file)).toMatchObject({ class: "reauth" });
  });

  it("is not read into a refusal of another kind", async () => {
    const answer = answerOf(
      403,
      { error: "unauthorized_client" },
      { ...headers, "x-ratelimit-remaining": "3" },
    );
    expect(await interpretation(answer, file)).toMatchObject({
      class: "fix_configuration",
      retryAfterMs: undefined,
    });
  });
});
