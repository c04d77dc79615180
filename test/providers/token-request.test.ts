import { describe, expect, it } from "vitest";
import { hostAllowed } from "../../src/egress/hosts.ts";
import { basicAuth } from "../../src/providers/request.ts";
import {
  bodyText,
  CLIENT_SECRET,
  contextOf,
  headerOf,
  OLD_REFRESH,
  oauthCredential,
  oauthFile,
  providerOf,
  vendorsOf,
} from "./stage.ts";

const ear = new AbortController().signal;
const go = () => true;
const mintingFile = (options: string, more = "") => `credentials:
  format: oauth2_client_credentials
  config:
    auth: { tokenHost: https://auth.acme.example, tokenPath: /token }
    scope: [a, b]
    options: ${options}
${more}
authorization: { format: bearer }
`;

async function request(file: string, context = contextOf("acme")) {
  const { vendors, sent } = vendorsOf(providerOf(file));
  await vendors.exchange(context, go, ear);
  return sent[0];
}

describe("asking for a token", () => {
  it("refreshes with a form body and Basic client authentication, form-encoded first (RFC 6749 §2.3.1)", async () => {
    const sent = await request(oauthFile());
    expect(sent).toMatchObject({
      method: "POST",
      url: "https://auth.acme.example/token",
      allowedHosts: ["auth.acme.example"],
      fresh: true,
      timeoutMs: 60_000,
    });
    expect(Object.fromEntries(new URLSearchParams(bodyText(sent)))).toEqual({
      grant_type: "refresh_token",
      refresh_token: OLD_REFRESH,
    });
    expect(headerOf(sent, "content-type")).toBe("application/x-www-form-urlencoded");
    const pair = Buffer.from(
      headerOf(sent, "authorization")?.slice("Basic ".length) ?? "",
      "base64",
    ).toString();
    expect(pair).toBe("client+id%2F1:client-secret%3A%25%26%3D4711");
  });

  it("form-encodes exactly as RFC 6749 appendix B's example", () => {
    const encoded = basicAuth({ id: " %&+£€", secret: "x" }, true).slice("Basic ".length);
    expect(Buffer.from(encoded, "base64").toString()).toBe("+%25%26%2B%C2%A3%E2%82%AC:x");
  });

  it("leaves id and secret as they are for servers that do not decode them", async () => {
    const sent = await request(oauthFile("", "    options: { credentialsEncoding: loose }"));
    expect(headerOf(sent, "authorization")).toBe(
      `Basic ${Buffer.from(`client id/1:${CLIENT_SECRET}`).toString("base64")}`,
    );
  });

  it("puts the client into the body when the file says so, and only its id for a public client", async () => {
    const post = new URLSearchParams(
      bodyText(await request(oauthFile("", "    options: { authorizationMethod: body }"))),
    );
    expect([post.get("client_id"), post.get("client_secret")]).toEqual(["client id/1", CLIENT_SECRET]);
    const sent = await request(
      oauthFile("", "    options: { authorizationMethod: none }"),
      contextOf("acme", {}, oauthCredential(), null),
    );
    expect(new URLSearchParams(bodyText(sent)).get("client_id")).toBe("client id/1");
    expect(bodyText(sent)).not.toContain("client_secret");
    expect(headerOf(sent, "authorization")).toBeUndefined();
  });

  it("sends JSON, extra parameters, extra headers and to a separate refresh path when the file says so", async () => {
    const file = oauthFile(
      "account_fields: { region: {} }",
      `    options: { bodyFormat: json, authorizationMethod: body }
    refreshParams: { region: "\${region}", audience: api }
    tokenHeaders: { X-Region: "r-\${region}" }
`,
    ).replace('tokenPath: "/token"', 'tokenPath: "/token", refreshPath: /refresh');
    const sent = await request(file, contextOf("acme", { region: "eu" }));
    expect(sent?.url).toBe("https://auth.acme.example/refresh");
    expect(JSON.parse(bodyText(sent))).toEqual({
      grant_type: "refresh_token",
      refresh_token: OLD_REFRESH,
      region: "eu",
      audience: "api",
      client_id: "client id/1",
      client_secret: CLIENT_SECRET,
    });
    expect(headerOf(sent, "content-type")).toBe("application/json");
    expect(headerOf(sent, "x-region")).toBe("r-eu");
  });

  it("mints with the client's own credentials, on a pooled connection, because that may be repeated", async () => {
    const { vendors, sent } = vendorsOf(
      providerOf(mintingFile("{ authorizationMethod: body }", "    tokenParams: { audience: x }")),
    );
    expect(vendors.rules("acme")).toMatchObject({ resendSafe: true, refreshesWithoutToken: true });
    await vendors.exchange(contextOf("acme", {}, { kind: "unminted" }), go, ear);
    const form = Object.fromEntries(new URLSearchParams(bodyText(sent[0])));
    expect(form).toMatchObject({ grant_type: "client_credentials", scope: "a b", audience: "x" });
    expect(sent[0]?.fresh).toBe(false);
  });

  it("sends nothing when there is no refresh token, no client secret or no token endpoint", async () => {
    const contexts = [
      [oauthFile(), contextOf("acme", {}, oauthCredential({ refreshToken: undefined }))],
      [oauthFile(), contextOf("acme", {}, oauthCredential(), null)],
      ["credentials: { format: bearer }\nauthorization: { format: bearer }\n", contextOf("acme")],
    ] as const;
    for (const [file, context] of contexts) {
      const { vendors, sent } = vendorsOf(providerOf(file));
      const reason = context.client?.secret === undefined ? "CLIENT_MISCONFIGURED" : "INVALID_REQUEST";
      await expect(vendors.exchange(context, go, ear)).rejects.toMatchObject({ reason });
      expect(sent).toEqual([]);
    }
  });

  it("refuses a token host that is none of the file's allowed hosts", async () => {
    const file = oauthFile(
      "account_fields: { host: { pattern: '^[a-z0-9.-]+(:[0-9]{2,5})?$' } }\nallowed_hosts: [api.acme.example, '*.auth.acme.example', '*.own.example:8443']",
    ).replace("https://auth.acme.example", "https://${host}");
    const { vendors, sent } = vendorsOf(providerOf(file));
    const exchange = (host: string) => vendors.exchange(contextOf("acme", { host }), go, ear);
    for (const host of ["auth.acme.example", "own.example:8443", "git.own.example", "git.own.example:8444"])
      await expect(exchange(host)).rejects.toMatchObject({ reason: "DESTINATION_NOT_ALLOWED" });
    expect(sent).toEqual([]);
    for (const host of ["api.acme.example", "eu.auth.acme.example", "git.own.example:8443"])
      await exchange(host);
    expect(sent.map(({ url }) => url)).toEqual([
      "https://api.acme.example/token",
      "https://eu.auth.acme.example/token",
      "https://git.own.example:8443/token",
    ]);
  });

  it("calls a customer's own server at the port that its address names, and at no other", async () => {
    const file = oauthFile("account_fields: { host: { pattern: '^[a-z0-9.-]+(:[0-9]{2,5})?$' } }").replace(
      "https://auth.acme.example",
      "https://${host}",
    );
    const { vendors, sent } = vendorsOf(providerOf(file));
    await vendors.exchange(contextOf("acme", { host: "git.customer.example:8443" }), go, ear);
    expect(sent[0]).toMatchObject({
      url: "https://git.customer.example:8443/token",
      allowedHosts: ["git.customer.example:8443"],
    });
    for (const port of [8443, 443, 8444])
      expect(hostAllowed(`git.customer.example:${port}`, sent[0]?.allowedHosts ?? [])).toBe(port === 8443);
  });

  it("hands the caller's go and ear to the way out, and its result back", async () => {
    const results = [
      { kind: "not_sent", cause: "dns" },
      { kind: "unknown", cause: "reset" },
    ] as const;
    const { vendors, sent } = vendorsOf(providerOf(oauthFile()), ...results);
    expect(await vendors.exchange(contextOf("acme"), go, ear)).toEqual(results[0]);
    expect(await vendors.exchange(contextOf("acme"), go, ear)).toEqual(results[1]);
    expect(sent[0]?.beforeFirstByte).toBe(go);
    expect(sent[0]?.signal).toBe(ear);
  });

  it("says PROVIDER_NOT_FOUND when the file is gone", async () => {
    const { vendors } = vendorsOf(providerOf(oauthFile()));
    expect(vendors.rules("gone")).toBeUndefined();
    await expect(vendors.exchange(contextOf("gone"), go, ear)).rejects.toMatchObject({
      reason: "PROVIDER_NOT_FOUND",
    });
  });
});
