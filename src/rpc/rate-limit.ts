import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import type { RateLimit } from "../errors.ts";
import { type RateLimit as RateLimitMessage, RateLimitSchema } from "../gen/keyturn/v1/errors_pb.js";

/** A provider's throttling as callers get it, beside an answer or in an error's details. */
export function rateLimitMessage(rateLimit: RateLimit): RateLimitMessage {
  const { limit, remaining, resetAfterMs, retryAfterMs } = rateLimit;
  return create(RateLimitSchema, {
    ...(limit === undefined ? {} : { limit: BigInt(Math.round(limit)) }),
    ...(remaining === undefined ? {} : { remaining: BigInt(Math.round(remaining)) }),
    ...(resetAfterMs === undefined ? {} : { resetAfter: durationFromMs(Math.ceil(resetAfterMs)) }),
    ...(retryAfterMs === undefined ? {} : { retryAfter: durationFromMs(Math.ceil(retryAfterMs)) }),
  });
}
