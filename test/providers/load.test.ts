import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, describe, expect, it } from "vitest";
import type { Fault } from "../../src/providers/document.ts";
import { faultText, lintPath, lintProvider, loadCatalogue } from "../../src/providers/load.ts";
import { oauthFile, SHIPPED, SHIPPED_NAMES } from "./stage.ts";

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

function folder(files: Record<string, string>): string {
  const path = mkdtempSync(join(tmpdir(), "keyturn-providers-"));
  folders.push(path);
  for (const [name, text] of Object.entries(files)) writeFileSync(join(path, name), text);
  return path;
}

const lint = (text: string) => lintProvider(text, "acme.yaml").map(faultText);

describe("loading provider files", () => {
  it("tells what a name that is only spelt otherwise was meant to be, and what a bad value should be", () => {
    const faults = lintProvider(
      oauthFile("allowedHosts: [a.example]\nrefresh: { resendSafe: true, grace: 5 minutes }"),
      "acme.yaml",
    );
    expect(faults.map(({ path, message }) => `${path} ${message}`)).toEqual([
      "refresh.grace expected a whole number and its unit: 500ms, 30s, 10m, 2h, 90d",
      "refresh.resendSafe is not a known member; did you mean resend_safe?",
      "allowedHosts is not a known member; did you mean allowed_hosts?",
    ]);
    expect(lintProvider("", "acme.yaml")).toMatchObject([{ line: 1, message: "is empty" }]);
  });

  it("knows the OAuth client's further secrets by name, and where there is no such client", () => {
    const header = (name: string) =>
      `client_fields: { developer_token: {} }\nauthorization: { format: header, config: { name: x, value: "\${client.${name}}" } }\n`;
    const oauth = oauthFile().replace(/authorization: .*\n/, "");
    expect(lint(`${oauth}${header("developer_token")}`)).toEqual([]);
    expect(lint(`${oauth}${header("developer_tokn")}`)).toEqual([
      expect.stringContaining("instead of ${client.developer_tokn}; did you mean ${client.developer_token}?"),
    ]);
    expect(lint(`credentials: { format: api_key }\n${header("developer_token")}`)).toEqual([
      expect.stringContaining("client_fields: expected credentials of a format with an OAuth client"),
    ]);
  });

  it("loads every shipped file", () => {
    const loaded = loadCatalogue([SHIPPED]);
    expect(loaded.ok ? loaded.catalogue.names : loaded.faults.map(faultText)).toEqual(SHIPPED_NAMES);
  });

  it("lets a user's file replace a shipped one of the same name, in JSON too", () => {
    const own = folder({
      "google.json": JSON.stringify({
        credentials: { format: "api_key" },
        authorization: { format: "bearer" },
      }),
    });
    const loaded = loadCatalogue([SHIPPED, own]);
    expect(loaded.ok && loaded.catalogue.get("google")?.file.credentials.format).toBe("api_key");
    expect(loaded.ok && loaded.catalogue.get("slack")?.name).toBe("slack");
  });

  it("reads files that were checked before when they are first asked for, and tells of one that does not load", () => {
    const checked = folder({ "a.yaml": oauthFile(), "b.yaml": "credentials: 3\n", "c.yaml": oauthFile() });
    const own = folder({ "c.yaml": oauthFile("refresh: { resend_safe: true }") });
    const told: string[] = [];
    const report = (faults: readonly Fault[]) => told.push(...faults.map(faultText));
    const loaded = loadCatalogue([own], { directory: checked, report });
    if (!loaded.ok) throw new Error("it does not load");
    const { catalogue } = loaded;
    expect([catalogue.names, told]).toEqual([["a", "b", "c"], []]);
    expect(catalogue.source("a")).toBe(join(checked, "a.yaml"));
    expect(catalogue.source("c")).toBe(join(own, "c.yaml"));
    rmSync(join(checked, "c.yaml"));
    expect(catalogue.get("c")?.refresh.resendSafe).toBe(true);
    expect(catalogue.get("a")).toBe(catalogue.get("a"));
    expect([catalogue.get("b"), catalogue.get("b"), catalogue.get("d")]).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
    expect(told.every((text) => text.startsWith(join(checked, "b.yaml:")))).toBe(true);
    expect(told).toHaveLength(2);
    expect(loadCatalogue([own], { directory: join(checked, "missing"), report }).ok).toBe(false);
  });

  it("gives no catalogue at all when one file is faulty, and names every fault of every file", () => {
    const own = folder({
      "a.yaml": "credentials: 3\n",
      "b.yaml": oauthFile("errors: $eval('1')\n"),
      "c.yaml": oauthFile(),
    });
    const loaded = loadCatalogue([own]);
    const texts = loaded.ok ? [] : loaded.faults.map(faultText);
    expect(
      texts.some((text) =>
        text.startsWith(join(own, "a.yaml:1:14: credentials: expected members (name: value)")),
      ),
    ).toBe(true);
    expect(texts.some((text) => text.startsWith(join(own, "b.yaml:")))).toBe(true);
    expect(texts.some((text) => text.includes("c.yaml"))).toBe(false);
  });

  it("checks a path as loading would: a file, a directory, or what is neither", () => {
    const own = folder({ "a.yaml": oauthFile(), "b.yaml": "credentials: 3\n" });
    expect(lintPath(join(own, "a.yaml"))).toEqual([]);
    expect(lintPath(own).map(({ file }) => file)).toContain(join(own, "b.yaml"));
    expect(lintPath(SHIPPED)).toEqual([]);
    expect(lintPath(join(own, "c.yaml"))).toMatchObject([{ message: "cannot be read (ENOENT)" }]);
  });

  it("tells of each file what it has in common with another", () => {
    const wrong = "errors: $eval('1')\naccount_fields: { a: { pattern: '^(?=a)$' } }\n";
    const own = folder({ "a.yaml": oauthFile(wrong), "b.yaml": oauthFile(`\n${wrong}`) });
    const loaded = loadCatalogue([own]);
    const texts = loaded.ok ? [] : loaded.faults.map(faultText);
    const places = texts.map((text) =>
      text
        .slice(own.length + 1)
        .split(": ", 2)
        .join(" "),
    );
    expect(places.map((place) => place.replace(/:[0-9]+ /, " "))).toEqual([
      "a.yaml:8 account_fields.a",
      "a.yaml:7 errors",
      "b.yaml:9 account_fields.a",
      "b.yaml:8 errors",
    ]);
  });

  it("refuses two files for one provider in one folder, and a folder that is not there", () => {
    const own = folder({ "a.yaml": oauthFile(), "a.json": "{}" });
    const loaded = loadCatalogue([own, join(own, "missing")]);
    expect(loaded.ok).toBe(false);
    const texts = loaded.ok ? "" : loaded.faults.map(faultText).join("\n");
    expect(texts).toContain("one file a provider");
    expect(texts).toContain("ENOENT");
  });

  it("names file, line, column, dotted path and what is expected", () => {
    const text = `credentials:
  format: oauth2
  config:
    auth: { tokenHost: https://a.example }
    options: { authorizationMethod: headers }
authorization:
  - { format: bearer, config: { pth: x } }
refresh: { max_concurrent: 0 }
surprise: 1
`;
    expect(lint(text)).toEqual([
      'acme.yaml:5:37: credentials.config.options.authorizationMethod: expected one of "header", "body", "none", "client_secret_jwt", "private_key_jwt", "tls_client_auth", "custom"',
      "acme.yaml:7:33: authorization.0.config.pth: is not a known member; did you mean path?",
      "acme.yaml:8:28: refresh.max_concurrent: Too small: expected number to be >=1",
      "acme.yaml:9:1: surprise: is not a known member; remove it or correct its spelling",
    ]);
  });

  it("says where in an expression the fault is", () => {
    expect(lint(oauthFile('errors: body.error = 1 and $eval("x")'))[0]).toMatch(
      /^acme\.yaml:7:34: errors: expected one of the functions/,
    );
  });

  it.each([
    [
      "an undeclared variable in the host",
      oauthFile("proxy: { base_url: 'https://${where}/x' }"),
      "response.fields declare instead of ${where}",
    ],
    [
      "an answer's field in the host without suffixes",
      oauthFile("response: { fields: { inst: body.i } }\nproxy: { base_url: '${inst}' }"),
      "allowed_suffixes",
    ],
    [
      "an origin with only a pattern",
      oauthFile("account_fields: { o: { pattern: '^.*$' } }\nproxy: { base_url: '${o}/x' }"),
      "allowed_suffixes",
    ],
    [
      "a pattern that is not anchored",
      oauthFile("account_fields: { s: { pattern: 'a|b' } }"),
      "starts with ^ and ends with $",
    ],
    [
      "a pattern that could run for ever",
      oauthFile("account_fields: { s: { pattern: '^(a+)\\1$' } }"),
      "of RE2",
    ],
    [
      "a default that its own rule refuses",
      oauthFile("account_fields: { s: { default: a.b } }"),
      "a default",
    ],
    [
      "tokens bound to a certificate that nobody shows",
      oauthFile("", "    options: { certificateBoundAccessTokens: true }"),
      "clientCertificate: true beside it",
    ],
    ["plain http", oauthFile("proxy: { base_url: 'http://api.acme.example' }"), "expected https"],
    [
      "http to loopback that it does not ask for",
      oauthFile("proxy: { base_url: 'http://127.0.0.1:4571/' }"),
      "expected https",
    ],
    [
      "http to a host that only begins like loopback",
      oauthFile(
        "allow_loopback_http: true\naccount_fields: { x: { pattern: '^.*$' } }\nproxy: { base_url: 'http://127.0.0.1${x}/' }",
      ),
      "expected https",
    ],
    ["a userinfo in the URL", oauthFile("proxy: { base_url: 'https://a@b.example' }"), "without #, @"],
    ["a fragment in the URL", oauthFile("proxy: { base_url: 'https://b.example/#x' }"), "without #, @"],
    ["every host", oauthFile("allowed_hosts: ['*']"), "a host such as"],
    ["a top-level domain", oauthFile("allowed_hosts: ['*.com']"), "a host such as"],
    [
      "a list of hosts without one that a URL writes out",
      oauthFile(
        "proxy: { base_url: 'https://api.acme.example:8443' }\nallowed_hosts: [auth.acme.example, api.acme.example]",
      ),
      "expected api.acme.example:8443 among them",
    ],
    ["a port that there is not", oauthFile("allowed_hosts: ['auth.acme.example:0']"), "a host such as"],
    [
      "a class that there is not",
      oauthFile(`errors: 'status = 400 ? {"class": "re-auth"}'`),
      "instead of re-auth",
    ],
    ["a function that is spelt otherwise", oauthFile("errors: $lookupp(body, 'x')"), "did you mean $lookup?"],
    [
      "a field without its place",
      oauthFile("account_fields: { team: {} }").replace(
        "{ format: bearer, config: { path: oauth.token.access_token } }",
        '{ format: header, config: { name: X, value: "${team}" } }',
      ),
      "did you mean ${fields.team}?",
    ],
    ["no authorization", oauthFile().replace(/authorization: .*\n/, ""), "authorization: is missing"],
    ["a tab", oauthFile("refresh:\n\tlead: 1h"), "indent with spaces"],
    ["an unclosed variable", oauthFile("proxy: { base_url: 'https://b.example/${x' }"), "without #"],
    ["an alias", oauthFile("setup: &a { notes: x }\nproxy: *a"), "aliases"],
    ["two members of one name", oauthFile("errors: a\nerrors: b"), "unique"],
    ["a tag", oauthFile("errors: !!js/function 'x'"), "tag"],
    [
      "a field declared twice",
      oauthFile("account_fields: { a: {} }\nresponse: { fields: { a: body.a } }"),
      "no other field",
    ],
    [
      "a broken header name",
      oauthFile().replace(
        "{ format: bearer, config: { path: oauth.token.access_token } }",
        "{ format: header, config: { name: 'X Y', value: 'x' } }",
      ),
      "a header name",
    ],
  ])("does not load %s", (_what, text, expected) => {
    expect(lint(text).join("\n")).toContain(expected);
  });

  it("does not load a file whose name is no provider's name", () => {
    expect(lintProvider(oauthFile(), "Acme Inc.yaml").map(faultText)[0]).toContain(
      "the file's name is the provider's",
    );
  });

  it("never throws, whatever text it is given", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json(), fc.string({ unit: "binary" })), (text) => {
        expect(Array.isArray(lintProvider(text, "acme.yaml"))).toBe(true);
      }),
      { numRuns: 300 },
    );
  });

  it("tells a fault with its place when any member of a good file becomes anything else", () => {
    const good = {
      credentials: {
        format: "oauth2",
        config: { auth: { tokenHost: "https://a.example" }, scope: ["a"], options: { bodyFormat: "form" } },
      },
      authorization: { format: "bearer", config: {} },
      refresh: { resend_safe: true },
      response: { fields: { x: "body.x" } },
    };
    const paths = [
      ["credentials"],
      ["credentials", "config"],
      ["credentials", "config", "auth"],
      ["credentials", "config", "options"],
      ["authorization"],
      ["refresh"],
      ["response"],
      ["response", "fields"],
    ];
    fc.assert(
      fc.property(
        fc.constantFrom(...paths),
        fc.string({ minLength: 1 }),
        fc.jsonValue(),
        (path, name, value) => {
          const copy: unknown = structuredClone(good);
          const at = path.reduce<Record<string, unknown>>(
            (node, step) => node[step] as Record<string, unknown>,
            copy as Record<string, unknown>,
          );
          Object.defineProperty(at, name, { value, enumerable: true, configurable: true, writable: true });
          for (const fault of lintProvider(JSON.stringify(copy, undefined, 2), "acme.json")) {
            expect(fault.line).toBeGreaterThanOrEqual(1);
            expect(fault.column).toBeGreaterThanOrEqual(1);
            expect(fault.message).not.toBe("");
          }
        },
      ),
      { numRuns: 300 },
    );
  });
});
