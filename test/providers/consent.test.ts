import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { consentReply } from "../../src/providers/consent-reply.ts";
import { consentUrl } from "../../src/providers/consent-url.ts";
import { Secret } from "../../src/tokens/secret.ts";
import { oauthFile, providerOf, SHIPPED_NAMES, shipped } from "./stage.ts";

const REQUEST = {
  provider: "acme",
  clientId: "app & co",
  fields: {} as Readonly<Record<string, string>>,
  scopes: [] as readonly string[],
  redirectUri: "https://app.example/callback",
  state: new Secret("state-1"),
  verifier: new Secret("verifier-0123456789-0123456789-0123456789-0"),
};

function ask(more = "", config = "", over: Partial<typeof REQUEST> = {}) {
  const { url, ...rest } = consentUrl(providerOf(oauthFile(more, config)), { ...REQUEST, ...over });
  return { ...rest, url: new URL(url), query: Object.fromEntries(new URL(url).searchParams) };
}

const WITHOUT_CODE = `account_fields: { app: {}, installation: { pattern: "^[0-9]+$" } }
callback_fields: { installation: { parameter: installation_id } }
consent:
  url: https://acme.example/apps/\${app}/install
  params: { lang: en }
  rename: { redirect_uri: false }
  granted: body.did = "install"
credentials:
  format: oauth2_client_credentials
  config: { auth: { tokenHost: https://acme.example, tokenPath: "/\${installation}/token" }, scope: [all] }
authorization: { format: bearer }`;

function replyWithoutCode(query: string, given: Record<string, string> = {}) {
  const asked = { fields: { app: "mine", ...given }, given, secrets: [] };
  return consentReply(providerOf(WITHOUT_CODE), new URLSearchParams(query), asked);
}

function reply(query: string, more = "", config = "", fields: Record<string, string> = {}) {
  return consentReply(providerOf(oauthFile(more, config)), new URLSearchParams(query), {
    fields,
    given: fields,
    secrets: ["state-1"],
  });
}

describe("the URL of a consent", () => {
  it("has what RFC 6749 and RFC 7636 ask for", () => {
    const { url, query, usesPkce } = ask("", "    scope: [read, write]");
    expect(`${url.origin}${url.pathname}`).toBe("https://auth.acme.example/oauth/authorize");
    const challenge = createHash("sha256").update(REQUEST.verifier.reveal()).digest("base64url");
    expect(query).toEqual({
      response_type: "code",
      client_id: "app & co",
      redirect_uri: "https://app.example/callback",
      scope: "read write",
      state: "state-1",
      code_challenge: challenge,
      code_challenge_method: "S256",
    });
    expect(usesPkce).toBe(true);
  });

  it("joins the file's scopes, or those asked for, with the file's separator", () => {
    const config = '    scope: [a, b]\n    scopeSeparator: ","';
    expect(ask("", config).query["scope"]).toBe("a,b");
    expect(ask("", config, { scopes: ["c", "d"] })).toMatchObject({
      query: { scope: "c,d" },
      scopes: ["c", "d"],
    });
  });

  it("leaves PKCE and standard parameters out, and renames them, where the file says so", () => {
    const { query, usesPkce } = ask(
      "",
      "    pkce: false\n    authorizeRename: { response_type: false, client_id: app_id }\n    authorizeParams: { access_type: offline }",
    );
    expect(Object.keys(query)).toEqual(["app_id", "redirect_uri", "state", "access_type"]);
    expect(usesPkce).toBe(false);
  });

  it("does not go to a host that the account's fields would make up", () => {
    const file = `account_fields: { shop: { title: Shop } }
credentials:
  format: oauth2
  config: { auth: { tokenHost: "https://\${shop}.acme.example" } }
authorization: { format: bearer }`;
    const at = (shop: string) =>
      consentUrl(providerOf(file), { ...REQUEST, fields: { shop } }).url.split("?")[0];
    expect(at("north")).toBe("https://north.acme.example/oauth/authorize");
    expect(() => at("evil.example/#")).toThrow(/fields\.shop must be one DNS label/);
    expect(() => consentUrl(providerOf(file), REQUEST)).toThrow(/fields\.shop: this provider needs it/);
  });

  it.each(SHIPPED_NAMES.filter((name) => shipped(name).consent !== undefined))(
    "can be made of %s",
    (name) => {
      const provider = shipped(name);
      const examples = Object.entries(provider.file.account_fields ?? {}).map(
        ([field, { example, default: preset }]) => [field, preset ?? example ?? "8080"],
      );
      const { url } = consentUrl(provider, { ...REQUEST, fields: Object.fromEntries(examples) });
      expect(new URL(url).searchParams.get("state")).toBe("state-1");
    },
  );
});

describe("the reply on the redirect", () => {
  it("brings the code, and of the rest only what the file names", () => {
    const fields = "callback_fields: { realmId: { pattern: '^[0-9]+$' }, shop: { required: false } }";
    const read = reply("code=c-1&state=s&realmId=42&evil=1", fields);
    expect(read).toMatchObject({ kind: "code", fields: { realmId: "42" } });
    expect(read.kind === "code" && read.code.reveal()).toBe("c-1");
  });

  it.each([
    ["code=c", "does not bring realmId once"],
    ["code=c&realmId=1&realmId=2", "does not bring realmId once"],
    ["code=c&realmId=1%2F..", "realmId is not ^[0-9]+$"],
    ["state=s&realmId=1", "brings no code"],
    ["code=c&code=d&realmId=1", "code more than once"],
  ])("is invalid as %s", (query, message) => {
    const read = reply(query, "callback_fields: { realmId: { pattern: '^[0-9]+$' } }");
    expect(read).toMatchObject({ kind: "invalid", message: expect.stringContaining(message) });
  });

  it("has its code under the vendor's name for it", () => {
    expect(reply("auth_code=c", "", "    callbackRename: { code: auth_code }").kind).toBe("code");
  });

  it.each([
    ["access_denied", "denied"],
    ["consent_required", "denied"],
    ["invalid_scope", "fix_configuration"],
    ["unauthorized_client", "fix_configuration"],
    ["temporarily_unavailable", "transient"],
    ["server_error", "transient"],
  ])("with the error %s is of class %s", (error, failure) => {
    expect(reply(`error=${error}&error_description=no%20state-1`)).toEqual({
      kind: "refused",
      class: failure,
      code: error,
      message: "no [secret]",
    });
  });

  it("is classified by the file's rules first", () => {
    const errors =
      'errors: >-\n  body.error = "app_paused" ? {"class": "fix_configuration", "code": "paused"}';
    expect(reply("error=app_paused", errors)).toMatchObject({ class: "fix_configuration", code: "paused" });
  });

  it("is refused when iss names another server than the one that was asked (RFC 9207)", () => {
    expect(reply("code=c&iss=https%3A%2F%2Fauth.acme.example").kind).toBe("code");
    expect(reply("code=c&iss=https%3A%2F%2Fauth.acme.example%2Ftenants%2F1").kind).toBe("code");
    expect(reply("code=c&iss=https%3A%2F%2Fevil.example")).toMatchObject({ kind: "invalid", cause: "iss" });
    expect(reply("error=access_denied&iss=https%3A%2F%2Fevil.example")).toMatchObject({ cause: "iss" });
    const file = oauthFile().replace(
      'tokenPath: "/token"',
      'tokenPath: "/token", issuer: "https://id.acme.example"',
    );
    const at = (iss: string) =>
      consentReply(providerOf(file), new URLSearchParams({ code: "c", iss }), {
        fields: {},
        given: {},
        secrets: [],
      }).kind;
    expect(at("https://id.acme.example")).toBe("code");
    expect(at("https://auth.acme.example")).toBe("invalid");
  });
});

describe("a consent that no code comes of", () => {
  it("is asked for with the client, the scopes and the state, as far as the file does not say otherwise", () => {
    const { url, usesPkce } = consentUrl(providerOf(WITHOUT_CODE), { ...REQUEST, fields: { app: "mine" } });
    const { origin, pathname, searchParams } = new URL(url);
    expect(`${origin}${pathname}`).toBe("https://acme.example/apps/mine/install");
    expect(Object.fromEntries(searchParams)).toEqual({
      client_id: "app & co",
      scope: "all",
      state: "state-1",
      lang: "en",
    });
    expect(usesPkce).toBe(false);
  });

  it.each([
    ["did=install&installation_id=7", {}, { kind: "consented", fields: { installation: "7" } }],
    ["did=install&installation_id=7", { installation: "7" }, { kind: "consented" }],
    ["did=install&installation_id=8", { installation: "7" }, { kind: "invalid", cause: "callback_field" }],
    ["did=install&installation_id=7..", {}, { kind: "invalid", cause: "callback_field" }],
    ["did=install", {}, { kind: "invalid", cause: "callback_field" }],
    ["did=ask&installation_id=7", {}, { kind: "refused", class: "denied", code: "not_granted" }],
    ["installation_id=7", {}, { kind: "refused", class: "denied", code: "not_granted" }],
    ["error=access_denied", {}, { kind: "refused", class: "denied", code: "access_denied" }],
    ["did=install&installation_id=7&iss=https://evil.example", {}, { kind: "invalid", cause: "iss" }],
  ])("comes back as %s", (query, given, expected) => {
    expect(replyWithoutCode(query, given)).toMatchObject(expected);
  });

  it("is only for tokens that our app mints by itself", () => {
    const asked = WITHOUT_CODE.replace(/format: oauth2_client_credentials\n {2}config:.*/, "format: api_key");
    expect(() => providerOf(asked)).toThrow(/consent: .*tokens the OAuth client mints by itself/);
  });
});

describe("a field that is given at the start and comes with the redirect", () => {
  const file = (more: string) => `account_fields:
  home: { default: "https://a.acme.example", allowed_suffixes: [acme.example] }
callback_fields: { home: { parameter: server, required: false${more} } }
credentials:
  format: oauth2
  config: { auth: { tokenHost: "\${home}" } }
authorization: { format: bearer }`;
  const said = (server: string, given: Record<string, string>, more = ", overrides: true") => {
    const query = new URLSearchParams({ code: "c", server });
    return consentReply(providerOf(file(more)), query, { fields: given, given, secrets: [] });
  };
  const B = "https://b.acme.example";

  it("is the redirect's where the file says so, or where none was given", () => {
    const given = { home: "https://a.acme.example" };
    expect(said(B, given)).toMatchObject({ kind: "code", fields: { home: B } });
    expect(said(B, given, "")).toMatchObject({ kind: "invalid", cause: "callback_field" });
    expect(said(B, {}, "")).toMatchObject({ kind: "code", fields: { home: B } });
  });

  it.each([
    "https://evil.example",
    "https://acme.example.evil.example",
    "https://evil.example/#.acme.example",
    "https://a.acme.example:444",
    "http://a.acme.example",
    "https://user@a.acme.example",
    "https://evil.example?.acme.example",
  ])("never sends a code to %s", (server) => {
    expect(said(server, {})).toMatchObject({ kind: "invalid", cause: "callback_field" });
  });

  it("may be proven after the connection, by the rule that it was declared with", () => {
    const proven = `${file(", overrides: true")}
after_connect: [{ url: "https://api.acme.example/homes", fields: { home: { value: body.homes } } }]`;
    expect(providerOf(proven).afterConnect[0]?.fields[0]?.[0]).toBe("home");
    const looser = proven.replace("value: body.homes", 'value: body.homes, pattern: "^.*$"');
    expect(() => providerOf(looser)).toThrow(/after_connect.*home.*declared further up/);
  });

  it("is not looser on the redirect than at the start", () => {
    expect(() => providerOf(file(', pattern: "^.*$"'))).toThrow(
      /callback_fields.home: .*declared further up/,
    );
  });
});

it("reads whatever redirect as one of four replies, for every shipped file, and repeats no secret", () => {
  const planted = "planted-5ecret/+=%41";
  const text = fc.oneof(
    fc.string(),
    fc.constantFrom(planted, "True", "install", "https://evil.example", "1"),
  );
  const name = fc.oneof(
    fc.string(),
    fc.constantFrom("code", "state", "error", "error_description", "iss", "tenant", "admin_consent"),
    fc.constantFrom("accounts-server", "installation_id", "setup_action", "realmId", "merchant_id"),
  );
  const providers = SHIPPED_NAMES.map(shipped).filter(({ consent }) => consent !== undefined);
  const kinds = ["code", "consented", "refused", "invalid"];
  fc.assert(
    fc.property(
      fc.constantFrom(...providers),
      fc.array(fc.tuple(name, text), { maxLength: 8 }),
      (provider, pairs) => {
        const query = new URLSearchParams(pairs.map(([key, value]): [string, string] => [key, value]));
        const said = consentReply(provider, query, { fields: {}, given: {}, secrets: [planted] });
        expect(kinds).toContain(said.kind);
        if (said.kind === "refused") expect(`${said.code} ${said.message}`).not.toContain(planted);
        const fields = said.kind === "code" || said.kind === "consented" ? said.fields : {};
        for (const [field, value] of Object.entries(fields))
          expect(provider.fields.get(field)?.accepts(value)).toBe(true);
      },
    ),
    { numRuns: 2_000 },
  );
}, 60_000);
