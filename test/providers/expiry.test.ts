import { describe, expect, it } from "vitest";
import {
  answerOf,
  contextOf,
  granted,
  NOW_MS,
  oauthCredential,
  oauthFile,
  plainFile,
  providerOf,
  tokenBody,
  vendorsOf,
} from "./stage.ts";

const expiryOf = async (expires_in: unknown, file = plainFile, headers: Record<string, string> = {}) =>
  (await granted(answerOf(200, tokenBody({ expires_in }), headers), file)).expiresAtMs;

describe("expiry", () => {
  const withDefault = providerOf(oauthFile("", "    tokenExpiryDuration: 2h"));
  const absolute = providerOf(oauthFile("response: { expires_in: absolute }", "    tokenExpiryDuration: 2h"));
  const inMs = providerOf(oauthFile("response: { expires_in: ms }"));

  it("counts a relative expiry from before the request was sent", async () => {
    expect(await expiryOf(3600)).toBe(NOW_MS + 3_600_000);
    expect(await expiryOf("3600")).toBe(NOW_MS + 3_600_000);
    expect(await expiryOf(" 60.5 ")).toBe(NOW_MS + 60_500);
    expect(await expiryOf(3_600_000, inMs)).toBe(NOW_MS + 3_600_000);
  });

  it.each([
    undefined,
    null,
    0,
    5e-324,
    0.0009,
    -1,
    "-5",
    "soon",
    "",
    true,
    {},
    [],
    1e12,
    "99999999999999",
    315_576_001,
  ])("falls to the file's duration when expires_in is %j, and to never without one", async (value) => {
    expect(await expiryOf(value, withDefault)).toBe(NOW_MS + 7_200_000);
    expect(await expiryOf(value)).toBeUndefined();
  });

  it("reads an absolute expiry in seconds, milliseconds and ISO 8601", async () => {
    for (const at of [
      NOW_MS / 1_000 + 900,
      NOW_MS + 900_000,
      String(NOW_MS / 1_000 + 900),
      "2026-01-01T00:15:00Z",
      "2026-01-01T01:15:00+01:00",
      "2026-01-01 00:15:00",
    ]) {
      expect(await expiryOf(at, absolute)).toBe(NOW_MS + 900_000);
    }
    for (const at of [NOW_MS / 1_000 - 1, "yesterday", "2026-13-45T00:00:00Z", 9e15])
      expect(await expiryOf(at, absolute)).toBe(NOW_MS + 7_200_000);
  });

  it("corrects an absolute expiry by the vendor's Date, 120 s off either way", async () => {
    for (const skewMs of [120_000, -120_000]) {
      const date = new Date(NOW_MS + skewMs).toUTCString();
      expect(await expiryOf((NOW_MS + skewMs) / 1_000 + 900, absolute, { date })).toBe(NOW_MS + 900_000);
      expect(await expiryOf(900, plainFile, { date })).toBe(NOW_MS + 900_000);
    }
    expect(await expiryOf(NOW_MS / 1_000 + 900, absolute, { date: "Thu, 01 Jan 1970 00:00:00 GMT" })).toBe(
      NOW_MS + 900_000,
    );
  });

  it("asks introspection when the answer does not tell, and stands by the grant whatever comes of it", async () => {
    const file = providerOf(
      oauthFile(
        "introspection: { url: https://auth.acme.example/introspect }",
        "    tokenExpiryDuration: 2h",
      ),
    );
    const cases = [
      [answerOf(200, { active: true, exp: NOW_MS / 1_000 + 500 }), NOW_MS + 500_000],
      [answerOf(200, { active: false, exp: NOW_MS / 1_000 + 500 }), NOW_MS + 7_200_000],
      [answerOf(200, { active: true }), NOW_MS + 7_200_000],
      [answerOf(500, ""), NOW_MS + 7_200_000],
      [{ kind: "unknown", cause: "reset" }, NOW_MS + 7_200_000],
    ] as const;
    for (const [answer, expected] of cases) {
      const { vendors, sent } = vendorsOf(file, answer);
      const read = await vendors.interpret(contextOf("acme"), answerOf(200, tokenBody()));
      expect(read.kind === "granted" && read.credential.kind === "oauth" && read.credential.expiresAtMs).toBe(
        expected,
      );
      expect(sent).toHaveLength(1);
      expect(Buffer.from(sent[0]?.body ?? []).toString()).toBe(
        "token=new-access&token_type_hint=access_token",
      );
    }
    const { vendors, sent } = vendorsOf(file);
    await vendors.interpret(contextOf("acme"), answerOf(200, tokenBody({ expires_in: 60 })));
    expect(sent).toEqual([]);
  });

  it("keeps, slides or takes over the end of the refresh token", async () => {
    const old = oauthCredential({ refreshTokenExpiresAtMs: NOW_MS + 5 });
    const rotated = tokenBody({ refresh_token: "new-refresh" });
    const sliding = providerOf(
      oauthFile("response: { refresh_token_lifetime: { kind: sliding, duration: 1d } }"),
    );
    const fixed = providerOf(
      oauthFile("response: { refresh_token_lifetime: { kind: fixed, duration: 1d } }"),
    );
    const endOf = async (body: object, file = plainFile) =>
      (await granted(answerOf(200, body), file, old)).refreshTokenExpiresAtMs;
    expect(await endOf(tokenBody())).toBe(NOW_MS + 5);
    expect(await endOf(rotated)).toBeUndefined();
    expect(await endOf(tokenBody({ refresh_token_expires_in: 100 }))).toBe(NOW_MS + 100_000);
    expect(await endOf(tokenBody(), sliding)).toBe(NOW_MS + 86_400_000);
    expect(await endOf(tokenBody(), fixed)).toBe(NOW_MS + 5);
    expect(await endOf(rotated, fixed)).toBe(NOW_MS + 86_400_000);
  });
});
