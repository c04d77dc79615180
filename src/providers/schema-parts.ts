import * as z from "zod";

/** Seconds as a number, or `500ms`, `30s`, `10m`, `2h`, `90d`. */
export const duration = z
  .union([z.number().positive().max(315_360_000), z.string().regex(/^[1-9][0-9]{0,8}(ms|s|m|h|d)$/)])
  .meta({ description: "Seconds as a number, or a text like 500ms, 30s, 10m, 2h, 90d." });

/** `${name}` stands for an account field. */
export const template = z.string().min(1).max(2048);

export const expression = z.string().min(1).max(4096).meta({ description: "A JSONata expression." });

export const fieldName = z.string().regex(/^[A-Za-z][A-Za-z0-9_]{0,63}$/);

export const headerName = z.string().regex(/^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$/);

export const headers = z.record(headerName, template);

export const params = z.record(z.string().min(1).max(128), template);

const constraint = {
  pattern: z
    .string()
    .regex(/^\^.*\$$/)
    .max(512)
    .optional()
    .meta({ description: "Anchored regular expression (RE2 syntax) that the whole value matches." }),
  allowed_suffixes: z
    .array(z.string().regex(/^[a-z0-9-]+(\.[a-z0-9-]+)+$/))
    .min(1)
    .optional()
    .meta({
      description: "Domains that the value must be, or end in. For values that are hosts or origins.",
    }),
};

/** A fact of an account that its customer or the caller gives. */
export const accountField = z.strictObject({
  title: z.string().max(200).optional(),
  description: z.string().max(2000).optional(),
  example: z.string().max(200).optional(),
  default: z.string().max(200).optional(),
  ...constraint,
});

/** A non-secret fact that the redirect brings. */
export const callbackField = z.strictObject({
  parameter: z.string().min(1).max(128).optional().meta({ description: "Default: the field's name." }),
  required: z.boolean().optional().meta({ description: "Default: true." }),
  title: z.string().max(200).optional(),
  description: z.string().max(2000).optional(),
  example: z.string().max(200).optional(),
  ...constraint,
});

/** A non-secret fact read from a token answer. */
export const answerField = z.union([expression, z.strictObject({ value: expression, ...constraint })]);

export const authorizationMethod = z.enum(["header", "body", "none"]).meta({
  description:
    "Where the client id and secret go: HTTP Basic (RFC 6749 §2.3.1), the body, or only the id in the body.",
});

/** As `authorizationMethod`, for requests where `none` means that our app is not named at all. */
export const requestAuth = z.enum(["header", "body", "id", "none"]).meta({
  description: "header and body: id and secret. id: the client id alone, in the body. none: neither.",
});

export const bodyFormat = z.enum(["form", "json"]);

/** A request described as data. */
export const request = {
  method: z.enum(["GET", "POST", "PUT", "PATCH", "DELETE"]).optional(),
  url: template,
  headers: headers.optional(),
  params: params.optional(),
  body_format: bodyFormat.optional(),
};

/** A request with a new credential, whose answer says more about the account. */
export const afterConnect = z.strictObject({
  ...request,
  success: expression.optional().meta({ description: "True for a success. Default: status 200 to 299." }),
  fields: z
    .record(
      fieldName,
      z.strictObject({
        value: expression.meta({
          description:
            "A text or number; or, where several may match, a list of them or of {value, title}: the account field of this name then chooses.",
        }),
        title: z.string().max(200).optional(),
        ...constraint,
      }),
    )
    .optional(),
  identity: expression.optional().meta({ description: "As the file's own, which it stands instead of." }),
});

/** How a refusal, a grant and a token may be read from an answer. */
export const response = z.strictObject({
  success: expression.optional().meta({ description: "True for a success. Default: status 200 to 299." }),
  token: expression
    .optional()
    .meta({ description: "The object that holds the token's members. Default: body." }),
  map: z
    .strictObject({
      access_token: expression.optional(),
      refresh_token: expression.optional(),
      token_type: expression.optional(),
      scope: expression.optional(),
      expires_in: expression.optional(),
      refresh_token_expires_in: expression.optional(),
    })
    .optional(),
  expires_in: z.enum(["s", "ms", "absolute"]).optional().meta({
    description: "What expires_in counts. absolute: epoch seconds or milliseconds, or ISO 8601. Default: s.",
  }),
  refresh_token_lifetime: z
    .strictObject({ kind: z.enum(["none", "fixed", "sliding"]), duration: duration.optional() })
    .optional()
    .meta({
      description: "sliding: every refresh renews it. fixed: counts from when the refresh token was issued.",
    }),
  fields: z.record(fieldName, answerField).optional(),
});
