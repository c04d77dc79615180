import { describe, expect, it } from "vitest";
import {
  answerOf,
  bodyText,
  contextOf,
  headerOf,
  oauthCredential,
  oauthFile,
  providerOf,
  shipped,
  vendorsOf,
} from "./stage.ts";

const FIELDS: Record<string, string> = {
  port: "4571",
  subdomain: "acme",
  instance_url: "https://acme.my.salesforce.com",
};

describe("revocation", () => {
  const revoke = async (name: string, ...answers: Parameters<typeof vendorsOf>[1][]) => {
    const { vendors, sent } = vendorsOf(shipped(name), ...answers.filter((each) => each !== undefined));
    return { result: await vendors.revoke(contextOf(name, FIELDS)), sent };
  };

  it("revokes the refresh token first, then the access token (RFC 7009)", async () => {
    const { result, sent } = await revoke("simulator", answerOf(200, ""), answerOf(200, ""));
    expect(result).toBe("revoked");
    expect(sent.map((each) => new URLSearchParams(bodyText(each)).get("token_type_hint"))).toEqual([
      "refresh_token",
      "access_token",
    ]);
    expect(headerOf(sent[0], "authorization")).toMatch(/^Basic /);
  });

  it("is still live after 503, a lost answer or an unclear error, and asks no further", async () => {
    for (const answer of [
      answerOf(503, ""),
      answerOf(429, ""),
      answerOf(400, { error: "invalid_client" }),
      { kind: "unknown", cause: "reset" } as const,
    ]) {
      const { result, sent } = await revoke("simulator", answer);
      expect(result).toBe("still_live");
      expect(sent).toHaveLength(1);
    }
  });

  it("takes an already unknown token for revoked, and goes on when a token type is not supported", async () => {
    expect(
      (await revoke("google", answerOf(200, {}), answerOf(400, { error: "invalid_token" }))).result,
    ).toBe("revoked");
    const { result, sent } = await revoke(
      "simulator",
      answerOf(400, { error: "unsupported_token_type" }),
      answerOf(200, ""),
    );
    expect([result, sent.length]).toEqual(["revoked", 2]);
  });

  it("puts the token where the file wants it", async () => {
    const inThePath = providerOf(
      oauthFile(
        'revocation: { method: DELETE, url: "https://api.acme.example/tokens/${token}", client_auth: none }',
      ),
    );
    const { vendors, sent } = vendorsOf(inThePath, answerOf(204, ""), answerOf(204, ""));
    expect(await vendors.revoke(contextOf("acme"))).toBe("revoked");
    expect(sent[0]).toMatchObject({
      method: "DELETE",
      url: "https://api.acme.example/tokens/old-refresh-9f2c%2F%2B%C3%BC",
      body: undefined,
    });
    const hubspot = await revoke("hubspot", answerOf(204, ""));
    expect(Object.fromEntries(new URLSearchParams(bodyText(hubspot.sent[0])))).toMatchObject({
      token: "old-refresh-9f2c/+ü",
      token_type_hint: "refresh_token",
      client_id: "client id/1",
    });
    const slack = await revoke("slack", answerOf(200, { ok: true, revoked: true }));
    expect(slack.result).toBe("revoked");
    expect(headerOf(slack.sent[0], "authorization")).toBe("Bearer old-access-77d0");
    expect((await revoke("slack", answerOf(200, { ok: false, error: "x" }))).result).toBe("still_live");
    const google = await revoke("google", answerOf(200, {}), answerOf(200, {}));
    expect(bodyText(google.sent[0])).toBe("token=old-refresh-9f2c%2F%2B%C3%BC");
    expect(headerOf(google.sent[0], "authorization")).toBeUndefined();
  });

  it("is unsupported without a file that names it, and for a credential that is no grant", async () => {
    const { vendors } = vendorsOf(shipped("microsoft"));
    expect(await vendors.revoke(contextOf("microsoft", {}, oauthCredential()))).toBe("unsupported");
    expect(await vendors.revoke(contextOf("gone"))).toBe("unsupported");
  });
});
