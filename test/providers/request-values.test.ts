import { createHmac, createPublicKey, generateKeyPairSync, verify } from "node:crypto";
import { describe, expect, it } from "vitest";
import { Secret } from "../../src/tokens/secret.ts";
import type { VendorContext } from "../../src/tokens/vendor.ts";
import {
  answerOf,
  bodyText,
  CLIENT_SECRET,
  contextOf,
  headerOf,
  NOW_MS,
  OLD_ACCESS,
  OLD_REFRESH,
  oauthFile,
  providerOf,
  tokenBody,
  vendorsOf,
} from "./stage.ts";

const ear = new AbortController().signal;
const go = () => true;

async function sent(file: string, context: VendorContext = contextOf("acme")) {
  const { vendors, sent: requests } = vendorsOf(providerOf(file));
  await vendors.exchange(context, go, ear);
  return requests[0];
}

const form = (text: string) => Object.fromEntries(new URLSearchParams(text));

describe("a request made by a provider file", () => {
  it("calls standard parameters by the vendor's names and leaves out what the file leaves out", async () => {
    const config = `    options: { authorizationMethod: body }
    tokenRequest: { rename: { client_id: app_id, client_secret: secret, grant_type: false } }
    refreshRequest: { rename: { refresh_token: token } }`;
    expect(form(bodyText(await sent(oauthFile("", config))))).toEqual({
      app_id: "client id/1",
      secret: CLIENT_SECRET,
      token: OLD_REFRESH,
    });
  });

  it("refreshes by another host and method, with the access token in the query", async () => {
    const config = `    refreshRequest: { credential: access_token, method: GET, authorizationMethod: custom }
    refreshParams: { grant_type: ig_refresh_token, access_token: "\${access_token}" }`;
    const file = oauthFile("", config).replace(
      'tokenPath: "/token"',
      'tokenPath: "/token", refreshHost: "https://graph.acme.example", refreshPath: /refresh_access_token',
    );
    const request = await sent(file);
    expect(request?.method).toBe("GET");
    expect(request?.url).toBe(
      `https://graph.acme.example/refresh_access_token?grant_type=ig_refresh_token&access_token=${OLD_ACCESS}`,
    );
    expect(request?.body).toBeUndefined();
    expect(headerOf(request, "authorization")).toBeUndefined();
    expect(request?.allowedHosts).toContain("graph.acme.example");
  });

  it("puts the parameters of a POST into the query when the file says so", async () => {
    const request = await sent(oauthFile("", "    options: { bodyFormat: query }"));
    expect(request?.method).toBe("POST");
    expect(new URL(request?.url ?? "").searchParams.get("refresh_token")).toBe(OLD_REFRESH);
    expect(request?.body).toBeUndefined();
  });

  it("keeps numbers, truths and objects in a JSON body, and sends a whole body of the file's own", async () => {
    const json = await sent(
      oauthFile(
        "",
        `    options: { bodyFormat: json, authorizationMethod: custom }
    refreshParams: { expires_in: { value: "3600" }, app: { value: '{"id": client_id}' }, none: { value: nothing } }`,
      ),
    );
    expect(JSON.parse(bodyText(json))).toEqual({
      grant_type: "refresh_token",
      refresh_token: OLD_REFRESH,
      expires_in: 3600,
      app: { id: "client id/1" },
    });
    const whole = await sent(
      oauthFile(
        "",
        `    tokenHeaders: { content-type: text/xml }
    refreshRequest: { body: '"<t>" & params.refresh_token & "</t>"' }`,
      ),
    );
    expect(bodyText(whole)).toBe(`<t>${OLD_REFRESH}</t>`);
    expect(headerOf(whole, "content-type")).toBe("text/xml");
  });

  it("signs the very bytes it sends, with one time and one nonce in all its parts", async () => {
    const request = await sent(
      oauthFile(
        "",
        `    options: { authorizationMethod: custom, bodyFormat: json }
    tokenHeaders:
      x-time: "\${now}"
      x-nonce: "\${nonce}"
      x-id: "\${uuid}"
      x-sign: { value: '$hmac("sha256", client_secret, request.method & request.path & request.body & $string(now) & nonce)' }
    refreshParams: { nonce: "\${nonce}", short: { value: '$substring($hash("md5", client_secret), 0, 8)' } }`,
      ),
    );
    const body = bodyText(request);
    const nonce = headerOf(request, "x-nonce") ?? "";
    expect(headerOf(request, "x-time")).toBe(String(NOW_MS / 1_000));
    expect(headerOf(request, "x-id")).toMatch(/^[0-9a-f]{8}-/);
    expect(JSON.parse(body)).toMatchObject({ nonce, short: expect.stringMatching(/^[0-9a-f]{8}$/) });
    const signed = createHmac("sha256", CLIENT_SECRET).update(`POST/token${body}${NOW_MS / 1_000}${nonce}`);
    expect(headerOf(request, "x-sign")).toBe(signed.digest("hex"));
  });

  it("names our app by a Basic user without a password", async () => {
    const request = await sent(
      oauthFile(
        "",
        `    options: { authorizationMethod: custom }
    tokenHeaders: { authorization: { value: '$basic(client_secret, "")' } }`,
      ),
    );
    const value = Buffer.from(headerOf(request, "authorization")?.slice(6) ?? "", "base64").toString();
    expect(value).toBe(`${CLIENT_SECRET}:`);
  });

  it("sends nothing when an expression fails or a value is missing, and says none of what it read", async () => {
    const failing = oauthFile(
      "",
      `    refreshParams: { x: { value: "$hash(client_secret, client_secret)" } }`,
    );
    const missing = oauthFile("", `    refreshParams: { x: "\${client_key}" }`);
    for (const file of [failing, missing]) {
      const { vendors, sent: requests } = vendorsOf(providerOf(file));
      const error: Error = await vendors.exchange(contextOf("acme"), go, ear).then(
        () => new Error("sent"),
        (thrown: Error) => thrown,
      );
      expect(error).toMatchObject({ reason: "INVALID_REQUEST" });
      expect(error.message).toMatch(/params\.x|client_key/);
      expect(JSON.stringify(error) + error.message).not.toContain(CLIENT_SECRET);
      expect(requests).toEqual([]);
    }
  });

  it("refuses at load what no request has: a code in a refresh, a signature in a response, a taken field name", () => {
    const load = (file: string) => () => providerOf(file);
    expect(load(oauthFile("", `    refreshParams: { x: "\${code}" }`))).toThrow(/instead of \${code}/);
    expect(load(oauthFile("response: { map: { access_token: '$jwt({}, body.k)' } }"))).toThrow(/functions/);
    expect(load(oauthFile("account_fields: { scope: {} }"))).toThrow(/another name than scope/);
    expect(load(oauthFile("", `    tokenParams: { x: "\${state}" }`))).not.toThrow();
  });
});

describe("client assertions (RFC 7523)", () => {
  const claimsOf = (jwt: string | undefined) => {
    const [header = "", payload = ""] = jwt?.split(".") ?? [];
    const read = (part: string) => JSON.parse(Buffer.from(part, "base64url").toString("utf8"));
    return { header: read(header), claims: read(payload) };
  };

  it("client_secret_jwt is signed by the secret, never sends it, and has another jti on every try", async () => {
    const file = oauthFile("", "    options: { authorizationMethod: client_secret_jwt }");
    const [one, other] = [form(bodyText(await sent(file))), form(bodyText(await sent(file)))];
    expect(JSON.stringify(one)).not.toContain(CLIENT_SECRET);
    expect(one["client_assertion_type"]).toBe("urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    const { header, claims } = claimsOf(one["client_assertion"]);
    expect(header).toEqual({ alg: "HS256", typ: "JWT" });
    expect(claims).toEqual({
      iss: "client id/1",
      sub: "client id/1",
      aud: "https://auth.acme.example/token",
      jti: expect.any(String),
      iat: NOW_MS / 1_000,
      exp: NOW_MS / 1_000 + 60,
    });
    expect(claimsOf(other["client_assertion"]).claims.jti).not.toBe(claims.jti);
    const [input, signature] = [
      one["client_assertion"]?.split(".").slice(0, 2).join("."),
      one["client_assertion"]?.split(".")[2],
    ];
    expect(
      createHmac("sha256", CLIENT_SECRET)
        .update(input ?? "")
        .digest("base64url"),
    ).toBe(signature);
  });

  it.each([
    ["rsa", { modulusLength: 2048 }, "RS256", undefined],
    ["rsa", { modulusLength: 2048 }, "PS256", "PS256"],
    ["ec", { namedCurve: "P-256" }, "ES256", undefined],
    ["ed25519", {}, "EdDSA", undefined],
  ] as const)("private_key_jwt signs with %s %j as %s", async (type, options, alg, said) => {
    const { privateKey, publicKey } = generateKeyPairSync(
      type as "rsa",
      options as { modulusLength: number },
    );
    const pem = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
    const algorithm = said === undefined ? "" : `, clientAssertion: { algorithm: ${said} }`;
    const file = oauthFile("", `    options: { authorizationMethod: private_key_jwt${algorithm} }`).replace(
      'tokenPath: "/token"',
      'tokenPath: "/token", issuer: "https://issuer.acme.example"',
    );
    const context = contextOf("acme", {}, undefined, null);
    const client = context.client && {
      ...context.client,
      privateKey: { key: new Secret(pem), keyId: "k1" },
    };
    const request = form(bodyText(await sent(file, { ...context, client })));
    const { header, claims } = claimsOf(request["client_assertion"]);
    expect(header).toEqual({ alg, typ: "JWT", kid: "k1" });
    expect(claims.aud).toBe("https://issuer.acme.example");
    const [head, payload, signature = ""] = request["client_assertion"]?.split(".") ?? [];
    const key = createPublicKey(publicKey.export({ type: "spki", format: "pem" }));
    const how =
      alg === "PS256"
        ? { key, padding: 6, saltLength: -1 }
        : alg === "ES256"
          ? { key, dsaEncoding: "ieee-p1363" as const }
          : { key };
    const hash = alg === "EdDSA" ? null : "sha256";
    const good = verify(hash, Buffer.from(`${head}.${payload}`), how, Buffer.from(signature, "base64url"));
    expect(good).toBe(true);
  });

  it("sends nothing without a key, or with one that cannot sign what the file asks for", async () => {
    const file = oauthFile(
      "",
      "    options: { authorizationMethod: private_key_jwt, clientAssertion: { algorithm: ES256 } }",
    );
    const { privateKey } = generateKeyPairSync("ed25519");
    const pem = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
    const bare = contextOf("acme");
    const keyed = bare.client && { ...bare.client, privateKey: { key: new Secret(pem), keyId: undefined } };
    await expect(sent(file, bare)).rejects.toMatchObject({ reason: "CLIENT_MISCONFIGURED" });
    const unfit = sent(file, { ...bare, client: keyed });
    await expect(unfit).rejects.toMatchObject({ reason: "INVALID_REQUEST" });
  });
});

describe("exchanges of two requests", () => {
  const file = oauthFile(
    "",
    `    tokenExpiryDuration: 10m
    followUps:
      - url: https://rest.acme.example/login
        method: GET
        params: { access_token: "\${access_token}", version: "*" }
        response:
          map: { access_token: body.BhRestToken }
          fields: { rest_url: { value: body.restUrl, allowed_suffixes: [acme.example] } }`,
  );
  const first = answerOf(200, tokenBody({ refresh_token: "new-refresh", expires_in: 600 }));
  const second = answerOf(200, { BhRestToken: "rest-1", restUrl: "https://rest9.acme.example" });

  it("asks for the second with the first one's token, and has both in the credential", async () => {
    const { vendors, sent: requests } = vendorsOf(providerOf(file), first, second);
    const context = contextOf("acme");
    expect(vendors.rules("acme")?.steps).toBe(2);
    await vendors.exchange(context, go, ear);
    expect(await vendors.interpret(context, first)).toEqual({ kind: "more" });
    await vendors.exchange(context, go, ear, [first]);
    expect(requests[1]?.url).toBe("https://rest.acme.example/login?access_token=new-access&version=*");
    const read = await vendors.interpret(context, second, [first]);
    if (read.kind !== "granted" || read.credential.kind !== "oauth") throw new Error(read.kind);
    expect(read.fields).toEqual({ rest_url: "https://rest9.acme.example" });
    expect(read.credential.accessToken.reveal()).toBe("rest-1");
    expect(read.credential.refreshToken?.reveal()).toBe("new-refresh");
    expect(read.credential.expiresAtMs).toBe(NOW_MS + 600_000);
    expect(read.unfinished).toBeUndefined();
  });

  it("saves the new refresh token when the second fails, beside the access token there was", async () => {
    const { vendors } = vendorsOf(providerOf(file));
    const context = contextOf("acme");
    for (const read of [
      await vendors.interpret(context, answerOf(503, {}), [first]),
      await vendors.interpret(context, first, [], { kind: "not_sent", cause: "dns" }),
      await vendors.interpret(context, first, [], { kind: "unknown", cause: "reset" }),
    ]) {
      if (read.kind !== "granted" || read.credential.kind !== "oauth") throw new Error(read.kind);
      expect(read.unfinished).toBeDefined();
      expect(read.credential.accessToken.reveal()).toBe(OLD_ACCESS);
      expect(read.credential.expiresAtMs).toBe(NOW_MS);
      expect(read.credential.refreshToken?.reveal()).toBe("new-refresh");
      expect(read.credential.members.reveal()).toMatchObject({
        refresh_token: "new-refresh",
        instance: "eu1",
      });
    }
  });

  it("is a plain failure when the first one has not changed the refresh token", async () => {
    const { vendors } = vendorsOf(providerOf(file));
    const same = answerOf(200, tokenBody({ expires_in: 600 }));
    expect(await vendors.interpret(contextOf("acme"), answerOf(503, {}), [same])).toMatchObject({
      kind: "refused",
      class: "transient",
    });
    expect(await vendors.interpret(contextOf("acme"), answerOf(200, {}), [same])).toMatchObject({
      class: "transient",
      rule: "no access_token that is a text of printable characters",
    });
    const unknown = { kind: "unknown", cause: "reset" } as const;
    expect(await vendors.interpret(contextOf("acme"), same, [], unknown)).toMatchObject({
      class: "transient",
    });
  });

  it("never says a token of an earlier answer that the later one repeats", async () => {
    const { vendors } = vendorsOf(providerOf(file));
    const rude = answerOf(400, {
      error: "x",
      error_description: "new-access and eyJhbGciOiJ9abc.eyJzdWIiOjF9.c2ln",
    });
    const read = await vendors.interpret(contextOf("acme"), rude, [answerOf(200, tokenBody())]);
    expect(JSON.stringify(read)).not.toMatch(/new-access|eyJ/);
  });
});
