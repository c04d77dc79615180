import { inspect } from "node:util";
import { describe, expect, it } from "vitest";
import type { Credential } from "../../src/tokens/credential.ts";
import { Secret } from "../../src/tokens/secret.ts";
import {
  contextOf,
  oauthCredential,
  oauthFile,
  providerOf,
  shipped,
  staticCredential,
  vendorsOf,
} from "./stage.ts";

function authorize(file: string, credential: Credential, fields: Record<string, string> = {}) {
  const { vendors } = vendorsOf(providerOf(file));
  const made = vendors.authorize(contextOf("acme", fields, credential));
  return {
    token: made.accessToken.reveal(),
    type: made.tokenType,
    headers: made.headers.reveal(),
    query: made.queryParameters.reveal(),
    baseUrl: made.baseUrl,
  };
}

const key = (authorization: string, more = "") =>
  `credentials: { format: api_key }\nauthorization: ${authorization}\n${more}\n`;

describe("putting a credential into requests", () => {
  it("reads a bearer token from the path that the file names, or from where it lies anyway", () => {
    const credential = oauthCredential({
      members: new Secret({ authed_user: { access_token: "user-token" } }),
    });
    expect(authorize(oauthFile(), credential).headers).toEqual({ Authorization: "Bearer old-access-77d0" });
    const user = oauthFile().replace("oauth.token.access_token", "oauth.token.authed_user.access_token");
    expect(authorize(user, credential)).toMatchObject({
      token: "user-token",
      headers: { Authorization: "Bearer user-token" },
    });
    const bare = "credentials: { format: bearer }\nauthorization: { format: bearer }\n";
    expect(authorize(bare, staticCredential("bearer", { token: "fixed" }))).toMatchObject({
      token: "fixed",
      type: "Bearer",
      headers: { Authorization: "Bearer fixed" },
    });
    expect(
      authorize(key("{ format: bearer }"), staticCredential("api_key", { api_key: "k" })).headers,
    ).toEqual({ Authorization: "Bearer k" });
  });

  it("sends an API key as the Basic user name, with an empty or a fixed password", () => {
    const credential = staticCredential("api_key", { api_key: "k1" });
    const basic = (text: string) => ({ Authorization: `Basic ${Buffer.from(text).toString("base64")}` });
    expect(authorize(key("{ format: basic }"), credential).headers).toEqual(basic("k1:"));
    const { vendors } = vendorsOf(shipped("bamboohr"));
    const made = vendors.authorize(contextOf("bamboohr", { subdomain: "acme" }, credential));
    expect(made.headers.reveal()).toEqual(basic("k1:x"));
    expect(made.baseUrl).toBe("https://acme.bamboohr.com/api");
    const pair = "credentials: { format: basic }\nauthorization: { format: basic }\n";
    expect(authorize(pair, staticCredential("basic", { username: "ü", password: "" })).headers).toEqual(
      basic("ü:"),
    );
    expect(() => authorize(pair, staticCredential("basic", { username: "a:b", password: "p" }))).toThrow(
      /colon/,
    );
  });

  it("sends headers and query parameters, several at once", () => {
    const file = `credentials: { format: api_key, config: { fields: { api_key: {}, application_key: {} } } }
authorization:
  - { format: header, config: { name: DD-API-KEY, value: "\${api_key}" } }
  - { format: header, config: { name: DD-APPLICATION-KEY, value: "\${application_key}" } }
  - { format: query, config: { name: region, value: "\${fields.region}" } }
account_fields: { region: {} }
`;
    const made = authorize(file, staticCredential("api_key", { api_key: "a", application_key: "b" }), {
      region: "eu",
    });
    expect(made).toMatchObject({
      token: "a",
      type: "ApiKey",
      headers: { "DD-API-KEY": "a", "DD-APPLICATION-KEY": "b" },
      query: { region: "eu" },
    });
  });

  it("puts the OAuth client's further secrets in, and says which one it lacks", () => {
    const file = oauthFile("client_fields: { developer_token: {} }").replace(
      "authorization: { format: bearer, config: { path: oauth.token.access_token } }",
      'authorization: [{ format: bearer }, { format: header, config: { name: developer-token, value: "${client.developer_token}" } }]',
    );
    const { vendors } = vendorsOf(providerOf(file));
    const context = contextOf("acme");
    const fields = { developer_token: new Secret("dev-1") };
    const client = context.client && { ...context.client, fields };
    expect(vendors.authorize({ ...context, client }).headers.reveal()).toEqual({
      Authorization: "Bearer old-access-77d0",
      "developer-token": "dev-1",
    });
    expect(vendors.rules("acme")).toMatchObject({ clientFields: ["developer_token"], needsClient: true });
    for (const lacking of [context, { ...context, client: undefined }])
      expect(() => vendors.authorize(lacking)).toThrow(
        expect.objectContaining({
          reason: "CLIENT_MISCONFIGURED",
          message: expect.stringMatching(
            /no developer_token.*keyturn clients put acme .*--secret-file developer_token=PATH/,
          ),
        }),
      );
  });

  it("computes custom headers in the fence", () => {
    const file = key(
      `{ format: custom, config: { headers: { Authorization: '"Token " & $base64encode(fields.site & ":" & api_key)' }, query: { v: '"2"' } } }`,
      "account_fields: { site: {} }",
    );
    const made = authorize(file, staticCredential("api_key", { api_key: "k" }), { site: "s" });
    expect(made).toMatchObject({
      headers: { Authorization: `Token ${Buffer.from("s:k").toString("base64")}` },
      query: { v: "2" },
    });
  });

  it("refuses a secret that would break a header, a value that is not there, and a token not minted yet", () => {
    const file = key("{ format: header, config: { name: X-Key, value: '${api_key}' } }");
    expect(() => authorize(file, staticCredential("api_key", { api_key: "a\r\nX-Evil: 1" }))).toThrow(
      /header X-Key/,
    );
    expect(() => authorize(file, staticCredential("api_key", { other: "a" }))).toThrow(/no api_key/);
    expect(() => authorize(oauthFile(), { kind: "unminted" })).toThrow(/No token/);
    try {
      authorize(file, staticCredential("api_key", { api_key: "secret-key\n" }));
    } catch (error) {
      expect(inspect(error)).not.toContain("secret-key");
    }
  });

  it("gives the base URL of the answer's own field only inside the allowed domains", () => {
    const { vendors } = vendorsOf(shipped("salesforce"));
    const baseUrl = (instance_url: string) =>
      vendors.authorize(contextOf("salesforce", { instance_url })).baseUrl;
    expect(baseUrl("https://acme.my.salesforce.com")).toBe("https://acme.my.salesforce.com");
    for (const evil of [
      "https://evil.example",
      "https://salesforce.com.evil.example",
      "https://a@evil.example/.salesforce.com",
      "",
    ])
      expect(baseUrl(evil)).toBe("");
  });

  it("says PROVIDER_NOT_FOUND when the file is gone, and shows no secret when inspected", () => {
    const { vendors } = vendorsOf(providerOf(oauthFile()));
    expect(() => vendors.authorize(contextOf("gone"))).toThrow(/missing/);
    expect(inspect(vendors.authorize(contextOf("acme")), { depth: 9 })).not.toContain("old-access");
  });
});
