import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { KeyturnError } from "../../src/errors.ts";
import { headerValue, parseOrigin } from "../../src/providers/template.ts";
import { contextOf, oauthFile, providerOf, shipped, vendorsOf } from "./stage.ts";

const ear = new AbortController().signal;
const go = () => true;

async function destination(file: string, fields: Record<string, string>): Promise<string> {
  const provider = providerOf(file);
  const { vendors, sent } = vendorsOf(provider);
  try {
    await vendors.exchange(contextOf("acme", fields), go, ear);
  } catch (error) {
    if (error instanceof KeyturnError) {
      expect(sent).toEqual([]);
      return error.reason;
    }
    throw error;
  }
  return sent[0]?.url ?? "";
}

const bySubdomain = oauthFile("account_fields: { subdomain: {} }").replace(
  "https://auth.acme.example",
  "https://${subdomain}.acme.example",
);
const greedy = oauthFile("account_fields: { subdomain: { pattern: '^(?s).*$' } }").replace(
  "https://auth.acme.example",
  "https://${subdomain}.acme.example",
);
const byHost = oauthFile("account_fields: { host: { allowed_suffixes: [acme.example] } }").replace(
  "https://auth.acme.example",
  "https://${host}",
);
const byPath = oauthFile("account_fields: { tenant: { pattern: '^(?s).+$' } }").replace(
  "/token",
  "/${tenant}/token",
);

const ATTACKS = [
  "evil.example/#",
  "evil.example#",
  "evil.example?",
  "evil.example/",
  "user@evil.example",
  "evil.example:8443",
  "evil.example\\",
  "a\r\nHost: evil",
  "a\tb",
  "еvil",
  "evil。example",
  "127.0.0.1#",
  "[::1]",
  "%2e",
  "..",
  ".",
  "-",
  "",
  "a b",
  "ａ",
];

describe("account fields in URLs", () => {
  it("calls the host that a plain label makes", async () => {
    expect(await destination(bySubdomain, { subdomain: "Customer-1" })).toBe(
      "https://customer-1.acme.example/token",
    );
  });

  it.each(ATTACKS)(
    "sends nothing anywhere for the subdomain %j, even when the file's own pattern lets it pass",
    async (subdomain) => {
      expect(await destination(bySubdomain, { subdomain })).toBe("DESTINATION_NOT_ALLOWED");
      expect(await destination(greedy, { subdomain })).toBe("DESTINATION_NOT_ALLOWED");
    },
  );

  it.each([
    "evil.example",
    "evilacme.example",
    "acme.example.evil.example",
    "acme.example@evil.example",
    "evil.example/.acme.example",
    "evil.example#.acme.example",
    "2130706433",
    "0x7f.1",
    "a..acme.example",
    ".acme.example",
    "acme.example.",
    "acme.example:8443",
    "https://x.acme.example",
  ])("sends nothing to the host %j", async (host) => {
    expect(await destination(byHost, { host })).toBe("DESTINATION_NOT_ALLOWED");
  });

  it("calls hosts inside an allowed domain", async () => {
    expect(await destination(byHost, { host: "eu.acme.example" })).toBe("https://eu.acme.example/token");
    expect(await destination(byHost, { host: "acme.example" })).toBe("https://acme.example/token");
  });

  it("keeps a value in its own path segment", async () => {
    expect(await destination(byPath, { tenant: "a/../b?c#d" })).toBe(
      "https://auth.acme.example/a%2F..%2Fb%3Fc%23d/token",
    );
    for (const tenant of ["..", "."])
      expect(await destination(byPath, { tenant })).toBe("DESTINATION_NOT_ALLOWED");
  });

  it("says which field is missing", async () => {
    expect(await destination(bySubdomain, {})).toBe("INVALID_REQUEST");
    expect(await destination(bySubdomain, { toString: "x" })).toBe("INVALID_REQUEST");
  });

  it("never leaves the file's host, path or the request, whatever the value", async () => {
    const attack = fc.oneof(
      fc.string({ unit: "grapheme" }),
      fc.string({ unit: "binary" }),
      fc.webUrl(),
      fc.constantFrom(...ATTACKS),
      fc.domain(),
    );
    await fc.assert(
      fc.asyncProperty(attack, fc.constantFrom(bySubdomain, greedy, byHost, byPath), async (value, file) => {
        const url = await destination(file, { subdomain: value, host: value, tenant: value });
        if (!url.startsWith("https://")) return;
        const { hostname, username, hash, port, pathname } = new URL(url);
        expect(hostname === "acme.example" || hostname.endsWith(".acme.example")).toBe(true);
        expect([username, hash, port]).toEqual(["", "", ""]);
        expect(pathname.endsWith("/token")).toBe(true);
        expect(pathname.split("/").length).toBeLessThanOrEqual(3);
      }),
      { numRuns: 400 },
    );
  });

  it("reaches the simulator on loopback by its port alone", async () => {
    const { vendors, sent } = vendorsOf(shipped("simulator"));
    await vendors.exchange(contextOf("simulator", { port: "4571" }), go, ear);
    expect(sent[0]).toMatchObject({
      url: "http://127.0.0.1:4571/oauth/token",
      allowLoopback: true,
      allowedHosts: ["127.0.0.1:4571"],
    });
    for (const port of ["1", "99999", "80@evil.example", "80/", "0080"]) {
      await expect(vendors.exchange(contextOf("simulator", { port }), go, ear)).rejects.toMatchObject({
        reason: "DESTINATION_NOT_ALLOWED",
      });
    }
    expect(sent).toHaveLength(1);
  });
});

describe("origins and headers", () => {
  it.each([
    "https://a.example/x",
    "https://a@b.example",
    "https://a.example:0",
    "ftp://a.example",
    "a.example",
    "https://a.example#",
    "https://2130706433",
    "https://ä.example",
  ])("does not take %s for an origin", (text) => {
    expect(parseOrigin(text)).toBeUndefined();
  });

  it("refuses what would end or break a header line", () => {
    for (const value of ["a\r\nb", "a\nb", "a\0", "ä"])
      expect(() => headerValue("X", value)).toThrow(KeyturnError);
  });
});
