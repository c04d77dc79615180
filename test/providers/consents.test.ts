import { describe, expect, it } from "vitest";
import { createConsents } from "../../src/providers/consents.ts";
import { catalogueOf } from "../../src/providers/load.ts";
import type { Sent } from "../../src/providers/send.ts";
import { Secret } from "../../src/tokens/secret.ts";
import type { RawAnswer, VendorContext } from "../../src/tokens/vendor.ts";
import {
  answerOf,
  bodyText,
  contextOf,
  headerOf,
  NOW_MS,
  oauthCredential,
  oauthFile,
  providerOf,
  staticCredential,
  wayOut,
} from "./stage.ts";

const CODE = {
  code: new Secret("code-4711"),
  redirectUri: "https://app.example/callback",
  codeVerifier: new Secret("verifier-4711"),
  state: "state-1",
};

function consentsOf(text: string, ...answers: (RawAnswer | Sent)[]) {
  const provider = providerOf(text);
  const { send, sent } = wayOut(...answers);
  const catalogue = catalogueOf(new Map([["acme", provider]]));
  return { consents: createConsents({ catalogue: () => catalogue, send, now: () => NOW_MS }), sent };
}

function unminted(fields: Record<string, string> = {}): VendorContext {
  return contextOf("acme", fields, { kind: "unminted" });
}

const GRANT = { access_token: "at-1", refresh_token: "rt-1", token_type: "bearer", expires_in: 3_600 };

describe("the exchange of a code", () => {
  it("sends code, redirect address and verifier, once, as our client", async () => {
    const { consents, sent } = consentsOf(oauthFile(), answerOf(200, GRANT));
    const ear = new AbortController().signal;
    const result = await consents.redeem(unminted(), CODE, () => true, ear, []);
    expect(result.kind).toBe("answer");
    expect(Object.fromEntries(new URLSearchParams(bodyText(sent[0])))).toEqual({
      grant_type: "authorization_code",
      code: "code-4711",
      redirect_uri: CODE.redirectUri,
      code_verifier: "verifier-4711",
    });
    expect(headerOf(sent[0], "authorization")).toMatch(/^Basic /);
  });

  it("grants what was asked for when the answer does not say (RFC 6749 §5.1)", async () => {
    const { consents } = consentsOf(oauthFile("", "    scope: [file]"));
    const read = (body: object) => consents.grant(unminted(), CODE, ["asked"], [answerOf(200, body)]);
    const scopes = async (body: object) => {
      const grant = await read(body);
      const credential = grant.kind === "granted" ? grant.credentials.get("default") : undefined;
      return credential?.kind === "oauth" ? credential.scopes : undefined;
    };
    expect(await scopes(GRANT)).toEqual(["asked"]);
    expect(await scopes({ ...GRANT, scope: "less" })).toEqual(["less"]);
  });

  it("never repeats code or verifier in what it says of a refusal", async () => {
    const { consents } = consentsOf(oauthFile());
    const body = { error: "invalid_grant", error_description: "code-4711 of verifier-4711 is spent" };
    expect(await consents.grant(unminted(), CODE, [], [answerOf(400, body)])).toMatchObject({
      kind: "refused",
      class: "reauth",
      code: "invalid_grant",
      message: "[secret] of [secret] is spent",
    });
  });

  it("gives every token that the file reads from the answer", async () => {
    const tokens = `tokens:
  bot: { token: body }
  user: { token: body.authed_user }`;
    const { consents } = consentsOf(oauthFile(tokens));
    const names = async (body: object) => {
      const grant = await consents.grant(unminted(), CODE, [], [answerOf(200, body)]);
      return grant.kind === "granted" ? [...grant.credentials.keys()] : grant.kind;
    };
    expect(await names({ ...GRANT, authed_user: { access_token: "at-2", token_type: "user" } })).toEqual([
      "bot",
      "user",
    ]);
    expect(await names({ ...GRANT, authed_user: { id: "U1" } })).toEqual(["bot"]);
    expect(await names({ authed_user: { access_token: "at-2" } })).toEqual(["user"]);
    expect(await names({ ok: true })).toBe("unmapped");
  });
});

describe("who an account is", () => {
  const claims = (payload: object) => `h.${Buffer.from(JSON.stringify(payload)).toString("base64url")}.s`;

  it.each([
    ["identity: body.team.id", { team: { id: "T1" } }, "T1"],
    ["identity: body.hub_id", { hub_id: 62515 }, "62515"],
    ["identity: claims.sub", { id_token: claims({ sub: "alice" }) }, "alice"],
    ["identity: fields.realmId\ncallback_fields: { realmId: {} }", {}, "realm-7"],
    ["identity: claims.sub", { id_token: "not a token" }, undefined],
    ["identity: body.none", {}, undefined],
  ])("is told by %s", async (file, more, subject) => {
    const { consents } = consentsOf(oauthFile(file));
    const context = unminted({ realmId: "realm-7" });
    const grant = await consents.grant(context, CODE, [], [answerOf(200, { ...GRANT, ...more })]);
    expect(grant).toMatchObject({ kind: "granted", subject });
  });
});

describe("what is asked after a connection", () => {
  const SITES = `after_connect:
  - url: https://api.acme.example/sites
    fields:
      site: { value: 'body.sites.{"value": id, "title": name}', pattern: '^s[0-9]+$' }
  - url: https://api.acme.example/sites/\${site}/me
    identity: body.email
allowed_hosts: [auth.acme.example, api.acme.example]`;
  const sites = (...ids: string[]) => answerOf(200, { sites: ids.map((id) => ({ id, name: `Site ${id}` })) });
  const me = answerOf(200, { email: "alice@acme.example" });
  const connected = (fields: Record<string, string> = {}) => contextOf("acme", fields, oauthCredential());

  it("goes out with the new credential, each request knowing what the one before told", async () => {
    const { consents, sent } = consentsOf(oauthFile(SITES), sites("s1"), me);
    expect(await consents.introduce(connected())).toEqual({
      kind: "introduced",
      fields: { site: "s1" },
      subject: "alice@acme.example",
    });
    expect(sent.map(({ method, url }) => `${method} ${url}`)).toEqual([
      "GET https://api.acme.example/sites",
      "GET https://api.acme.example/sites/s1/me",
    ]);
    expect(headerOf(sent[1], "authorization")).toMatch(/^Bearer /);
  });

  it("asks for the choice when several match, and takes it by value or title", async () => {
    const { consents } = consentsOf(oauthFile(SITES), sites("s1", "s2"));
    expect(await consents.introduce(connected())).toEqual({
      kind: "choice",
      field: "site",
      isForeign: false,
      choices: [
        { value: "s1", title: "Site s1" },
        { value: "s2", title: "Site s2" },
      ],
    });
    for (const chosen of ["s2", "Site s2"]) {
      const again = consentsOf(oauthFile(SITES), sites("s1", "s2"), me);
      expect(await again.consents.introduce(connected({ site: chosen }))).toMatchObject({
        fields: { site: "s2" },
      });
    }
    const foreign = consentsOf(oauthFile(SITES), sites("s1", "s2"));
    expect(await foreign.consents.introduce(connected({ site: "s3" }))).toMatchObject({
      kind: "choice",
      isForeign: true,
    });
  });

  it.each([
    ["nothing that is permitted", [sites("../x")], "no_site"],
    ["a refusal", [answerOf(503, {})], "status_503"],
    ["silence", [{ kind: "unknown", cause: "timeout" } as const], "timeout"],
  ])("fails with %s", async (_, answers, cause) => {
    const { consents } = consentsOf(oauthFile(SITES), ...answers);
    expect(await consents.introduce(connected())).toEqual({ kind: "failed", cause });
  });

  it("goes out with a customer's key as well", async () => {
    const file = `credentials: { format: api_key }
authorization: { format: query, config: { name: key, value: "\${api_key}" } }
after_connect: [{ url: "https://api.acme.example/me", identity: body.id }]`;
    const { consents, sent } = consentsOf(file, answerOf(200, { id: 7 }));
    const context = contextOf("acme", {}, staticCredential("api_key", { api_key: "k-1" }));
    expect(await consents.introduce(context)).toMatchObject({ subject: "7" });
    expect(sent[0]?.url).toBe("https://api.acme.example/me?key=k-1");
  });
});

describe("a secret handed in", () => {
  const file = (credentials: string, authorization = "{ format: bearer }") =>
    `credentials: ${credentials}\nauthorization: ${authorization}`;
  const given = (text: string, secrets: Record<string, string>) =>
    consentsOf(text).consents.credential("acme", secrets, NOW_MS, undefined);

  it("is kept under the names of the file's format", () => {
    const basic = given(file("{ format: basic }", "{ format: basic }"), { username: "me", password: "" });
    expect(basic).toMatchObject({ kind: "basic", versions: [{ version: "1", state: "active" }] });
    const two = "{ format: api_key, config: { fields: { api_key: {}, application_key: {} } } }";
    expect(
      given(file(two, '{ format: header, config: { name: k, value: "${api_key}" } }'), {
        api_key: "a",
        application_key: "b",
      }).kind,
    ).toBe("api_key");
    expect(given(file("{ format: bearer }"), { token: "t" }).kind).toBe("bearer");
  });

  it.each([
    ["{ format: bearer }", {}, "secrets.token: this provider needs it"],
    ["{ format: bearer }", { token: "t", other: "o-4711" }, "secrets.other: this provider asks for token"],
  ])("of %s has to be what the file asks for", (credentials, secrets, message) => {
    expect(() => given(file(credentials), secrets)).toThrow(message);
  });

  it("is not how a consent's provider is connected", () => {
    expect(() => given(oauthFile(), {})).toThrow("are connected with StartAuthorization");
  });
});
