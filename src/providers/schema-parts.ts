import * as z from "zod";

/** Seconds as a number, or `500ms`, `30s`, `10m`, `2h`, `90d`. */
export const duration = z
  .union([
    z.number().positive().max(315_360_000),
    z
      .string()
      .regex(
        /^[1-9][0-9]{0,8}(ms|s|m|h|d)$/,
        "expected a whole number and its unit: 500ms, 30s, 10m, 2h, 90d",
      ),
  ])
  .meta({ description: "Seconds as a number, or a text like 500ms, 30s, 10m, 2h, 90d." });

/** `${name}` stands for an account field. */
export const template = z.string().min(1).max(2048);

export const expression = z.string().min(1).max(4096).meta({ description: "A JSONata expression." });

export const fieldName = z.string().regex(/^[A-Za-z][A-Za-z0-9_]{0,63}$/);

export const headerName = z
  .string()
  .regex(/^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$/, "expected the name of a header");

/** Headers and parameters of text with `${name}` in it. */
export const textHeaders = z.record(headerName, template);
export const textParams = z.record(z.string().min(1).max(128), template);

const requestExpression = expression.meta({
  description:
    "A JSONata expression over the request's values (client_id, client_secret, refresh_token, now, uuid, fields, …), which may call $hmac, $hash, $jwt and $basic. Nothing: the member is left out.",
});

/** A text with `${name}` in it, or an expression over the same values. */
export const requestValue = z
  .union([template, z.strictObject({ value: requestExpression })])
  .meta({ description: "A text with ${name} in it, or {value: expression} over the same values." });

export const headers = z.record(headerName, requestValue).meta({
  description: "Extra headers. Their expressions also see request: {method, url, path, query, body}.",
});

export const params = z
  .record(z.string().min(1).max(128), requestValue)
  .meta({ description: "Extra parameters; they win over the standard ones." });

export const requestBody = requestExpression.meta({
  description:
    "The whole body instead of the parameters, as a JSONata expression over the same values and params (all parameters by name). A text is sent as it is, anything else as JSON.",
});

const constraint = {
  pattern: z
    .string()
    .regex(/^\^.*\$$/, "expected a regular expression that starts with ^ and ends with $")
    .max(512)
    .optional()
    .meta({ description: "Anchored regular expression (RE2 syntax) that the whole value matches." }),
  allowed_suffixes: z
    .array(z.string().regex(/^[a-z0-9-]+(\.[a-z0-9-]+)+$/, "expected a domain such as vendor.example"))
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
  required: z.boolean().optional().meta({
    description: "false: an account can be without it; only what names it needs it. Default: true.",
  }),
  ...constraint,
});

/** A secret of our app, beside its id and its secret. */
export const clientField = z.strictObject({
  title: z.string().max(200).optional(),
  description: z.string().max(2000).optional(),
});

/** A non-secret fact that the redirect brings. */
export const callbackField = z.strictObject({
  parameter: z.string().min(1).max(128).optional().meta({ description: "Default: the field's name." }),
  overrides: z.boolean().optional().meta({
    description:
      "Of one that is among account_fields, too: it stands instead of the value that was given at the start. Default: another value than the given one is refused.",
  }),
  required: z.boolean().optional().meta({ description: "Default: true." }),
  title: z.string().max(200).optional(),
  description: z.string().max(2000).optional(),
  example: z.string().max(200).optional(),
  ...constraint,
});

/** A non-secret fact read from a token answer. */
export const answerField = z.union([expression, z.strictObject({ value: expression, ...constraint })]);

export const authorizationMethod = z
  .enum(["header", "body", "none", "client_secret_jwt", "private_key_jwt", "tls_client_auth", "custom"])
  .meta({
    description:
      "How our app names and proves itself. header: HTTP Basic (RFC 6749 §2.3.1), the default. body: client_id and client_secret. none: client_id alone. client_secret_jwt, private_key_jwt: a signed assertion (RFC 7523). tls_client_auth: client_id, and the client's certificate on the connection (RFC 8705). custom: nothing is added; params and headers say it all.",
  });

/** As `authorizationMethod`, for requests where `none` means that our app is not named at all. */
export const requestAuth = z.enum(["header", "body", "id", "none"]).meta({
  description: "header and body: id and secret. id: the client id alone, in the body. none: neither.",
});

export const bodyFormat = z.enum(["form", "json", "query"]).meta({
  description:
    "Where parameters go: a form (default), a JSON object, or the URL's query. GET and DELETE use the query.",
});

export const method = z.enum(["GET", "POST", "PUT", "PATCH", "DELETE"]);

export const signingAlgorithm = z.enum([
  "HS256",
  "HS384",
  "HS512",
  "RS256",
  "RS384",
  "RS512",
  "PS256",
  "PS384",
  "PS512",
  "ES256",
  "ES384",
  "ES512",
  "EdDSA",
]);

/** What a signed assertion says (RFC 7523 §3). `iat`, `exp` and a fresh `jti` are always added. */
export const assertion = {
  issuer: requestValue.optional(),
  subject: requestValue.optional(),
  audience: requestValue.optional(),
  lifetime: duration.optional().meta({ description: "How long after now exp is. Default: 60s." }),
  algorithm: signingAlgorithm.optional().meta({ description: "Default: as the key says." }),
  keyId: requestValue.optional().meta({ description: "The header's kid. Default: as the key says." }),
  claims: z.record(z.string().min(1).max(128), requestValue).optional().meta({
    description: "Further claims. One that gives nothing is left out, iat, jti, iss and sub too.",
  }),
};

/** A request described as data. */
export const request = {
  method: method.optional(),
  url: template,
  headers: headers.optional(),
  params: params.optional(),
  body_format: bodyFormat.optional(),
  body: requestBody.optional(),
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
            "A text or number; or, where several may match, a list of them or of {value, title}: the account or callback field of this name then chooses, and has to be among them.",
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

/** Names of a request's standard parameters, as the vendor calls them; false leaves one out. */
export const rename = z
  .record(z.string().min(1).max(128), z.union([z.string().min(1).max(128), z.literal(false)]))
  .meta({
    description:
      "The vendor's names of standard parameters: {client_id: app_id, code: auth_code}; false leaves one out: {grant_type: false}.",
  });

/** How one call of a token endpoint differs from the standard's. */
export const tokenCall = {
  method: method.optional(),
  bodyFormat: bodyFormat.optional(),
  authorizationMethod: authorizationMethod.optional(),
  rename: rename.optional(),
  body: requestBody.optional(),
  response: response.optional().meta({
    description: "How this call's answer is read: each member stands instead of the file's own.",
  }),
};

/** A further request that an answer needs before its token can be used. */
export const followUp = z.strictObject({
  on: z.enum(["grant", "refresh"]).optional().meta({
    description: "grant: only when the customer connects. refresh: only afterwards. Default: both.",
  }),
  url: template,
  method: method.optional(),
  headers: headers.optional(),
  params: params.optional(),
  bodyFormat: bodyFormat.optional(),
  body: requestBody.optional(),
  authorizationMethod: authorizationMethod.optional().meta({ description: "Default: custom." }),
  tokenExpiryDuration: duration.optional(),
  response: response.optional().meta({
    description: "How its answer is read. What it has stands instead of what the answer before it had.",
  }),
});
