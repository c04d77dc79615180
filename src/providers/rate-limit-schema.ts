import * as z from "zod";
import { duration, expression, headerName } from "./schema-parts.ts";

const timeUnit = z.enum(["delta", "delta_ms", "epoch", "epoch_ms", "date", "duration"]).meta({
  description:
    "delta: seconds from now. epoch: seconds since 1970. date: an HTTP-date or ISO 8601. duration: 1m30s. Default: told by its shape and size.",
});

const byHeader = { header: headerName };
const byValue = {
  value: expression.meta({ description: "JSONata over {status, headers, body}; see `errors`." }),
};

/** A header's name, or an expression. */
const count = z.union([headerName, z.strictObject(byHeader), z.strictObject(byValue)]);
const time = z.union([
  headerName,
  z.strictObject({ ...byHeader, unit: timeUnit.optional() }),
  z.strictObject({ ...byValue, unit: timeUnit.optional() }),
]);

const window = z.strictObject({
  name: z
    .string()
    .regex(/^[a-z][a-z0-9_-]{0,31}$/)
    .optional()
    .meta({ description: "Names the window in `RateLimit`. Default: default." }),
  limit: count.optional(),
  remaining: count.optional(),
  used: count
    .optional()
    .meta({ description: "Where the vendor tells what is used instead of what is left." }),
  reset: time.optional(),
  window: duration.optional().meta({ description: "How long the window is, where the vendor documents it." }),
});

/** How a vendor tells its throttling; the IETF's fields, the older trio and Retry-After need no words here. */
export const rateLimits = z.strictObject({
  reset: timeUnit.optional().meta({
    description:
      "What the reset of ratelimit-*, x-ratelimit-* and x-rate-limit-* counts. Default: told by its size.",
  }),
  windows: z.array(window).min(1).max(8).optional().meta({
    description: "The vendor's own headers, or values in its body. The tightest window is the one told.",
  }),
  retry_after: time.optional().meta({
    description: "Where the wait is, when not in Retry-After: another header, or the body of the error.",
  }),
  throttled: expression.optional().meta({
    description:
      "True for an answer that is a throttling though its status is not 429. JSONata over {status, headers, body}.",
  }),
});
