import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { invalid } from "../errors.ts";
import { parseProvider } from "./load.ts";

const OAUTH2 = `# Cite the vendor's page for what stands below: https://docs.acme.example/oauth
setup:
  display_name: Acme
  docs_url: https://docs.acme.example/oauth
  # Where you register your app, and what the vendor asks of its redirect URLs.
  register_url: https://developers.acme.example/apps
  redirect_rules: https only, except localhost; must match exactly.
  notes: What the users of this file must know.

# Facts of each account that URLs need. Remove it when all customers use the same hosts.
account_fields:
  subdomain:
    title: What stands before .acme.example
    example: shop1

credentials:
  format: oauth2
  config:
    auth:
      tokenHost: https://auth.acme.example
      tokenPath: /oauth/token
      # Where the customer's browser goes. authorizeHost is needed only when it differs from tokenHost.
      authorizePath: /oauth/authorize
    # What your app asks for. Many vendors give a refresh token only with a scope such as offline_access.
    scope: [offline_access, read]
    # scopeSeparator: ","
    # pkce: false   # only when the vendor breaks on it
    options:
      # header: HTTP Basic. body: client_id and client_secret in the body.
      authorizationMethod: header
      bodyFormat: form
    # The lifetime of a token whose answer has no expires_in.
    tokenExpiryDuration: 1h

# How the token goes into a call of the API.
authorization:
  format: bearer
  config: { path: oauth.token.access_token }

# What the vendor's errors mean, where the standard's codes do not tell it: reauth (the customer must authorize again),
# fix_configuration (your app's registration is at fault), rate_limited, transient.
errors: >-
  body.code = "APP_UNINSTALLED" ? {"class": "reauth", "code": body.code, "message": body.message}

refresh:
  # true only when the vendor does not rotate refresh tokens, or documents that an old one stays good for a while.
  resend_safe: false

# A cheap request that tells whether a token still works.
verification:
  url: https://\${subdomain}.acme.example/api/me
  refused: status = 401

revocation:
  url: https://auth.acme.example/oauth/revoke

proxy:
  base_url: https://\${subdomain}.acme.example/api

# Only what the standard headers do not tell.
# rate_limits:
#   reset: epoch
#   throttled: status = 403 and body.code = "TOO_MANY"
`;

const OAUTH2_FIXTURES = `# What the vendor answers, from its documentation, and what the provider file makes of it. Run: keyturn providers test PATH
# Tokens are made up. The clock stands at 2026-01-01T00:00:00Z (1767225600).
fields: { subdomain: shop1 }
cases:
  - it: gives tokens for the code
    call: grant
    sends:
      url: https://auth.acme.example/oauth/token
      body: { grant_type: authorization_code, code: code-1 }
    answer:
      body: { access_token: access-1, refresh_token: refresh-1, expires_in: 3600, token_type: Bearer }
    gives: { access_token: access-1, refresh_token: refresh-1, expires_in: 3600 }

  - it: refreshes
    call: refresh
    sends: { body: { grant_type: refresh_token, refresh_token: old-refresh } }
    answer: { body: { access_token: access-2, refresh_token: refresh-2, expires_in: 3600 } }
    gives:
      access_token: access-2
      refresh_token: refresh-2
      headers: { Authorization: Bearer access-2 }
      base_url: https://shop1.acme.example/api

  - it: the app was uninstalled
    call: refresh
    answer: { status: 400, body: { code: APP_UNINSTALLED, message: Gone. } }
    refused: { class: reauth, code: APP_UNINSTALLED }

  - it: the client secret is wrong
    call: refresh
    answer: { status: 401, body: { error: invalid_client } }
    refused: { class: fix_configuration, client_fault: true }

  - it: the token endpoint throttles
    call: refresh
    answer: { status: 429, headers: { retry-after: "30" } }
    refused: { class: rate_limited, retry_after: 30 }

  - it: the token endpoint is down
    call: refresh
    answer: { status: 503 }
    refused: { class: transient }

  - it: a dead token
    call: verify
    answer: { status: 401 }
    outcome: refused

  - it: the API throttles
    call: api
    answer: { status: 429, headers: { x-ratelimit-limit: "100", x-ratelimit-remaining: "0", x-ratelimit-reset: "60" } }
    rate_limit: { limit: 100, remaining: 0, reset: 60, throttled: true }
`;

const API_KEY = `# Cite the vendor's page for what stands below: https://docs.acme.example/authentication
setup:
  display_name: Acme
  docs_url: https://docs.acme.example/authentication
  notes: Where a customer finds the key, and what it may do.

# What the customer is asked for.
credentials:
  format: api_key
  config:
    fields:
      api_key: { title: API key }

# How it goes into a call of the API. Others: bearer, basic, query, custom; a list places several.
authorization:
  format: header
  config: { name: X-Api-Key, value: "\${api_key}" }

# A cheap request that tells whether the key still works. Nothing else ends an account without OAuth.
verification:
  url: https://api.acme.example/v1/me
  refused: status = 401

proxy:
  base_url: https://api.acme.example/v1

# Only what the standard headers do not tell.
# rate_limits:
#   reset: epoch
`;

const API_KEY_FIXTURES = `# What the vendor answers, from its documentation, and what the provider file makes of it. Run: keyturn providers test PATH
# Keys are made up. The clock stands at 2026-01-01T00:00:00Z (1767225600).
credential: { api_key: key-1 }
cases:
  - it: puts the key into a header
    call: api
    gives:
      headers: { X-Api-Key: key-1 }
      base_url: https://api.acme.example/v1

  - it: accepts the key
    call: verify
    sends: { url: https://api.acme.example/v1/me, headers: { x-api-key: key-1 } }
    answer: { body: {} }
    outcome: accepted

  - it: refuses the key
    call: verify
    answer: { status: 401 }
    outcome: refused

  - it: throttles
    call: api
    answer: { status: 429, headers: { retry-after: "30" } }
    rate_limit: { retry_after: 30, throttled: true }
`;

/** What `format` a new file may start with. */
const STARTERS: Readonly<Record<string, { readonly file: string; readonly fixtures: string }>> = {
  oauth2: { file: OAUTH2, fixtures: OAUTH2_FIXTURES },
  api_key: { file: API_KEY, fixtures: API_KEY_FIXTURES },
};

/**
 * Writes a provider file to start from, and its fixtures, and answers with both paths. INVALID_REQUEST when the name
 * cannot be a provider's, the format has no start, or a file is there already.
 */
export function writeStarter(options: {
  readonly name: string;
  readonly directory: string;
  readonly format: string;
}): readonly string[] {
  const { name, directory, format } = options;
  const starter = Object.hasOwn(STARTERS, format) ? STARTERS[format] : undefined;
  if (starter === undefined) throw invalid("--format", `expected ${Object.keys(STARTERS).join(" or ")}`);
  const path = join(directory, `${name}.yaml`);
  const parsed = parseProvider(starter.file, path, name);
  if ("faults" in parsed) throw invalid("NAME", parsed.faults[0]?.message ?? "not a provider's name");
  const files: readonly (readonly [string, string])[] = [
    [path, starter.file],
    [join(directory, "fixtures", `${name}.yaml`), starter.fixtures],
  ];
  mkdirSync(join(directory, "fixtures"), { recursive: true });
  for (const [file, text] of files) writeNew(file, text);
  return files.map(([file]) => file);
}

function writeNew(path: string, text: string): void {
  try {
    writeFileSync(path, text, { flag: "wx" });
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    throw invalid(
      "NAME",
      code === "EEXIST" ? `${path} is there already` : `${path} cannot be written (${code})`,
    );
  }
}
