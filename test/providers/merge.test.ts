import { describe, expect, it } from "vitest";
import {
  answerOf,
  granted,
  interpretation,
  NOW_MS,
  OLD_REFRESH,
  oauthFile,
  providerOf,
  tokenBody,
} from "./stage.ts";

describe("merging", () => {
  it("keeps the old refresh token, scopes and other members when the answer omits them", async () => {
    for (const omitted of [{}, { refresh_token: null }, { refresh_token: "" }]) {
      const credential = await granted(answerOf(200, tokenBody(omitted)));
      expect(credential.accessToken.reveal()).toBe("new-access");
      expect(credential.refreshToken?.reveal()).toBe(OLD_REFRESH);
      expect(credential.scopes).toEqual(["read"]);
      expect(credential.tokenType).toBe("Bearer");
      expect(credential.members.reveal()).toEqual({
        access_token: "new-access",
        refresh_token: OLD_REFRESH,
        token_type: "bearer",
        instance: "eu1",
      });
    }
  });

  it("takes a new refresh token, scopes as text or list, and any token type", async () => {
    const credential = await granted(
      answerOf(200, { access_token: "a", token_type: "MAC", refresh_token: "new-refresh", scope: "x  y" }),
    );
    expect([credential.refreshToken?.reveal(), credential.tokenType, credential.scopes]).toEqual([
      "new-refresh",
      "MAC",
      ["x", "y"],
    ]);
    expect((await granted(answerOf(200, tokenBody({ scope: ["p", "q"] })))).scopes).toEqual(["p", "q"]);
  });

  it("keeps or forgets members as the file says", async () => {
    const file = providerOf(oauthFile("merge: { keep: [refresh_token], forget: [instance] }"));
    const credential = await granted(answerOf(200, tokenBody({ refresh_token: "other" })), file);
    expect(credential.refreshToken?.reveal()).toBe(OLD_REFRESH);
    expect(credential.members.reveal()).toEqual({
      access_token: "new-access",
      refresh_token: OLD_REFRESH,
      token_type: "bearer",
    });
  });

  it("finds renamed and enveloped members, and hands them on under their standard names too", async () => {
    const file = providerOf(
      oauthFile(
        "response: { token: body.data, map: { access_token: body.data.accessToken, expires_in: body.data.ttl } }",
      ),
    );
    const credential = await granted(answerOf(200, { data: { accessToken: "env", ttl: "60" } }), file);
    expect(credential.members.reveal()["access_token"]).toBe("env");
    expect(credential.expiresAtMs).toBe(NOW_MS + 60_000);
  });

  it("survives a member called __proto__ and an absurdly nested one", async () => {
    const body = `{"access_token":"a","__proto__":{"x":1},"deep":${"[".repeat(5_000)}${"]".repeat(5_000)}}`;
    const credential = await granted(answerOf(200, body));
    expect(Object.getPrototypeOf(credential.members.reveal())).toBe(Object.prototype);
    expect(() => JSON.stringify(credential.members.reveal())).not.toThrow();
  });

  it("reads non-secret fields, drops those that their rules refuse, and never a token", async () => {
    const file = providerOf(
      oauthFile(
        "response: { fields: { inst: { value: body.inst, allowed_suffixes: [acme.example] }, who: body.who, num: body.num } }",
      ),
    );
    const fieldsOf = async (body: object) => {
      const read = await interpretation(answerOf(200, tokenBody(body)), file);
      return read.kind === "granted" ? read.fields : undefined;
    };
    expect(await fieldsOf({ inst: "https://eu.acme.example", who: "me", num: 5 })).toEqual({
      inst: "https://eu.acme.example",
      who: "me",
      num: "5",
    });
    for (const inst of [
      "https://evil.example",
      "https://eu.acme.example@evil.example",
      "http://eu.acme.example",
      "https://eu.acme.example/x",
      "https://eu.acme.example#",
    ]) {
      expect(await fieldsOf({ inst })).toEqual({});
    }
    expect(await fieldsOf({ who: "see new-access" })).toEqual({});
  });
});
