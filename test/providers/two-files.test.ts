import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { testProvider } from "../../src/providers/fixtures/test-provider.ts";
import { loadCatalogue } from "../../src/providers/load.ts";
import { tempFolder } from "../fakes/temp-folder.ts";
import { SHIPPED } from "./stage.ts";

const CURRENT = `
credentials:
  format: oauth2
  config:
    auth: { tokenHost: https://auth.acme.example, tokenPath: /oauth/token }
authorization: { format: bearer }
refresh: { resend_safe: false }
`;
const CURRENT_FIXTURES = `
cases:
  - it: rotates
    call: refresh
    sends: { headers: { authorization: /Basic .+/ }, body: { grant_type: refresh_token } }
    answer: { body: { access_token: b, refresh_token: r2, expires_in: 3600 } }
    gives: { access_token: b, refresh_token: r2, expires_in: 3600, headers: { Authorization: Bearer b } }
  - it: has ended
    call: refresh
    answer: { status: 400, body: { error: invalid_grant } }
    refused: { class: reauth }
  - it: throttles
    call: api
    answer: { status: 429, headers: { ratelimit-limit: "10", ratelimit-remaining: "0", ratelimit-reset: "5" } }
    rate_limit: { limit: 10, remaining: 0, reset: 5, throttled: true }
`;

/** The same vendor's older API: other names, an envelope, failures by 200, milliseconds, another throttling. */
const LEGACY = `
account_fields: { shard: { pattern: "^[a-z]{2}[0-9]$" } }
credentials:
  format: oauth2
  config:
    auth: { tokenHost: "https://\${shard}.acme.example", tokenPath: /v1/token, refreshPath: /v1/renew }
    pkce: false
    options: { authorizationMethod: body, bodyFormat: json }
    tokenRequest: { rename: { client_id: app_id, client_secret: app_secret, grant_type: false } }
authorization: { format: header, config: { name: X-Acme-Token, value: "\${oauth.token.access_token}" } }
response:
  success: status < 300 and body.code = 0
  token: body.data
  map: { access_token: body.data.accessToken }
  expires_in: ms
errors: 'body.code = 7 ? {"class": "reauth", "code": "7"} : body.code = 8 ? {"class": "rate_limited"}'
rate_limits:
  windows: [{ remaining: X-Acme-Left, reset: { header: X-Acme-Until, unit: epoch_ms } }]
  throttled: body.code = 8
refresh: { resend_safe: true }
`;
const LEGACY_FIXTURES = `
fields: { shard: eu1 }
cases:
  - it: renews
    call: refresh
    sends:
      url: https://eu1.acme.example/v1/renew
      headers: { authorization: null }
      body: { app_id: client-1, app_secret: client-secret-1, refresh_token: old-refresh, grant_type: null, client_id: null }
    answer: { body: { code: 0, data: { accessToken: b, expires_in: 3600000 } } }
    gives: { access_token: b, refresh_token: old-refresh, expires_in: 3600, headers: { X-Acme-Token: b, Authorization: null } }
  - it: has ended, with status 200
    call: refresh
    answer: { body: { code: 7 } }
    refused: { class: reauth, code: "7" }
  - it: throttles with status 200
    call: api
    answer: { headers: { x-acme-left: "0", x-acme-until: "1767225605000" }, body: { code: 8 } }
    rate_limit: { limit: null, remaining: 0, reset: 5, throttled: true }
`;

describe("one vendor with two sets of quirks", () => {
  it("is two files in a directory of one's own, and no code", async () => {
    const directory = tempFolder();
    mkdirSync(join(directory, "fixtures"));
    const write = (name: string, file: string, fixtures: string) => {
      writeFileSync(join(directory, `${name}.yaml`), file);
      writeFileSync(join(directory, "fixtures", `${name}.yaml`), fixtures);
    };
    write("acme", CURRENT, CURRENT_FIXTURES);
    write("acme-legacy", LEGACY, LEGACY_FIXTURES);
    const loaded = loadCatalogue([SHIPPED, directory]);
    expect(loaded.ok && ["acme", "acme-legacy"].map((name) => loaded.catalogue.get(name)?.name)).toEqual([
      "acme",
      "acme-legacy",
    ]);
    for (const name of ["acme", "acme-legacy"]) {
      const { faults, cases } = await testProvider(join(directory, `${name}.yaml`), SHIPPED);
      expect([faults, cases.flatMap((each) => each.faults)]).toEqual([[], []]);
      expect(cases).toHaveLength(3);
    }
  });
});
