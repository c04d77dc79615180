import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer as createHttp, type IncomingMessage, type RequestListener } from "node:http";
import { createServer as createHttps, type ServerOptions } from "node:https";
import { type AddressInfo, connect, type Server } from "node:net";
import { join } from "node:path";
import type { TLSSocket } from "node:tls";
import { describe, expect, it, onTestFinished } from "vitest";
import { AccountService } from "../../../src/gen/keyturn/v1/account_service_pb.js";
import { CredentialService } from "../../../src/gen/keyturn/v1/credential_service_pb.js";
import { OAuthClientService } from "../../../src/gen/keyturn/v1/oauth_client_service_pb.js";
import { causeOf, reasonOf } from "../../e2e/harness.ts";
import { tempFolder } from "../../fakes/temp-folder.ts";
import { silentPort } from "../../providers/forward/stage.ts";
import { type Enclosed, serveWithin } from "./outside-world.ts";
import { headerOf, proxyOf } from "./stage.ts";

// What the guard's own tests show for each of its parts, of a whole sidecar process.

const fixture = (name: string) =>
  readFileSync(join(import.meta.dirname, "../../egress/fixtures", name), "utf8");

const AUTHORIZED = `authorization: { format: header, config: { name: X-Key, value: "\${api_key}" } }`;
/** The account's field says where. */
const ANYWHERE = `account_fields:
  host: { title: Host, pattern: "^.*$" }
credentials: { format: api_key }
${AUTHORIZED}
allowed_hosts: ["\${host}"]
proxy: { base_url: "https://\${host}/v1" }
`;
const AT_HOME = `credentials: { format: api_key }
${AUTHORIZED}
allowed_hosts: [api.example.test, files.example.test]
proxy: { base_url: "https://api.example.test/v1" }
`;

async function have({ admin }: Enclosed, accountId: string, provider: string, host?: string): Promise<void> {
  const credential = { kind: { case: "apiKey" as const, value: { apiKey: "the-key" } } };
  const fields: Record<string, string> = host === undefined ? {} : { host };
  await admin.call(AccountService.method.createAccount, {
    accountId,
    provider,
    tenant: "acme",
    fields,
    credential,
  });
}

const refusal = (error: unknown) => `${reasonOf(error)} ${causeOf(error)}`;

async function listening(server: Server): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => void server.close());
  return (server.address() as AddressInfo).port;
}

/** An API over TLS, as whom the test authority vouches for. */
function secureApi(listener: RequestListener, options: ServerOptions = {}): Promise<number> {
  const server = createHttps(
    { key: fixture("server.key"), cert: fixture("server.pem"), ...options },
    listener,
  );
  onTestFinished(() => server.closeAllConnections());
  return listening(server);
}

describe("a destination that the account's fields make", () => {
  it("is refused with its own cause, and nothing is dialled", async () => {
    const { port, visits } = await silentPort();
    const names = {
      "metadata.example.test": [["169.254.169.254"]],
      "mixed.example.test": [["93.184.215.14", "10.0.0.1"]],
    };
    const at = await serveWithin({ names, port }, { providers: { anywhere: ANYWHERE } });
    const causes: Readonly<Record<string, readonly string[]>> = {
      ip_literal: [
        ...["2130706433", "0177.0.0.1", "017700000001", "0x7f000001", "0x7f.0.0.1", "127.1", "127.0.1", "0"],
        ...["2852039166", "0xa9fea9fe", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "127.0.0.1?", "127.0.0.1/"],
      ],
      address_not_allowed: [
        ...[
          "0.0.0.0",
          "0.1.2.3",
          `127.0.0.1:${port}`,
          "127.255.255.254",
          `localhost:${port}`,
          "api.localhost",
        ],
        ...["10.0.0.1", "172.16.9.9", "192.168.0.1", "100.64.0.1", "169.254.169.254", "100.100.100.200"],
        ...["168.63.129.16", "192.0.0.192", "[::1]", "[::]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]"],
        ...[
          "[2002:a9fe:a9fe::]",
          "[fd00::1]",
          "[fd00:ec2::254]",
          "metadata.example.test",
          "mixed.example.test",
        ],
      ],
      host_invalid: ["[fe80::1%25eth0]", "[fe80::1%eth0]", "127.0.0.1.", "*.example.test", "127.0.0.1:99999"],
      userinfo: ["api.example.test@127.0.0.1", `a:b@127.0.0.1:${port}`],
      backslash: ["127.0.0.1\\@api.example.test"],
      fragment: ["127.0.0.1#"],
    };
    // What no text of a field may be does not even become an account.
    const never = [
      ...["127.0.0.1\r\nHost: x", "127.0.0.1\0", "127.0\t.0.1", "127。0。0。1", "１２７.0.0.1"],
      ...["ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "аpi.example.test"],
    ];
    for (const host of never)
      await expect(have(at, "never", "anywhere", host), host).rejects.toThrow(
        "INVALID_ARGUMENT: fields.host",
      );
    const all = Object.entries(causes).flatMap(([cause, hosts]) =>
      hosts.map((host) => [cause, host] as const),
    );
    for (const [n, [cause, host]] of all.entries()) {
      await have(at, `a-${n}`, "anywhere", host);
      expect(await proxyOf(at.data, { accountId: `a-${n}` }).catch(refusal), host).toBe(
        `DESTINATION_NOT_ALLOWED ${cause}`,
      );
    }
    expect(at.news().filter((line) => line.startsWith("dialled"))).toEqual([]);
    expect(visits()).toBe(0);
  }, 60_000);
});

describe("an API", () => {
  /** A sidecar with one account of an API at api.example.test, which `listener` is. */
  async function calling(
    listener: RequestListener,
    answers: readonly (readonly string[])[] = [["93.184.215.14"]],
  ) {
    const port = await secureApi(listener);
    const names = { "api.example.test": answers, "files.example.test": [["93.184.215.15"]] };
    const at = await serveWithin({ names, port }, { providers: { home: AT_HOME } });
    await have(at, "acme", "home");
    at.news();
    return at;
  }

  it("may redirect to its own hosts, without the credential, and nowhere else", async () => {
    const { port: silent, visits } = await silentPort();
    const seen: IncomingMessage[] = [];
    const at = await calling((request, response) => {
      seen.push(request);
      const to = new URL(request.url ?? "", "https://x").searchParams.get("to");
      if (to === null) response.end("followed");
      else response.writeHead(302, { location: to }).end();
    });
    const asked = (to: string) => proxyOf(at.data, { query: [{ name: "to", value: to }] });
    for (const to of [
      `https://127.0.0.1:${silent}/`,
      `http://127.0.0.1:${silent}/`,
      `https://localhost:${silent}/`,
      "http://169.254.169.254/latest/meta-data/",
      "https://2130706433/",
      "https://[::ffff:127.0.0.1]/",
      "https://evil.test/",
      "https://api.example.test@evil.test/",
      "//evil.test/v1",
      "\\\\evil.test\\x",
    ]) {
      const answer = await asked(to);
      expect([answer.status, headerOf(answer, "location")]).toEqual([302, to]);
    }
    expect(new Set(at.news().filter((line) => line.startsWith("dialled")))).toEqual(
      new Set(["dialled 93.184.215.14:443"]),
    );
    const followed = await asked("https://files.example.test/x");
    expect([followed.status, Buffer.from(followed.body).toString()]).toEqual([200, "followed"]);
    expect(at.news()).toContain("dialled 93.184.215.15:443");
    const keys = seen.map(({ headers }) => [headers.host, headers["x-key"]]);
    expect(keys.filter(([host]) => host === "files.example.test")).toEqual([
      ["files.example.test", undefined],
    ]);
    expect(visits()).toBe(0);
  }, 60_000);

  it("is judged by the address that it is dialled at, each time", async () => {
    const at = await calling(
      (_request, response) => void response.writeHead(200, { connection: "close" }).end("{}"),
      [["93.184.215.14"], ["127.0.0.1"]],
    );
    expect((await proxyOf(at.data)).status).toBe(200);
    expect(await proxyOf(at.data).catch(refusal)).toBe("DESTINATION_NOT_ALLOWED address_not_allowed");
    expect(at.news()).toEqual([
      "asked api.example.test",
      "dialled 93.184.215.14:443",
      "asked api.example.test",
    ]);
  }, 60_000);

  it("in a private network is reached where the operator permits it, and with it nothing else", async () => {
    const port = await secureApi((_request, response) => void response.end("{}"));
    const names = {
      "api.example.test": [["10.1.2.3"]],
      "meta.example.test": [["169.254.169.254"]],
      "here.example.test": [["127.0.0.1"]],
    };
    const providers = { home: AT_HOME, other: AT_HOME, anywhere: ANYWHERE };
    const config = "egress: { allow_private: [home, anywhere, no-such] }";
    const at = await serveWithin({ names, port }, { providers, config });
    expect(at.log()).toMatch(/allow_private names a provider that has no file.*no-such/);
    for (const provider of ["home", "other"]) await have(at, provider, provider);
    expect((await proxyOf(at.data, { accountId: "home" })).status).toBe(200);
    expect(at.news()).toContain("dialled 10.1.2.3:443");
    const refused = "DESTINATION_NOT_ALLOWED address_not_allowed";
    expect(await proxyOf(at.data, { accountId: "other" }).catch(refusal)).toBe(refused);
    for (const host of ["meta.example.test", "here.example.test", "169.254.169.254"]) {
      await have(at, `at-${host}`, "anywhere", host);
      expect(await proxyOf(at.data, { accountId: `at-${host}` }).catch(refusal)).toBe(refused);
    }
    expect(at.news().filter((line) => line.startsWith("dialled"))).toEqual([]);
  }, 60_000);
});

describe("a provider that wants the OAuth client's certificate", () => {
  const certified = (domain: string, more = "") => `credentials:
  format: oauth2
  config:
    auth: { tokenHost: "https://login.${domain}", tokenPath: /token }
    options: { clientCertificate: true${more} }
authorization: { format: bearer, config: { path: oauth.token.access_token } }
proxy: { base_url: "https://api.${domain}/v1" }
allowed_hosts: [api.${domain}, login.${domain}]
`;

  it("is shown it, and is verified itself all the same", async () => {
    const seen: string[] = [];
    const asking = { ca: fixture("client-ca.pem"), requestCert: true, rejectUnauthorized: true };
    const port = await secureApi((request, response) => {
      seen.push(String((request.socket as TLSSocket).getPeerCertificate().subject.CN));
      response.end("{}");
    }, asking);
    const public_ = [["93.184.215.14"]];
    const names = { "api.example.test": public_, "api.elsewhere.test": public_ };
    const providers = {
      certified: certified("example.test"),
      bound: certified("example.test", ", certificateBoundAccessTokens: true"),
      elsewhere: certified("elsewhere.test"),
    };
    const at = await serveWithin({ names, port }, { providers });
    for (const provider of Object.keys(providers)) {
      await at.admin.call(OAuthClientService.method.putClient, {
        provider,
        name: "main",
        clientId: "c",
        clientSecret: "s",
        certificate: fixture("client.pem"),
        certificateKey: fixture("client.key"),
      });
      const oauth = {
        accessToken: "at",
        refreshToken: "rt",
        expireTime: { seconds: 4_000_000_000n, nanos: 0 },
      };
      const credential = { kind: { case: "oauth" as const, value: oauth } };
      const account = { accountId: provider, provider, client: "main", tenant: "acme", credential };
      await at.admin.call(AccountService.method.createAccount, account);
    }
    for (const accountId of ["certified", "bound"])
      expect((await proxyOf(at.data, { accountId })).status).toBe(200);
    expect(seen).toEqual(["keyturn", "keyturn"]);
    // What works nowhere else is handed to nobody.
    const { getToken } = CredentialService.method;
    expect((await at.data.call(getToken, { accountId: "certified" })).accessToken).toBe("at");
    expect(await at.data.call(getToken, { accountId: "bound" }).catch(refusal)).toBe(
      "TOKEN_NOT_PORTABLE certificate_bound",
    );
    expect(await proxyOf(at.data, { accountId: "elsewhere" }).catch(refusal)).toBe(
      "PROVIDER_UNAVAILABLE tls_certificate_invalid",
    );
    expect(seen).toHaveLength(2);
  }, 60_000);
});

function passwordFile(password: string): string {
  const file = join(tempFolder(), "password");
  writeFileSync(file, password);
  return file;
}

describe("an egress proxy that wants a password", () => {
  it("is asked for every way out, opens it end to end, and lets nothing leave with another password", async () => {
    const { port: silent, visits } = await silentPort();
    const api = await secureApi((request, response) => void response.end(request.headers["x-key"]));
    const authorization = `Basic ${Buffer.from("keyturn:pr0xy-secret").toString("base64")}`;
    const asked: (string | undefined)[] = [];
    const proxy = createHttp((_request, response) => response.writeHead(400).end());
    proxy.on("connect", (request, socket) => {
      asked.push(request.url);
      socket.on("error", () => undefined);
      if (request.headers["proxy-authorization"] !== authorization) {
        socket.end("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
        return;
      }
      const upstream = connect(api, "127.0.0.1", () => {
        socket.write("HTTP/1.1 200 Connection Established\r\n\r\n");
        upstream.pipe(socket).pipe(upstream);
      });
      upstream.on("error", () => socket.destroy());
    });
    onTestFinished(() => proxy.closeAllConnections());
    const proxyPort = await listening(proxy);
    const within = async (password: string) => {
      const url = `http://127.0.0.1:${proxyPort}`;
      const config = `egress: { proxy: { url: "${url}", username: keyturn, password_file: ${passwordFile(password)} } }`;
      const providers = { home: AT_HOME, elsewhere: AT_HOME.replaceAll("example.test", "elsewhere.test") };
      const at = await serveWithin({ names: {}, port: silent }, { providers, config });
      await have(at, "acme", "home");
      await have(at, "elsewhere", "elsewhere");
      return at;
    };
    const at = await within("pr0xy-secret");
    const answer = await proxyOf(at.data);
    expect([answer.status, Buffer.from(answer.body).toString()]).toEqual([200, "the-key"]);
    expect(asked).toEqual(["api.example.test:443"]);
    // Who answers behind the proxy is not who was asked for: the certificate says so.
    expect(await proxyOf(at.data, { accountId: "elsewhere" }).catch(refusal)).toBe(
      "PROVIDER_UNAVAILABLE tls_certificate_invalid",
    );
    expect(at.news()).toEqual(Array(2).fill(`dialled 127.0.0.1:${proxyPort}`));
    const wrong = await within("wrong");
    expect(await proxyOf(wrong.data).catch(refusal)).toBe("PROVIDER_UNAVAILABLE proxy_auth_required");
    expect(wrong.log() + at.log()).not.toMatch(/pr0xy-secret|the-key/);
    expect(visits()).toBe(0);
  }, 60_000);
});
