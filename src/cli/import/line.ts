import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import * as z from "zod";
import type {
  CreateAccountRequestSchema,
  CredentialSchema,
} from "../../gen/keyturn/v1/account_service_pb.js";

type Init = MessageInitShape<typeof CreateAccountRequestSchema>;
type CredentialInit = MessageInitShape<typeof CredentialSchema>;

const TIME = "an RFC 3339 time with its zone, or whole seconds since 1970";
/** More seconds than this are milliseconds by mistake. */
const MOST_SECONDS = 99_999_999_999;

const time = z
  .union([z.iso.datetime({ offset: true }), z.int().min(0).max(MOST_SECONDS)], { error: `expected ${TIME}` })
  .meta({ description: TIME });
const secret = z.string().min(1);
const texts = z.record(z.string().min(1), z.string());

const credential = z
  .strictObject({
    oauth: z
      .strictObject({
        access_token: secret.optional(),
        refresh_token: secret.optional().meta({
          description: "Without it the customer has to authorize again when the access token ends.",
        }),
        token_type: z.string().optional().meta({ description: "Default: Bearer." }),
        expires_at: time.optional().meta({
          description: `${TIME}. Without it the token is refreshed when it is asked for, or when its turn comes.`,
        }),
        refresh_token_expires_at: time.optional(),
        scopes: z.array(z.string().min(1)).optional(),
        members: z.record(z.string(), z.json()).optional().meta({
          description: "Further members of the token answer that the provider's file reads: instance_url.",
        }),
      })
      .optional(),
    api_key: z.strictObject({ api_key: secret, extra: texts.optional() }).optional(),
    basic: z.strictObject({ username: secret, password: z.string().optional() }).optional(),
    bearer: z.strictObject({ token: secret }).optional(),
    client_credentials: z.strictObject({}).optional().meta({
      description: "The OAuth client mints its own tokens; nothing to give.",
    }),
    secrets: z.record(z.string().min(1), secret).optional().meta({
      description:
        "What tokens are minted from, by the names in the provider's file: private_key. In CSV the columns secret.NAME.",
    }),
    expires_at: time.optional().meta({ description: `When a key, password or bearer token ends: ${TIME}.` }),
  })
  .refine((given) => KINDS.filter((kind) => given[kind] !== undefined).length === 1, {
    error: "expected exactly one of oauth, api_key, basic, bearer, client_credentials, secrets",
  });

const KINDS = ["oauth", "api_key", "basic", "bearer", "client_credentials", "secrets"] as const;

const line = z.strictObject({
  account_id: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._~-]{0,127}$/, {
      error: "expected 1 to 128 of A-Z a-z 0-9 . _ ~ -, starting with a letter or digit",
    })
    .meta({ description: "Your own id; it is how a repeated line is known." }),
  provider: z.string().min(1).meta({ description: "The name of a provider file." }),
  client: z
    .string()
    .optional()
    .meta({ description: "The OAuth client it was connected with; it has to exist." }),
  tenant: z.string().optional().meta({ description: "Your customer." }),
  display_name: z.string().optional(),
  external_subject: z.string().optional().meta({ description: "Who it is at the provider." }),
  labels: texts.optional().meta({ description: "At most 64, 2 KiB in all." }),
  fields: texts.optional().meta({ description: "Account fields that the provider's file asks for." }),
  credential: credential.optional().meta({ description: "Without it the account is PENDING." }),
  tokens: z.record(z.string().min(1), credential).optional().meta({
    description: "Instead, of each token by its name, for providers whose accounts have several: bot, user.",
  }),
});

export type ParsedLine =
  | { readonly ok: true; readonly account: Init }
  | { readonly ok: false; readonly accountId: string; readonly message: string };

/** Reads one line. What is wrong is said by member and expectation, never with what was given. */
export function parseLine(value: unknown): ParsedLine {
  const parsed = line.safeParse(value);
  if (parsed.success) return { ok: true, account: accountOf(parsed.data) };
  const message = parsed.error.issues
    .slice(0, MOST_FAULTS)
    .map((issue) => `${placeOf(issue.path)}${faultOf(issue)}`)
    .join("; ");
  return { ok: false, accountId: idOf(value), message };
}

const MOST_FAULTS = 5;

// Members of maps, whose names are the user's own and could hold anything.
const NAMED_BY_USER = new Set(["labels", "fields", "extra", "members", "secrets", "tokens"]);

function placeOf(path: readonly PropertyKey[]): string {
  const own = path.findIndex((part) => NAMED_BY_USER.has(String(part)));
  const shown = own === -1 ? path : path.slice(0, own + 1);
  return shown.length === 0 ? "" : `${shown.map(String).join(".")}: `;
}

function faultOf(issue: z.core.$ZodIssue): string {
  if (issue.code === "unrecognized_keys") return "has a member that is not known; see --schema";
  return issue.message.replace(/^Invalid input: /, "").replace(/, received .*$/, "");
}

/** To find the line by, when it has one that can be shown. */
function idOf(value: unknown): string {
  const id = typeof value === "object" && value !== null && "account_id" in value ? value.account_id : "";
  return line.shape.account_id.safeParse(id).data ?? "";
}

function accountOf(from: z.output<typeof line>): Init {
  return {
    accountId: from.account_id,
    provider: from.provider,
    client: from.client ?? "",
    tenant: from.tenant ?? "",
    displayName: from.display_name ?? "",
    externalSubject: from.external_subject ?? "",
    labels: from.labels ?? {},
    fields: from.fields ?? {},
    ...(from.credential === undefined ? {} : { credential: credentialOf(from.credential) }),
    tokens: Object.fromEntries(
      Object.entries(from.tokens ?? {}).map(([name, token]) => [name, credentialOf(token)]),
    ),
  };
}

function credentialOf(from: z.output<typeof credential>): CredentialInit {
  return { kind: kindOf(from), ...at("expireTime", from.expires_at) };
}

function kindOf(from: z.output<typeof credential>): NonNullable<CredentialInit["kind"]> {
  const { oauth, api_key: apiKey, basic, bearer, secrets } = from;
  if (oauth !== undefined) {
    const value = {
      accessToken: oauth.access_token ?? "",
      refreshToken: oauth.refresh_token ?? "",
      tokenType: oauth.token_type ?? "",
      ...at("expireTime", oauth.expires_at),
      ...at("refreshTokenExpireTime", oauth.refresh_token_expires_at),
      scopes: oauth.scopes ?? [],
      ...(oauth.members === undefined ? {} : { members: oauth.members }),
    };
    return { case: "oauth", value };
  }
  if (apiKey !== undefined)
    return { case: "apiKey", value: { apiKey: apiKey.api_key, extra: apiKey.extra ?? {} } };
  if (basic !== undefined)
    return { case: "basic", value: { username: basic.username, password: basic.password ?? "" } };
  if (bearer !== undefined) return { case: "bearer", value: bearer };
  if (secrets !== undefined) return { case: "secrets", value: { values: secrets } };
  return { case: "clientCredentials", value: {} };
}

function at<K extends string>(name: K, value: string | number | undefined) {
  if (value === undefined) return {};
  const ms = typeof value === "number" ? value * 1_000 : Date.parse(value);
  return { [name]: timestampFromMs(ms) } as { readonly [P in K]: ReturnType<typeof timestampFromMs> };
}

/** The JSON Schema of a line, as text. */
export function lineSchemaText(): string {
  const schema = z.toJSONSchema(line, { io: "input", target: "draft-2020-12" });
  return `${JSON.stringify({ ...schema, title: "A line of keyturn accounts import" }, undefined, 2)}\n`;
}
