import { create } from "@bufbuild/protobuf";
import type { KeyturnError, Reason } from "../../errors.ts";
import { HeaderValueOption_HeaderAppendAction as Append } from "../../gen/envoy/config/core/v3/base_pb.js";
import { type CheckResponse, CheckResponseSchema } from "../../gen/envoy/service/auth/v3/external_auth_pb.js";
import { rateLimitHeaders } from "../../tokens/rate-limit-headers.ts";
import { codeOf, retryAfterMsOf } from "../status.ts";

/** 424: the request depends on an account that cannot be used as it is, and waiting does not mend it. */
const HTTP_STATUS: Readonly<Record<Reason, 401 | 403 | 424 | 429 | 503>> = {
  CALLER_UNKNOWN: 401,
  CALLER_NOT_ALLOWED: 403,
  DESTINATION_NOT_ALLOWED: 403,
  AUTHORIZATION_DENIED: 403,
  INVALID_REQUEST: 403,
  AUTHORIZATION_STATE_INVALID: 403,
  BODY_TOO_LARGE: 403,
  ACCOUNT_NOT_FOUND: 424,
  PROVIDER_NOT_FOUND: 424,
  CLIENT_NOT_FOUND: 424,
  ACCOUNT_PENDING: 424,
  ACCOUNT_DISABLED: 424,
  REAUTHORIZATION_REQUIRED: 424,
  CLIENT_MISCONFIGURED: 424,
  CLIENT_ON_HOLD: 424,
  IDENTITY_MISMATCH: 424,
  TOKEN_NOT_PORTABLE: 424,
  ACCOUNT_ALREADY_EXISTS: 424,
  REVISION_MISMATCH: 424,
  CURSOR_EXPIRED: 424,
  PROVIDER_RATE_LIMITED: 429,
  CALLER_RATE_LIMITED: 429,
  SUBSCRIBER_TOO_SLOW: 429,
  PROVIDER_UNAVAILABLE: 503,
  REFRESH_UNCERTAIN: 503,
  STORE_UNAVAILABLE: 503,
  KEK_UNAVAILABLE: 503,
  SHUTTING_DOWN: 503,
  STORE_FULL: 503,
  STATE_DISK_FULL: 503,
  WAIT_TIMED_OUT: 503,
  INTERNAL_ERROR: 503,
  SEAL_INVALID: 503,
  KEK_MISMATCH: 503,
};

/** What the client gets instead of the provider's answer. Nothing in it is secret. */
export function denied(error: KeyturnError): CheckResponse {
  const code = codeOf(error.reason);
  const headers: readonly (readonly [string, string])[] = [
    ["content-type", "application/json"],
    ["cache-control", "no-store"],
    ...(HTTP_STATUS[error.reason] === 401 ? ([["www-authenticate", 'Bearer realm="keyturn"']] as const) : []),
    ...rateLimitHeaders(error.rateLimit, retryAfterMsOf(error)),
  ];
  return create(CheckResponseSchema, {
    status: { code, message: error.message },
    httpResponse: {
      case: "deniedResponse",
      value: {
        status: { code: HTTP_STATUS[error.reason] },
        headers: headers.map(([key, value]) => ({
          header: { key, value },
          append: false,
          appendAction: Append.OVERWRITE_IF_EXISTS_OR_ADD,
        })),
        body: `${JSON.stringify(bodyOf(error))}\n`,
      },
    },
  });
}

function bodyOf({ reason, message, metadata, violations }: KeyturnError) {
  return {
    reason,
    message,
    ...(Object.keys(metadata).length === 0 ? {} : { metadata }),
    ...(violations.length === 0 ? {} : { violations }),
  };
}
