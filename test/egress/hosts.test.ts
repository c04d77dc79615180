import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { assertHost, Hosts, hostAllowed } from "../../src/egress/hosts.ts";
import { KeyturnError } from "../../src/errors.ts";

const NONE = { allowLoopback: false };
const LOOPBACK = { allowLoopback: true };

function refusal(url: string, hosts: readonly string[], permits = NONE): KeyturnError {
  try {
    assertHost(url, hosts, permits);
  } catch (error) {
    if (error instanceof KeyturnError && error.reason === "DESTINATION_NOT_ALLOWED") return error;
    throw error;
  }
  throw new Error(`${url} was let through`);
}

describe("hostAllowed", () => {
  it.each([
    ["api.example.com", ["api.example.com"], true],
    ["API.Example.COM", ["api.example.com"], true],
    ["api.example.com", ["API.EXAMPLE.COM"], true],
    ["api.example.com:443", ["api.example.com"], true],
    ["api.example.com", ["api.example.com:443"], true],
    ["api.example.com:8443", ["api.example.com"], false],
    ["api.example.com:8443", ["api.example.com:8443"], true],
    ["api.example.com", ["api.example.com:8443"], false],
    ["a.example.com", ["*.example.com"], true],
    ["a.b.example.com", ["*.example.com"], true],
    ["a.example.com:8443", ["*.example.com"], false],
    ["a.example.com:8443", ["*.example.com:8443"], true],
    ["example.com", ["*.example.com"], false],
    ["evilexample.com", ["*.example.com"], false],
    [".example.com", ["*.example.com"], false],
    ["a..example.com", ["*.example.com"], false],
    ["evil.com/.example.com", ["*.example.com"], false],
    ["evil.com#.example.com", ["*.example.com"], false],
    ["u@a.example.com", ["*.example.com"], false],
    ["example.com.evil.com", ["example.com", "*.example.com"], false],
    ["example.com.", ["example.com"], false],
    ["anything.com", ["*"], false],
    ["anything.com", ["*."], false],
    ["anything.com", ["*.com"], true],
    ["*.example.com", ["*.example.com"], false],
    ["anything.com", [], false],
    ["", [""], false],
    ["1.2.3.4", ["*.3.4"], false],
    ["127.1", ["127.1"], false],
    ["0x7f.1", ["0x7f.1"], false],
    ["127.0.0.1:9000", ["127.0.0.1"], true],
    ["127.0.0.1:9000", ["127.0.0.1:9001"], false],
    ["localhost:9000", ["localhost"], true],
    ["[::1]:9000", ["[::1]"], true],
    ["[::1]:9000", ["[::1]:9001"], false],
    ["[0:0:0:0:0:0:0:1]", ["[0:0:0:0:0:0:0:1]"], false],
    ["8.8.8.8:9000", ["8.8.8.8"], false],
    ["a.com:0", ["a.com:0"], false],
    ["a.com:65536", ["a.com:65536"], false],
    ["a.com:65535", ["a.com:65535"], true],
  ])("says of %s among %j: %s", (host, patterns, expected) => {
    expect(hostAllowed(host, patterns)).toBe(expected);
  });
});

describe("assertHost", () => {
  it("returns where the request goes", () => {
    expect(assertHost("https://Api.Example.com/v1/token?a=b c", ["api.example.com"], NONE)).toEqual({
      secure: true,
      host: "api.example.com",
      port: 443,
      origin: "https://api.example.com",
      path: "/v1/token?a=b%20c",
    });
  });

  it("accepts punycode that is written out", () => {
    expect(assertHost("https://xn--bcher-kva.example/", ["xn--bcher-kva.example"], NONE).host).toBe(
      "xn--bcher-kva.example",
    );
  });

  it.each([
    ["userinfo", "https://good.com@evil.example/"],
    ["userinfo", "https://user:secret@good.com/"],
    ["userinfo", "https://@good.com/"],
    ["fragment", "https://evil.example/#.good.com/token"],
    ["fragment", "https://x.good.com/#.good.com/token"],
    ["fragment", "https://good.com#/token"],
    ["host_not_allowed", "https://evil.example/.good.com/token"],
    ["host_not_allowed", "https://evil.example?.good.com/token"],
    ["host_not_allowed", "https://good.com.evil.example/"],
    ["host_not_allowed", "https://evilgood.com/"],
    ["host_not_allowed", "https://good.com:8443/"],
    ["control_character", "https://good.com/\r\nx: y"],
    ["control_character", "https://good.com\n/"],
    ["control_character", "https://ev\til.example/"],
    ["control_character", "https://good.com/\0"],
    ["control_character", "https://good.com/\x7f"],
    ["backslash", "https://evil.example\\.good.com/"],
    ["backslash", "https:\\\\good.com/"],
    ["host_not_ascii", "https://gооd.com/"],
    ["host_not_ascii", "https://good.com。evil.example/"],
    ["host_not_ascii", "https://good。com/"],
    ["host_not_ascii", "https://good.com\u00ad/"],
    ["host_not_ascii", "https://127。0。0。1/"],
    ["host_invalid", "https://good%2ecom/"],
    ["host_invalid", "https://good.com./"],
    ["host_invalid", "https://good.com:/"],
    ["host_invalid", "https://good.com:0/"],
    ["host_invalid", "https://good.com:65536/"],
    ["host_invalid", "https://good.com:44x/"],
    ["host_invalid", "https:///good.com/"],
    ["host_invalid", "https://"],
    ["host_invalid", "https://good .com/"],
    ["host_invalid", `https://${"a".repeat(64)}.good.com/`],
    ["host_invalid", `https://${"a.".repeat(125)}good.com/`],
    ["scheme_not_allowed", "http://good.com/"],
    ["scheme_not_allowed", "ftp://good.com/"],
    ["scheme_not_allowed", "https:good.com/"],
    ["scheme_not_allowed", "https:/good.com/"],
    ["scheme_not_allowed", " https://good.com/"],
    ["scheme_not_allowed", "//good.com/"],
    ["scheme_not_allowed", ""],
    ["ip_literal", "https://2130706433/"],
    ["ip_literal", "https://0x7f000001/"],
    ["ip_literal", "https://0177.0.0.1/"],
    ["ip_literal", "https://127.1/"],
    ["ip_literal", "https://127.0.0.01/"],
    ["ip_literal", "https://1.1.1.256/"],
    ["ip_literal", "https://127.0.0.1/"],
    ["ip_literal", "https://93.184.216.34/"],
    ["ip_literal", "https://[::1]/"],
    ["ip_literal", "https://[0:0:0:0:0:0:0:1]/"],
    ["ip_literal", "https://[::ffff:127.0.0.1]/"],
    ["ip_literal", "https://[::ffff:7f00:1]/"],
    ["ip_literal", "https://[::ffff:93.184.216.34]/"],
  ])("refuses with %s: %s", (cause, url) => {
    expect(refusal(url, ["good.com", "*.good.com"]).metadata["cause"]).toBe(cause);
    expect(refusal(url, ["good.com", "*.good.com"], LOOPBACK).metadata["cause"]).toBe(cause);
  });

  it("refuses disguised addresses even when the file lists them", () => {
    for (const host of ["2130706433", "127.1", "0x7f.0.0.1", "[0:0:0:0:0:0:0:1]"]) {
      expect(refusal(`https://${host}/`, [host], LOOPBACK).metadata["cause"]).toBe("ip_literal");
    }
    expect(refusal("https://[::ffff:7f00:1]/", ["[::ffff:7f00:1]"], LOOPBACK).metadata["cause"]).toBe(
      "address_not_allowed",
    );
  });

  it("lets a listed address through when its kind is permitted", () => {
    expect(assertHost("https://93.184.216.34/", ["93.184.216.34"], NONE).host).toBe("93.184.216.34");
    expect(assertHost("http://127.0.0.1:81/", ["127.0.0.1"], LOOPBACK).port).toBe(81);
    expect(assertHost("http://[::1]/", ["[::1]"], LOOPBACK).host).toBe("::1");
    expect(refusal("https://127.0.0.1/", ["127.0.0.1"]).metadata["cause"]).toBe("address_not_allowed");
    expect(refusal("https://10.0.0.1/", ["10.0.0.1"], LOOPBACK).metadata["cause"]).toBe(
      "address_not_allowed",
    );
    expect(assertHost("https://10.0.0.1/", ["10.0.0.1"], { ...NONE, allowPrivate: true }).host).toBe(
      "10.0.0.1",
    );
    expect(refusal("https://169.254.169.254/", ["169.254.169.254"], { ...LOOPBACK }).metadata["cause"]).toBe(
      "address_not_allowed",
    );
  });

  it("permits plain http to loopback only", () => {
    expect(assertHost("http://localhost/", ["localhost"], LOOPBACK).port).toBe(80);
    expect(assertHost("http://idp.localhost/", ["*.localhost"], LOOPBACK).secure).toBe(false);
    expect(refusal("http://localhost/", ["localhost"]).metadata["cause"]).toBe("scheme_not_allowed");
    expect(refusal("http://10.0.0.1/", ["10.0.0.1"], { ...LOOPBACK }).metadata["cause"]).toBe(
      "scheme_not_allowed",
    );
    expect(refusal("http://notlocalhost/", ["notlocalhost"], LOOPBACK).metadata["cause"]).toBe(
      "scheme_not_allowed",
    );
  });

  it("names the host but neither path, query nor user", () => {
    const error = refusal("https://evil.example/path-secret?q=query-secret", ["good.com"]);
    expect(error.message).toContain("evil.example");
    const shown = JSON.stringify([
      error.message,
      error.metadata,
      refusal("https://user-secret@good.com/", []).message,
    ]);
    expect(shown).not.toContain("secret");
  });
});

describe("Hosts, which remembers", () => {
  it("says of every URL what assertHost says, whatever it was asked before", () => {
    const authority = fc
      .tuple(
        fc.constantFrom("https://", "http://", "HTTPS://"),
        fc.constantFrom("api.example.com", "API.example.com", "a.b.example.com", "127.0.0.1", "10.0.0.1"),
        fc.constantFrom("", ":443", ":8443", ":80", ".evil.test", "@evil.test"),
      )
      .map((parts) => parts.join(""));
    const part = fc.constantFrom("/..", "/.", "/a", "//", ..."/.?%2eE@#'|\\ aZ~;:&=\u0001é\"");
    const url = fc
      .tuple(fc.oneof(fc.constant("https://api.example.com"), authority), fc.array(part, { maxLength: 8 }))
      .map(([origin, rest]) => origin + rest.join(""));
    const asked = fc.record({
      url: fc.oneof(
        url,
        fc.constantFrom(
          "https://api.example.com/v1/x?a=1",
          "https://api.example.com/a?",
          "http://127.0.0.1/v1",
        ),
      ),
      hosts: fc.constantFrom(["api.example.com", "10.0.0.1"], ["*.example.com", "127.0.0.1"]),
      permits: fc.constantFrom(NONE, { ...LOOPBACK, allowPrivate: true }),
    });
    const outcome = (work: () => unknown) => {
      try {
        return work();
      } catch (error) {
        return (error as KeyturnError).metadata;
      }
    };
    fc.assert(
      fc.property(fc.array(asked, { minLength: 1, maxLength: 20 }), (all) => {
        const hosts = new Hosts();
        for (const { url: text, hosts: allowed, permits } of all) {
          const said = outcome(() => hosts.assert(text, allowed, permits));
          expect(said, text).toEqual(outcome(() => assertHost(text, allowed, permits)));
        }
      }),
      { numRuns: 1_000 },
    );
  });
});
