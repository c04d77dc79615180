import { inspect } from "node:util";
import { describe, expect, it } from "vitest";
import { credentialFromBytes, credentialToBytes, type OAuthCredential } from "../../src/tokens/credential.ts";
import { hintOf, Secret } from "../../src/tokens/secret.ts";

const PLANTED = "planted-secret-value-0123456789";

const grant: OAuthCredential = {
  kind: "oauth",
  accessToken: new Secret(PLANTED),
  tokenType: "Bearer",
  issuedAtMs: 1,
  expiresAtMs: undefined,
  refreshToken: new Secret(PLANTED),
  refreshTokenExpiresAtMs: undefined,
  scopes: ["read"],
  members: new Secret({ id_token: PLANTED }),
};

describe("a secret", () => {
  it("cannot be printed by any of the usual ways", () => {
    const ways = [
      inspect(grant, { showHidden: true, depth: Number.POSITIVE_INFINITY, getters: true }),
      JSON.stringify(grant),
      String(grant.accessToken),
      `${grant.refreshToken}`,
      inspect(Object.getOwnPropertyDescriptors(grant.accessToken)),
    ];
    for (const text of ways) expect(text).not.toContain(PLANTED);
  });

  it("comes back from the cipher's bytes as it was", () => {
    const back = credentialFromBytes(credentialToBytes(grant));
    expect(back.kind).toBe("oauth");
    if (back.kind !== "oauth") return;
    expect(back.accessToken.reveal()).toBe(PLANTED);
    expect(back.members.reveal()).toEqual({ id_token: PLANTED });
    expect(back.expiresAtMs).toBeUndefined();
  });

  it("shows its last four characters only when it is long enough to hide behind them", () => {
    expect(hintOf(new Secret("0123456789abcdef"))).toBe("…cdef");
    expect(hintOf(new Secret("0123456789abcde"))).toBe("…");
  });
});
