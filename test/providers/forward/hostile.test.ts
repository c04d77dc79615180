import { describe, expect, it } from "vitest";
import { Secret } from "../../../src/tokens/secret.ts";
import { httpsServer } from "../../egress/servers.ts";
import { ANY_HOST, callOf, FIXED, forwarding, refusal, silentPort } from "./stage.ts";

describe("a destination that the account's fields make", () => {
  it.each([
    ["decimal", "2130706433"],
    ["octal", "0177.0.0.1"],
    ["octal without dots", "017700000001"],
    ["hexadecimal", "0x7f000001"],
    ["hexadecimal parts", "0x7f.0.0.1"],
    ["short", "127.1"],
    ["shorter", "127.0.1"],
    ["zero", "0"],
    ["unspecified", "0.0.0.0"],
    ["this network", "0.1.2.3"],
    ["loopback", "127.0.0.1"],
    ["loopback elsewhere", "127.255.255.254"],
    ["loopback by name", "localhost"],
    ["loopback below a name", "api.localhost"],
    ["private", "10.0.0.1"],
    ["private", "172.16.9.9"],
    ["private", "192.168.0.1"],
    ["carrier-grade NAT", "100.64.0.1"],
    ["link-local", "169.254.1.1"],
    ["metadata", "169.254.169.254"],
    ["metadata in decimal", "2852039166"],
    ["metadata in hexadecimal", "0xa9fea9fe"],
    ["metadata, Alibaba", "100.100.100.200"],
    ["metadata, Azure", "168.63.129.16"],
    ["metadata, Oracle", "192.0.0.192"],
    ["IPv6 loopback", "[::1]"],
    ["IPv6 unspecified", "[::]"],
    ["IPv6 mapped", "[::ffff:127.0.0.1]"],
    ["IPv6 mapped in hexadecimal", "[::ffff:7f00:1]"],
    ["IPv6 compatible", "[::127.0.0.1]"],
    ["IPv6 NAT64 of loopback", "[64:ff9b::7f00:1]"],
    ["IPv6 6to4 of metadata", "[2002:a9fe:a9fe::]"],
    ["IPv6 scoped", "[fe80::1%25eth0]"],
    ["IPv6 scoped, not encoded", "[fe80::1%eth0]"],
    ["IPv6 unique local", "[fd00::1]"],
    ["IPv6 metadata", "[fd00:ec2::254]"],
    ["userinfo", "api.example.test@127.0.0.1"],
    ["userinfo with a password", "a:b@169.254.169.254"],
    ["CRLF", "127.0.0.1\r\nHost: x"],
    ["NUL", "127.0.0.1\0"],
    ["tab", "127.0\t.0.1"],
    ["backslash", "127.0.0.1\\@api.example.test"],
    ["fragment", "127.0.0.1#"],
    ["query", "127.0.0.1?"],
    ["path", "127.0.0.1/"],
    ["full stop of another script", "127。0。0。1"],
    ["digits of another script", "１２７.0.0.1"],
    ["circled letters", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ"],
    ["a letter of another alphabet", "аpi.example.test"],
    ["trailing dot", "127.0.0.1."],
    ["wildcard", "*.example.test"],
    ["nothing", ""],
  ])("is refused before anything is dialled: %s (%s)", async (_kind, host) => {
    const { port, visits } = await silentPort();
    const { forward, dialled } = forwarding(ANY_HOST, port, async () => ["127.0.0.1"]);
    const named = /^[a-z.]+$/.test(host);
    for (const suffix of ["", `:${port}`]) {
      const call = callOf({ fields: { host: host + suffix }, baseUrl: `https://${host}${suffix}/v1` });
      const refused = await refusal(forward(call));
      expect(refused, host + suffix).toMatch(named ? /address_not_allowed/ : /^DESTINATION_NOT_ALLOWED/);
    }
    expect(dialled).toEqual([]);
    expect(visits()).toBe(0);
  });

  it.each([
    [{ host: "127.1" }, "ip_literal"],
    [{ host: "a@evil.test" }, "userinfo"],
    [{ host: "api.example.test\r\nHost: x" }, "fields.host"],
    [{}, "fields.host"],
    [{ host: "api.example.test" }, "no_base_url"],
  ])("that never became a base URL is refused with the cause: %j", async (fields, cause) => {
    const { port, visits } = await silentPort();
    const { forward, dialled } = forwarding(ANY_HOST, port);
    expect(await refusal(forward(callOf({ fields, baseUrl: "" })))).toBe(`DESTINATION_NOT_ALLOWED ${cause}`);
    expect([dialled, visits()]).toEqual([[], 0]);
  });

  it.each(["10.1.2.3", "127.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1", "fd00::1"])(
    "is refused when its name resolves to %s, alone or beside a public address",
    async (address) => {
      const { port, visits } = await silentPort();
      for (const addresses of [[address], ["93.184.215.14", address], [address, "93.184.215.14"]]) {
        const { forward, dialled } = forwarding(FIXED, port, async () => addresses);
        expect(await refusal(forward(callOf()))).toBe("DESTINATION_NOT_ALLOWED address_not_allowed");
        expect(dialled).toEqual([]);
      }
      expect(visits()).toBe(0);
    },
  );

  it("is dialled at the address that was judged, and judged anew for every connection", async () => {
    const port = await httpsServer((_request, response) => {
      response.writeHead(200, { connection: "close" }).end("{}");
    });
    let asked = 0;
    const rebinding = async () => {
      asked += 1;
      return asked === 1 ? ["93.184.215.14"] : ["127.0.0.1"];
    };
    const { forward, dialled } = forwarding(FIXED, port, rebinding);
    expect((await forward(callOf())).status).toBe(200);
    expect([asked, dialled]).toEqual([1, ["93.184.215.14:443"]]);
    expect(await refusal(forward(callOf()))).toBe("DESTINATION_NOT_ALLOWED address_not_allowed");
    expect(dialled).toHaveLength(1);
  });
});

describe("a redirect", () => {
  /** What the API at api.example.test redirects to, and what came of it. */
  async function redirecting(location: string, status = 302, changes: Parameters<typeof callOf>[0] = {}) {
    const seen: {
      host: string | undefined;
      url: string | undefined;
      key: string | undefined;
      version: unknown;
    }[] = [];
    const port = await httpsServer((request, response) => {
      const { host, "x-key": key, "x-version": version } = request.headers;
      seen.push({ host, url: request.url, key: key as string | undefined, version });
      if (seen.length === 1) response.writeHead(status, { location }).end();
      else response.end("followed");
    });
    const { forward, dialled } = forwarding(FIXED, port);
    const answer = await forward(callOf(changes));
    return { answer, seen, dialled };
  }

  it.each([
    ["an address", "https://127.0.0.1/"],
    ["the metadata service", "http://169.254.169.254/latest/meta-data/"],
    ["a host that is not the provider's", "https://evil.test/"],
    ["plain http", "http://api.example.test/v1/x"],
    ["another port", "https://api.example.test:8443/v1/x"],
    ["userinfo", "https://api.example.test@evil.test/"],
    ["userinfo before the host", "https://user:pw@api.example.test/v1/x"],
    ["another scheme", "file:///etc/passwd"],
    ["backslashes", "\\\\evil.test\\x"],
    ["no URL", "https://["],
    ["a relative host", "//evil.test/v1"],
  ])("to %s is the answer, and not followed", async (_what, location) => {
    const { answer, seen, dialled } = await redirecting(location);
    expect([answer.status, seen.length]).toEqual([302, 1]);
    expect(dialled).toEqual(["93.184.215.14:443"]);
    expect(answer.headers).toContainEqual(["location", location]);
  });

  it("to the same origin is followed with the credential, its fragment left out", async () => {
    const { answer, seen } = await redirecting("/v1/there?a=1#part");
    expect(answer.status).toBe(200);
    expect(seen[1]).toEqual({ host: "api.example.test", url: "/v1/there?a=1", key: "the-key", version: "7" });
  });

  it("to another host of the provider is followed without the credential or anything else the caller sent", async () => {
    const { answer, seen } = await redirecting("https://files.example.test/f?sig=1", 302, {
      headers: [["x-secret", "mine"]],
    });
    expect(answer.status).toBe(200);
    expect(seen[1]).toEqual({
      host: "files.example.test",
      url: "/f?sig=1",
      key: undefined,
      version: undefined,
    });
  });

  it.each([
    [301, "POST"],
    [302, "POST"],
    [300, "GET"],
    [304, "GET"],
  ])("of status %i after a %s is the answer", async (status, method) => {
    const { answer, seen } = await redirecting("/v1/there", status, {
      method,
      ...(method === "POST" && { body: Buffer.from("x") }),
    });
    expect([answer.status, seen.length]).toEqual([status, 1]);
  });

  it("of 307 keeps method and body at home, and is the answer where a body would go elsewhere", async () => {
    const post = { method: "POST", body: Buffer.from("x") };
    expect((await redirecting("/v1/there", 307, post)).answer.status).toBe(200);
    expect((await redirecting("https://files.example.test/", 307, post)).answer.status).toBe(307);
    expect((await redirecting("https://files.example.test/", 303, post)).answer.status).toBe(200);
  });

  it("leads a caller whose paths are limited nowhere else than they allow", async () => {
    const permits = (_method: string, path: string | undefined) => path === "/allowed";
    expect((await redirecting("/v1/allowed", 302, { permits })).answer.status).toBe(200);
    for (const location of ["/v1/other", "/v2/allowed", "https://files.example.test/allowed"])
      expect((await redirecting(location, 302, { permits })).answer.status).toBe(302);
  });

  it("is followed five times and no further", async () => {
    let count = 0;
    const port = await httpsServer((_request, response) => {
      count += 1;
      response.writeHead(302, { location: `/v1/${count}` }).end();
    });
    const { forward } = forwarding(FIXED, port);
    expect((await forward(callOf())).status).toBe(302);
    expect(count).toBe(6);
  });

  it("that copies a credential out of the query does not take it elsewhere", async () => {
    const urls: (string | undefined)[] = [];
    const port = await httpsServer((request, response) => {
      urls.push(request.url);
      if (urls.length > 1) response.end();
      else response.writeHead(302, { location: "https://files.example.test/f?copy=the%20key&id=1" }).end();
    });
    const { forward } = forwarding(FIXED, port);
    await forward(callOf({ credential: new Secret({ headers: {}, queryParameters: { key: "the key" } }) }));
    expect(urls).toEqual(["/v1/me?key=the%20key", "/f?id=1"]);
  });
});

describe("smuggling", () => {
  const field = async (changes: Parameters<typeof callOf>[0]) => {
    const { port, visits } = await silentPort();
    const { forward, dialled } = forwarding(FIXED, port);
    const refused = await refusal(forward(callOf(changes)));
    expect([dialled, visits()]).toEqual([[], 0]);
    return refused;
  };

  it.each(["GET\r\nX: y", "GET /x HTTP/1.1", "GE\0T", "", "CONNECT", "trace", "GÉT", "GET\t"])(
    "through the method %j is refused by name",
    async (method) => {
      expect(await field({ method })).toBe("INVALID_REQUEST method");
    },
  );

  it.each([
    "me",
    "//evil.test/me",
    "/a//b",
    "/../admin",
    "/a/..",
    "/./a",
    "/%2e%2e/admin",
    "/.%2E/admin",
    "/%252e%252e/admin",
    "/a%2f..%2fadmin",
    "/a%5c..%5cadmin",
    "/a/..;v=1/admin",
    "/a\\..\\admin",
    "/@evil.test",
    "/a@b",
    "/a?b=c",
    "/a#b",
    "/a b",
    "/a\r\nX: y",
    "/a\0",
    "/a%0d%0aX:%20y",
    "/a%00",
    "/ä",
    "/a%zz",
    "/a%",
    "https://evil.test/",
    `/${"a".repeat(20_000)}`,
  ])("through the path %j is refused by name", async (path) => {
    expect(await field({ path })).toBe("INVALID_REQUEST path");
  });

  it.each([
    ["query[0].value", [["a", "1\r\nX: y"]]],
    [
      "query[1].value",
      [
        ["a", "1"],
        ["b", "\0"],
      ],
    ],
    ["query[0].name", [["a\n", "1"]]],
    ["query[0].name", [["", "1"]]],
    ["query", [["a", "x".repeat(20_000)]]],
  ] as const)("through the query is refused as %s", async (name, query) => {
    expect(await field({ query })).toBe(`INVALID_REQUEST ${name}`);
  });

  it.each([
    ["headers[0].name", [["Transfer-Encoding", "chunked"]]],
    ["headers[0].name", [["transfer_encoding", "chunked"]]],
    ["headers[0].name", [["Content-Length", "0"]]],
    ["headers[0].name", [["CONNECTION", "x-key"]]],
    ["headers[0].name", [["Host", "evil.test"]]],
    ["headers[0].name", [[":authority", "evil.test"]]],
    ["headers[0].name", [[":path", "/admin"]]],
    ["headers[0].name", [["", "x"]]],
    ["headers[0].name", [["a b", "x"]]],
    ["headers[0].name", [["a\r\nb", "x"]]],
    ["headers[0].name", [["a:", "x"]]],
    ["headers[0].name", [["Transfer-Encoding ", "chunked"]]],
    [
      "headers[1].value",
      [
        ["a", "b"],
        ["a", "x\r\ntransfer-encoding: chunked"],
      ],
    ],
    ["headers[0].value", [["a", "x\n y"]]],
    ["headers[0].value", [["a", "x\0"]]],
    ["headers[0].value", [["a", "\u{1f600}"]]],
    ["headers[0].value", [["a", "č"]]],
    ["headers", Array.from({ length: 129 }, () => ["a", "b"] as const)],
    ["headers", [["a", "x".repeat(40_000)]]],
  ] as const)("through headers is refused as %s: %j", async (name, headers) => {
    expect(await field({ headers })).toBe(`INVALID_REQUEST ${name}`);
  });

  it("through headers that change method or path is refused to callers whose methods or paths are limited", async () => {
    const headers = [["X-HTTP-Method-Override", "DELETE"]] as const;
    expect(await field({ headers, permits: () => true })).toBe("INVALID_REQUEST headers[0].name");
  });

  it("does not come in with what is dropped", async () => {
    const seen: NodeJS.Dict<string | string[]>[] = [];
    const port = await httpsServer((request, response) => {
      seen.push(request.headers);
      response.end();
    });
    const { forward } = forwarding(FIXED, port);
    const dropped = [
      "TE",
      "Trailer",
      "Upgrade",
      "Expect",
      "Keep-Alive",
      "Proxy-Connection",
      "HTTP2-Settings",
    ];
    await forward(callOf({ headers: dropped.map((name) => [name, "x"]) }));
    const [headers = {}] = seen;
    for (const name of dropped) expect(headers[name.toLowerCase()], name).toBeUndefined();
  });
});
