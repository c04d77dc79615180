import * as z from "zod";
import {
  accountField,
  authorizationMethod,
  bodyFormat,
  duration,
  expression,
  fieldName,
  headers,
  params,
  request,
  requestAuth,
  response,
  template,
} from "./schema-parts.ts";

const clientOptions = z
  .strictObject({
    authorizationMethod: authorizationMethod.optional(),
    bodyFormat: bodyFormat.optional(),
    credentialsEncoding: z
      .enum(["strict", "loose"])
      .optional()
      .meta({ description: "strict (default): form-encode id and secret before base64. loose: do not." }),
  })
  .optional();

const path = z.string().regex(/^\//).max(1024);
const scope = z.union([z.string().max(4096), z.array(z.string().min(1).max(512))]);

const oauth2 = z.strictObject({
  auth: z.strictObject({
    tokenHost: template,
    tokenPath: path.optional(),
    refreshPath: path.optional(),
    authorizeHost: template.optional(),
    authorizePath: path.optional(),
  }),
  scope: scope.optional(),
  scopeSeparator: z.string().min(1).max(3).optional(),
  pkce: z.union([z.literal(false), z.strictObject({ method: z.enum(["S256", "plain"]) })]).optional(),
  options: clientOptions,
  tokenExpiryDuration: duration
    .optional()
    .meta({ description: "The lifetime of a token whose answer does not tell it." }),
  authorizeParams: params.optional(),
  refreshParams: params.optional(),
  tokenHeaders: headers.optional(),
});

const clientCredentials = z.strictObject({
  auth: z.strictObject({ tokenHost: template, tokenPath: path.optional() }),
  scope: scope.optional(),
  scopeSeparator: z.string().min(1).max(3).optional(),
  options: clientOptions,
  tokenExpiryDuration: duration.optional(),
  tokenParams: params.optional(),
  tokenHeaders: headers.optional(),
});

/** What a customer is asked for; the names are those of the credential's values. */
const asked = z
  .strictObject({
    fields: z
      .record(
        fieldName,
        z.strictObject({
          title: z.string().max(200).optional(),
          description: z.string().max(2000).optional(),
          example: z.string().max(200).optional(),
        }),
      )
      .optional(),
  })
  .optional();

const credentials = z.discriminatedUnion("format", [
  z.strictObject({ format: z.literal("oauth2"), config: oauth2 }),
  z.strictObject({ format: z.literal("oauth2_client_credentials"), config: clientCredentials }),
  z.strictObject({ format: z.literal("api_key"), config: asked }),
  z.strictObject({ format: z.literal("basic"), config: asked }),
  z.strictObject({ format: z.literal("bearer"), config: asked }),
]);

const named = z.strictObject({ name: z.string().min(1).max(128), value: template });
const expressions = z.record(z.string().min(1).max(128), expression);

const authorization = z.discriminatedUnion("format", [
  z.strictObject({
    format: z.literal("bearer"),
    config: z.strictObject({ path: z.string().min(1).max(200).optional() }).optional(),
  }),
  z.strictObject({
    format: z.literal("basic"),
    config: z
      .strictObject({ username: z.string().max(200).optional(), password: z.string().max(200).optional() })
      .optional(),
  }),
  z.strictObject({ format: z.literal("header"), config: named }),
  z.strictObject({ format: z.literal("query"), config: named }),
  z.strictObject({
    format: z.literal("custom"),
    config: z.strictObject({ headers: expressions.optional(), query: expressions.optional() }),
  }),
]);

/** One provider's file, as written. Times and units are in each member's description. */
export const providerFile = z.strictObject({
  $schema: z.string().optional(),
  schema_version: z.literal(1).optional(),
  setup: z
    .strictObject({
      display_name: z.string().max(200).optional(),
      docs_url: z.url({ protocol: /^https$/ }).optional(),
      register_url: z.url({ protocol: /^https$/ }).optional(),
      redirect_rules: z.string().max(2000).optional(),
      notes: z.string().max(4000).optional(),
    })
    .optional(),
  account_fields: z.record(fieldName, accountField).optional(),
  credentials,
  authorization: z.union([authorization, z.array(authorization).min(1).max(8)]),
  allowed_hosts: z.array(z.string().min(1).max(255)).min(1).optional().meta({
    description:
      "Hosts that requests may go to; *.example.com for all below. Default: those written in URLs.",
  }),
  allow_loopback_http: z.boolean().optional(),
  response: response.optional(),
  merge: z
    .strictObject({
      keep: z.array(z.string()).optional(),
      forget: z.array(z.string()).optional(),
    })
    .optional()
    .meta({
      description:
        "keep: the old value stays even when a new one comes. forget: dropped when it does not come.",
    }),
  errors: expression.optional().meta({
    description: "Over {status, headers, body}: {class, code, message, retryAfter (seconds), clientFault}.",
  }),
  refresh: z
    .strictObject({
      resend_safe: z.boolean().optional(),
      grace: duration.optional().meta({ description: "Documented; the engine relies on resend_safe alone." }),
      earliest_before_expiry: duration.optional(),
      max_concurrent: z.int().min(1).max(1000).optional(),
      budget: z.strictObject({ requests: z.int().min(1).max(100_000), per: duration }).optional(),
    })
    .optional(),
  introspection: z.strictObject({ ...request, client_auth: requestAuth.optional() }).optional(),
  revocation: z
    .strictObject({
      ...request,
      client_auth: requestAuth.optional(),
      success: expression.optional(),
      tokens: z
        .array(z.enum(["refresh_token", "access_token"]))
        .min(1)
        .max(2)
        .optional(),
    })
    .optional(),
  verification: z
    .strictObject({ ...request, accepted: expression.optional(), refused: expression.optional() })
    .optional(),
  proxy: z.strictObject({ base_url: template.optional(), headers: headers.optional() }).optional(),
  rate_limits: z
    .strictObject({ reset: z.enum(["delta", "epoch", "epoch_ms"]) })
    .optional()
    .meta({ description: "What x-ratelimit-reset counts. Default: told by its size." }),
});

export type ProviderFile = z.infer<typeof providerFile>;

/** The JSON Schema that editors complete provider files by: the text of `providers/schema.json`. */
export function providerJsonSchema(): string {
  const schema = z.toJSONSchema(providerFile, { io: "input", target: "draft-2020-12" });
  return `${JSON.stringify({ ...schema, title: "Keyturn provider file" }, undefined, 2)}\n`;
}
