import * as z from "zod";
import { rateLimits } from "./rate-limit-schema.ts";
import {
  accountField,
  afterConnect,
  assertion,
  authorizationMethod,
  bodyFormat,
  callbackField,
  clientField,
  duration,
  expression,
  fieldName,
  followUp,
  headers,
  method,
  params,
  request,
  requestAuth,
  requestBody,
  requestValue,
  response,
  template,
  textHeaders,
  textParams,
  tokenCall,
} from "./schema-parts.ts";

const clientOptions = z
  .strictObject({
    authorizationMethod: authorizationMethod.optional(),
    bodyFormat: bodyFormat.optional(),
    credentialsEncoding: z
      .enum(["strict", "loose"])
      .optional()
      .meta({ description: "strict (default): form-encode id and secret before base64. loose: do not." }),
    clientAssertion: z.strictObject(assertion).optional().meta({
      description:
        "What client_secret_jwt and private_key_jwt sign. Default: issuer and subject are the client id, the audience is auth.issuer or else the token endpoint.",
    }),
    clientCertificate: z.boolean().optional().meta({
      description: "Show the client's certificate on every connection, whatever authorizationMethod says.",
    }),
    certificateBoundAccessTokens: z.boolean().optional().meta({
      description:
        "Access tokens work only on connections that show the client's certificate (RFC 8705 §3): calls go through Proxy, and nobody is handed a token.",
    }),
  })
  .optional();

const path = z.string().regex(/^\//, "expected a path that starts with /").max(1024);
const scope = z.union([z.string().max(4096), z.array(z.string().min(1).max(512))]);
const issuer = template.optional().meta({
  description:
    "The authorization server's issuer (RFC 8414), and the default audience of assertions. A redirect that names another one in iss (RFC 9207) is refused. Default: any on the authorize URL's host.",
});

const authorizeParameters = [
  "response_type",
  "client_id",
  "redirect_uri",
  "scope",
  "state",
  "code_challenge",
  "code_challenge_method",
] as const;
const consentParameters = ["client_id", "redirect_uri", "scope", "state"] as const;
const callbackParameters = ["code", "error", "error_description", "iss"] as const;

function renamed<N extends string>(names: readonly N[]) {
  const name = z.string().min(1).max(128);
  return z.partialRecord(z.enum(names), z.union([name, z.literal(false)])).optional();
}

/** What all formats that ask a token endpoint have in common. */
const asking = {
  scope: scope.optional(),
  scopeSeparator: z.string().min(1).max(3).optional(),
  options: clientOptions,
  tokenExpiryDuration: duration
    .optional()
    .meta({ description: "The lifetime of a token whose answer does not tell it." }),
  tokenHeaders: headers.optional(),
  followUps: z.array(followUp).min(1).max(3).optional().meta({
    description: "Further requests, in order, that the token needs before it can be used.",
  }),
};

const refreshCredential = z.enum(["refresh_token", "access_token", "client"]).optional().meta({
  description:
    "What a refresh is asked with. refresh_token (default). access_token: the one there is, in refreshParams. client: nothing of the customer's (client_credentials).",
});

const refreshCall = z
  .strictObject({ ...tokenCall, credential: refreshCredential })
  .optional()
  .meta({
    description: "How the refresh differs from the standard's. What it leaves out is as in tokenRequest.",
  });

const oauth2 = z.strictObject({
  ...asking,
  auth: z.strictObject({
    tokenHost: template,
    tokenPath: path.optional(),
    refreshHost: template.optional().meta({ description: "Default: tokenHost." }),
    refreshPath: path.optional().meta({ description: "Default: tokenPath." }),
    authorizeHost: template.optional().meta({ description: "Default: tokenHost." }),
    authorizePath: path.optional().meta({ description: "Default: /oauth/authorize." }),
    issuer,
  }),
  pkce: z
    .union([z.literal(false), z.strictObject({ method: z.enum(["S256", "plain"]) })])
    .optional()
    .meta({ description: "RFC 7636. Default: S256. false: this vendor breaks on it." }),
  authorizeParams: textParams
    .optional()
    .meta({ description: "Of the authorize URL; they win over the standard ones." }),
  authorizeRename: renamed(authorizeParameters).meta({
    description:
      "The vendor's names of the authorize URL's standard parameters: {client_id: app_id}; false leaves one out: {response_type: false}.",
  }),
  callbackRename: renamed(callbackParameters).meta({
    description: "The vendor's names of what comes back on the redirect: {code: auth_code}.",
  }),
  tokenParams: params.optional().meta({ description: "Of the code's exchange." }),
  tokenRequest: z.strictObject(tokenCall).optional().meta({
    description: "How the code's exchange, and with it the refresh, differs from the standard's.",
  }),
  refreshParams: params.optional(),
  refreshHeaders: headers.optional().meta({ description: "Beside tokenHeaders." }),
  refreshRequest: refreshCall,
});

const clientCredentials = z.strictObject({
  ...asking,
  auth: z.strictObject({ tokenHost: template, tokenPath: path.optional(), issuer }),
  tokenParams: params.optional(),
  tokenRequest: z.strictObject(tokenCall).optional(),
});

const fields = z
  .record(
    fieldName,
    z.strictObject({
      title: z.string().max(200).optional(),
      description: z.string().max(2000).optional(),
      example: z.string().max(200).optional(),
    }),
  )
  .optional()
  .meta({ description: "What a customer is asked for; the names are those of the credential's values." });

const asked = z.strictObject({ fields }).optional();

const jwt = z.strictObject({
  ...asking,
  fields,
  assertion: z.strictObject({
    ...assertion,
    key: fieldName.optional().meta({
      description:
        "Which of the customer's fields holds the private key (PEM or JWK). Default: the OAuth client's own.",
    }),
  }),
  auth: z.strictObject({ tokenHost: template, tokenPath: path.optional(), issuer }).optional().meta({
    description: "Where the assertion is exchanged (RFC 7523 §2.1). Without it the assertion is the token.",
  }),
  tokenParams: params.optional(),
  tokenRequest: z.strictObject(tokenCall).optional(),
});

const tokenExchange = z.strictObject({
  ...asking,
  fields,
  auth: z.strictObject({ tokenHost: template, tokenPath: path.optional(), issuer }),
  subjectToken: requestValue,
  subjectTokenType: requestValue.optional().meta({
    description: "Default: urn:ietf:params:oauth:token-type:access_token.",
  }),
  actorToken: requestValue.optional(),
  actorTokenType: requestValue.optional().meta({ description: "Needed with actorToken." }),
  requestedTokenType: requestValue.optional(),
  audience: requestValue.optional(),
  resource: requestValue.optional(),
  tokenParams: params.optional(),
  tokenRequest: z.strictObject(tokenCall).optional(),
});

const describedCall = {
  url: template,
  method: method.optional(),
  headers: headers.optional(),
  params: params.optional(),
  bodyFormat: bodyFormat.optional(),
  body: requestBody.optional(),
  authorizationMethod: authorizationMethod.optional().meta({ description: "Default: custom." }),
  response: response.optional(),
};

const custom = z.strictObject({
  scope: asking.scope,
  scopeSeparator: asking.scopeSeparator,
  options: asking.options,
  tokenExpiryDuration: asking.tokenExpiryDuration,
  followUps: asking.followUps,
  fields,
  mint: z
    .strictObject(describedCall)
    .meta({ description: "Gets a token by the customer's fields, or by the client." }),
  refresh: z
    .strictObject({ ...describedCall, credential: refreshCredential })
    .optional()
    .meta({
      description: "Without it, and while there is nothing to refresh with, a token is minted again.",
    }),
});

const credentials = z.discriminatedUnion("format", [
  z.strictObject({ format: z.literal("oauth2"), config: oauth2 }),
  z.strictObject({ format: z.literal("oauth2_client_credentials"), config: clientCredentials }),
  z.strictObject({ format: z.literal("jwt"), config: jwt }),
  z.strictObject({ format: z.literal("token_exchange"), config: tokenExchange }),
  z.strictObject({ format: z.literal("custom"), config: custom }),
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

/** One of several tokens that an account has. */
const token = z.strictObject({
  token: expression.optional().meta({
    description:
      "Over the answer of the code's exchange: the object that holds this token's members. One without access_token and refresh_token: this account has no such token. Default: body.",
  }),
  refreshParams: params.optional().meta({ description: "Instead of the config's." }),
  refreshRequest: refreshCall,
  tokenExpiryDuration: duration.optional(),
  credentials: credentials.optional().meta({
    description: "For a token with a life of its own, minted without the code's exchange.",
  }),
  authorization: z.union([authorization, z.array(authorization).min(1).max(8)]).optional(),
});

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
  account_fields: z
    .record(fieldName, accountField)
    .optional()
    .meta({ description: "What has to be known of an account before it can be connected." }),
  client_fields: z.record(fieldName, clientField).optional().meta({
    description:
      "Further secrets of our app, which calls of the API carry: `${client.NAME}` in authorization. They are given to the OAuth client (clients put --secret-file NAME=PATH).",
  }),
  consent: z
    .strictObject({
      url: template,
      params: textParams.optional(),
      rename: renamed(consentParameters).meta({
        description:
          "The vendor's names of client_id, redirect_uri, scope and state; false leaves one out: {redirect_uri: false}.",
      }),
      callback_rename: renamed(["error", "error_description", "iss"]),
      granted: expression.optional().meta({
        description:
          "Over {body}, which is the redirect's query: true when it says that consent was given. Default: unless it has an error.",
      }),
    })
    .optional()
    .meta({
      description:
        "The vendor's page on which a customer lets our app in, where no code comes back (an app's installation, an administrator's consent) and tokens are minted of what callback_fields bring.",
    }),
  callback_fields: z.record(fieldName, callbackField).optional().meta({
    description:
      "What the redirect brings besides the code. Nothing else of it is kept. One of the same name as an account field looks as that does.",
  }),
  identity: expression.optional().meta({
    description:
      "Who the account is at the vendor, as a text or number, over {status, headers, body, claims, fields} of the answer that brought the token; claims are those of its id_token. An account never becomes somebody else's by a new authorization.",
  }),
  after_connect: z.array(afterConnect).min(1).max(4).optional().meta({
    description:
      "Requests with the new credential, in order, before it is stored: what they answer becomes account fields.",
  }),
  credentials,
  authorization: z.union([authorization, z.array(authorization).min(1).max(8)]),
  tokens: z
    .record(z.string().regex(/^[a-z][a-z0-9_]{0,31}$/), token)
    .optional()
    .meta({
      description:
        "The tokens of an account by token_name, each with its own expiry and refresh. Default: one, named default.",
    }),
  allowed_hosts: z.array(z.string().min(1).max(255)).min(1).optional().meta({
    description:
      "Hosts that requests may go to; *.example.com for all below, host:port for another port than 443. Default: those written in URLs.",
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
        "keep: the old value stays even when a new one comes; of access_token, so that a refresh only makes it live longer. forget: dropped when it does not come.",
    }),
  errors: expression.optional().meta({
    description: "Over {status, headers, body}: {class, code, message, retryAfter (seconds), clientFault}.",
  }),
  refresh: z
    .strictObject({
      resend_safe: z.boolean().optional(),
      grace: duration.optional().meta({ description: "Documented; the engine relies on resend_safe alone." }),
      earliest_before_expiry: duration.optional(),
      lead: duration.optional().meta({
        description:
          "How long before its expiry a token is refreshed by schedule, up to half its lifetime. Default: one to three minutes; a tenth of its lifetime where a refresh needs the living access token.",
      }),
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
      access_token_alone: z.boolean().optional().meta({
        description:
          "True: revoking an access token leaves its grant alive (RFC 7009 §2.1 lets a provider end both). Default: false.",
      }),
    })
    .optional(),
  verification: z
    .strictObject({ ...request, accepted: expression.optional(), refused: expression.optional() })
    .optional(),
  proxy: z
    .strictObject({
      base_url: template.optional(),
      headers: textHeaders.optional().meta({
        description:
          "Sent with every API call, unless the caller sends them, or the account lacks a field that may be missing (required: false).",
      }),
      token_ended: expression.optional().meta({
        description:
          "Over {status, headers, body} of an API answer: true when the access token has ended, which is then refreshed once and the call made again. Bodies are looked into when they are JSON. Never asked at 429 and 5xx. Default: status 401.",
      }),
    })
    .optional(),
  rate_limits: rateLimits.optional(),
});

export type ProviderFile = z.infer<typeof providerFile>;

/** The JSON Schema that editors complete provider files by: the text of `providers/schema.json`. */
export function providerJsonSchema(): string {
  const schema = z.toJSONSchema(providerFile, { io: "input", target: "draft-2020-12", reused: "ref" });
  return `${JSON.stringify({ ...schema, title: "Keyturn provider file" }, undefined, 2)}\n`;
}
