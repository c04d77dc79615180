import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AccountService } from "../../src/gen/keyturn/v1/account_service_pb.js";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { OAuthClientService } from "../../src/gen/keyturn/v1/oauth_client_service_pb.js";
import { type CannedSidecar, cannedSidecar } from "./canned-sidecar.ts";
import { ACME, after } from "./fixtures.ts";
import { type RunOptions, run } from "./run.ts";

const SECRET = "s3cr3t-value-0123456789";
let sidecar: CannedSidecar;
let file: string;
beforeAll(async () => {
  sidecar = await cannedSidecar();
  file = join(sidecar.directory, "secret.txt");
  writeFileSync(file, `${SECRET}\n`);
  sidecar.answer(AccountService.method.createAccount, { account: ACME });
  sidecar.answer(AccountService.method.putCredential, { account: ACME });
  sidecar.answer(OAuthClientService.method.putClient, {
    client: { provider: "salesforce", name: "default" },
  });
});
afterAll(() => sidecar.stop());

const keyturn = (words: readonly string[], options: RunOptions = {}) =>
  run(words, { sockets: sidecar.sockets, ...options });
const CREATE = ["accounts", "create", "acme", "--provider", "salesforce"];

describe("a credential", () => {
  it("comes from files, without the line break at the end", async () => {
    const ran = await keyturn([
      ...CREATE,
      "--refresh-token-file",
      file,
      "--scope",
      "api",
      "--expires-in",
      "1h",
    ]);
    expect(ran.exit).toBe(0);
    expect(sidecar.seen.at(-1)?.request).toMatchObject({
      accountId: "acme",
      credential: {
        kind: {
          case: "oauth",
          value: { refreshToken: SECRET, accessToken: "", scopes: ["api"], expireTime: after(3_600) },
        },
      },
    });
    expect(ran.stdout + ran.stderr).not.toContain(SECRET);
  });

  it("comes from stdin for a dash", async () => {
    await keyturn(["accounts", "put-credential", "acme", "--api-key-file", "-"], { stdin: `${SECRET}\r\n` });
    expect(sidecar.seen.at(-1)?.request).toMatchObject({
      credential: { kind: { case: "apiKey", value: { apiKey: SECRET } } },
    });
  });

  it("comes whole as JSON", async () => {
    const stdin = JSON.stringify({
      basic: { username: "u", password: SECRET },
      expireTime: "2027-01-01T00:00:00Z",
    });
    await keyturn([...CREATE, "--credential-file", "-"], { stdin });
    expect(sidecar.seen.at(-1)?.request).toMatchObject({
      credential: { kind: { case: "basic", value: { username: "u", password: SECRET } } },
    });
  });

  it.each([
    [
      "a user name with no password",
      ["--username-file", "FILE"],
      { case: "basic", value: { username: SECRET, password: "" } },
    ],
    ["a fixed token", ["--bearer-token-file", "FILE"], { case: "bearer", value: { token: SECRET } }],
    ["a client that mints its own", ["--client-credentials"], { case: "clientCredentials" }],
  ])("can be %s", async (_, options, kind) => {
    await keyturn([...CREATE, ...options.map((word) => (word === "FILE" ? file : word))]);
    expect(sidecar.seen.at(-1)?.request).toMatchObject({ credential: { kind } });
  });

  it("can be several secrets by name, that tokens are minted from", async () => {
    const options = ["--secret-file", `private_key=${file}`, "--secret-file", "issuer=-"];
    await keyturn([...CREATE, ...options], { stdin: "I1\n" });
    expect(sidecar.seen.at(-1)?.request).toMatchObject({
      credential: { kind: { case: "secrets", value: { values: { private_key: SECRET, issuer: "I1" } } } },
    });
    const twice = await keyturn([...CREATE, "--secret-file", "a=-", "--secret-file", "b=-"], {
      stdin: SECRET,
    });
    expect(twice.exit).toBe(2);
    expect(twice.stderr).not.toContain(SECRET);
  });

  it("can be one for each of several tokens", async () => {
    const stdin = JSON.stringify({ oauth: { refreshToken: SECRET } });
    await keyturn([...CREATE, "--token-file", "bot=-"], { stdin });
    expect(sidecar.seen.at(-1)?.request).toMatchObject({
      tokens: { bot: { kind: { case: "oauth", value: { refreshToken: SECRET } } } },
    });
  });

  it("is left out where none is given, which makes the account PENDING", async () => {
    await keyturn(CREATE);
    expect(sidecar.seen.at(-1)?.request).not.toHaveProperty("credential");
  });

  it.each([
    [["--credential-file", "-"], `{"apiKey": ${SECRET}}`],
    [["--credential-file", "-"], `{"apiKey": {"apiKey": ["${SECRET}"]}}`],
    [["--credential-file", "-"], `{"oauth": {"expireTime": "${SECRET}"}}`],
    [["--credential-file", "-"], `"${SECRET}"`],
    [["--credential-file", "-"], `{"${SECRET}": 1}`],
    [["--api-key-file", "-"], ""],
    [["--api-key-file", "-"], "x".repeat(1_048_577)],
    [["--api-key-file", "/nonexistent"], ""],
    [["--access-token-file", "-", "--refresh-token-file", "-"], SECRET],
    [["--access-token-file", "-", "--api-key-file", "-"], SECRET],
    [["--credential-file", "-", "--caller-token-file", "-"], `{"apiKey":{"apiKey":"${SECRET}"}}`],
    [["--expires-in", "1h"], ""],
  ])("is refused for %j before anything is sent, and never quoted", async (options, stdin) => {
    const before = sidecar.seen.length;
    const ran = await keyturn([...CREATE, ...options], { stdin });
    expect(ran.exit).toBe(2);
    expect(ran.stdout + ran.stderr).not.toContain(SECRET);
    expect(sidecar.seen.length).toBe(before);
  });
});

describe("what an OAuth client proves itself by", () => {
  it("comes from files or stdin, and never comes back", async () => {
    const options = ["--private-key-file", file, "--key-id", "k1", "--certificate-file", "-"];
    const words = ["clients", "put", "salesforce", "default", "--client-id", "app", ...options];
    const ran = await keyturn([...words, "--certificate-key-file", file], { stdin: "the-chain\n" });
    expect(ran.exit).toBe(0);
    expect(sidecar.seen.at(-1)?.request).toMatchObject({
      privateKey: SECRET,
      privateKeyId: "k1",
      certificate: "the-chain",
      certificateKey: SECRET,
    });
    expect(ran.stdout + ran.stderr).not.toContain(SECRET);
  });
});

describe("a secret on the command line", () => {
  it.each([
    [[...CREATE, "--access-token", SECRET]],
    [[...CREATE, `--refresh-token=${SECRET}`]],
    [["clients", "put", "salesforce", "default", "--client-secret", SECRET]],
    [["token", "acme", "--caller-token", SECRET]],
    [["--api-key", SECRET, ...CREATE]],
  ])("is refused in %j with the option that reads a file, and never repeated", async (words) => {
    const ran = await keyturn(words);
    expect(ran.exit).toBe(2);
    expect(ran.stderr).toContain("secrets never come on the command line");
    expect(ran.stderr).toMatch(/use --[a-z-]+-file PATH/);
    expect(ran.stderr).not.toContain(SECRET);
  });

  it("is not repeated as a word too many either", async () => {
    const ran = await keyturn(["accounts", "get", "acme", SECRET]);
    expect(ran.stderr).toContain("1 too many: keyturn accounts get ACCOUNT");
    expect(ran.stderr).not.toContain(SECRET);
  });
});

describe("clients put", () => {
  it("sends the secret from its file, with caps and budget", async () => {
    const words = [
      "clients",
      "put",
      "salesforce",
      "default",
      "--client-id",
      "id",
      "--client-secret-file",
      file,
    ];
    const ran = await keyturn([...words, "--max-concurrent", "4", "--budget", "100/60s"]);
    expect(ran.exit).toBe(0);
    expect(sidecar.seen.at(-1)?.request).toMatchObject({
      clientSecret: SECRET,
      caps: { maxConcurrent: 4, budget: { requests: 100, per: { seconds: 60n } } },
    });
    expect(ran.stdout + ran.stderr).not.toContain(SECRET);
  });

  it.each(["0/60s", "100", "100/0s", "x/1s"])("refuses the budget %s", async (budget) => {
    const ran = await keyturn(["clients", "put", "p", "n", "--client-id", "i", "--budget", budget]);
    expect(ran.exit).toBe(2);
  });
});

describe("token", () => {
  const answer = {
    accessToken: SECRET,
    tokenType: "Bearer",
    expireTime: after(600),
    headers: { authorization: `Bearer ${SECRET}` },
    queryParameters: { key: SECRET },
    revision: "rev-1",
  };

  it.each([[[]], [["--json"]]])("shows everything but the token with %j", async (options) => {
    sidecar.answer(CredentialService.method.getToken, answer);
    const ran = await keyturn(["token", "acme", ...options]);
    expect(ran.exit).toBe(0);
    expect(ran.stdout).toContain("rev-1");
    expect(ran.stdout + ran.stderr).not.toContain(SECRET);
  });

  it("prints the token alone with --show-token, ready for a shell's $()", async () => {
    sidecar.answer(CredentialService.method.getToken, answer);
    expect((await keyturn(["token", "acme", "--show-token"])).stdout).toBe(`${SECRET}\n`);
  });

  it("prints the header instead where there is no token", async () => {
    sidecar.answer(CredentialService.method.getToken, { headers: { authorization: "Basic dTpw" } });
    expect((await keyturn(["token", "acme", "--show-token"])).stdout).toBe("authorization: Basic dTpw\n");
  });

  it("prints the whole answer with --show-token --json", async () => {
    sidecar.answer(CredentialService.method.getToken, answer);
    expect((await keyturn(["token", "acme", "--show-token", "--json"])).json()).toMatchObject([
      {
        accessToken: SECRET,
        headers: { authorization: `Bearer ${SECRET}` },
        expireTime: "2026-11-24T08:10:00Z",
      },
    ]);
  });

  it("asks for the validity and the slot that are wanted", async () => {
    await keyturn([
      "token",
      "acme",
      "--min-validity",
      "5m",
      "--token-name",
      "bot",
      "--rejected-revision",
      "r",
    ]);
    expect(sidecar.seen.at(-1)?.request).toMatchObject({
      tokenName: "bot",
      minValidity: { seconds: 300n },
      rejectedRevision: "r",
    });
  });
});
