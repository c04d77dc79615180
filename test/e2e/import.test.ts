import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AccountService } from "../../src/gen/keyturn/v1/account_service_pb.js";
import { OAuthClientService } from "../../src/gen/keyturn/v1/oauth_client_service_pb.js";
import { run } from "../cli/run.ts";
import { reasonOf, type Scene, scene } from "./harness.ts";

let at: Scene;
beforeAll(async () => {
  at = await scene();
});
afterAll(() => at.stop());

let files = 0;

function fileOf(name: string, text: string): string {
  files += 1;
  const path = join(at.stateDir, `${files}-${name}`);
  writeFileSync(path, text);
  return path;
}

function line(id: string, more: Readonly<Record<string, unknown>> = {}): string {
  return JSON.stringify({
    account_id: id,
    provider: "simulator",
    client: "main",
    fields: { port: String(at.simulator.port) },
    credential: {
      oauth: { refresh_token: `rt-${id}`, expires_at: "2099-01-01T00:00:00Z", access_token: "at" },
    },
    ...more,
  });
}

const lines = (...all: readonly string[]) => `${all.join("\n")}\n`;

async function importing(args: readonly string[], more: { stdin?: string; signal?: AbortSignal } = {}) {
  const sockets = { data: join(at.stateDir, "data.sock"), admin: join(at.stateDir, "admin.sock") };
  const ran = await run(["accounts", "import", "--json", ...args], { sockets, ...more });
  type Result = {
    readonly line: number;
    readonly account_id: string;
    readonly outcome: string;
    readonly reason: string;
    readonly message: string;
  };
  return { ...ran, results: ran.json() as readonly Result[] };
}

const outcomes = (results: readonly { readonly line: number; readonly outcome: string }[]) =>
  results.map((result) => `${result.line} ${result.outcome}`);

describe("accounts import", () => {
  it("stores every line of a file, and finds it unchanged the next time, even after its token was refreshed", async () => {
    const grant = at.simulator.issueGrant({ clientId: "demo-client", subject: "n1", expired: true });
    const credential = { oauth: { access_token: grant.accessToken, refresh_token: grant.refreshToken } };
    const file = fileOf(
      "a.ndjson",
      lines(line("n1", { credential }), "", line("n2", { labels: { team: "crm" } })),
    );
    const first = await importing([file]);
    expect([first.exit, outcomes(first.results)]).toEqual([0, ["1 created", "3 created"]]);
    await at.admin.call(AccountService.method.refreshAccount, { accountId: "n1" });
    const again = await importing([file]);
    expect([again.exit, outcomes(again.results)]).toEqual([0, ["1 unchanged", "3 unchanged"]]);
    const { account } = await at.admin.call(AccountService.method.getAccount, { accountId: "n1" });
    expect(account?.slots[0]?.generation).toBe(2n);
  });

  it("takes several tokens of one account, and says which secret a provider does not mint from", async () => {
    const client = { provider: "slack", name: "main", clientId: "app", clientSecret: "secret" };
    await at.admin.call(OAuthClientService.method.putClient, client);
    const token = (refresh_token: string) => ({
      oauth: { refresh_token, expires_at: "2099-01-01T00:00:00Z" },
    });
    const slack = { provider: "slack", fields: {}, credential: undefined };
    const text = lines(
      line("s1", { ...slack, tokens: { bot: token("xoxe-bot"), user: token("xoxe-user") } }),
      line("s2", { ...slack, tokens: { admin: token("xoxe-admin") } }),
      line("s3", { credential: { secrets: { private_key: "planted-key" } } }),
    );
    const dry = await importing([fileOf("t.ndjson", text), "--dry-run"]);
    const ran = await importing([fileOf("t.ndjson", text)]);
    for (const { results } of [dry, ran]) {
      expect(results.slice(1).map(({ reason }) => reason)).toEqual(["INVALID_REQUEST", "INVALID_REQUEST"]);
      expect(results[1]?.message).toContain("one of bot, user");
      expect(JSON.stringify(results)).not.toContain("planted-key");
    }
    expect(ran.results[0]?.outcome).toBe("created");
    const { account } = await at.admin.call(AccountService.method.getAccount, { accountId: "s1" });
    expect(account?.slots.map(({ name }) => name).sort()).toEqual(["bot", "user"]);
  });

  it("says of each line by its number what is wrong with it, stores the others, and ends with 1", async () => {
    const file = fileOf(
      "b.ndjson",
      lines(
        line("f1"),
        "{ not json",
        line("f3", { client: "nobody" }),
        line("f4", { provider: "nobody", client: "" }),
        line("-bad"),
        line("f1", { tenant: "another" }),
        line("f7", { credential: {} }),
        line("f8", { credential: { oauth: { refresh_token: "r", expires_at: 1_767_225_600_000 } } }),
        line("f9"),
      ),
    );
    const { exit, results } = await importing([file]);
    expect(exit).toBe(1);
    expect(results.map((result) => `${result.line} ${result.outcome} ${result.reason}`)).toEqual([
      "1 created ",
      "2 failed INVALID_REQUEST",
      "3 failed CLIENT_NOT_FOUND",
      "4 failed PROVIDER_NOT_FOUND",
      "5 failed INVALID_REQUEST",
      "6 failed ACCOUNT_ALREADY_EXISTS",
      "7 failed INVALID_REQUEST",
      "8 failed INVALID_REQUEST",
      "9 created ",
    ]);
    expect(results[7]?.message).toContain("credential.oauth.expires_at");
  });

  it("never shows what a line holds, whatever is wrong with it", async () => {
    const secret = "TOP-SECRET-VALUE";
    const wrong = [
      `{"account_id":"s1","credential":"${secret}"`,
      `["${secret}"]`,
      line("s3", { credential: { oauth: { refresh_token: [secret] } } }),
      line("s4", { credential: { oauth: { refresh_token: "r", expires_at: secret } } }),
      line("s5", { credential: { oauth: { refresh_token: "r", [secret]: 1 } } }),
      line("s6", { credential: { api_key: { api_key: secret, extra: { [secret]: 5 } } } }),
      line("s7", { credential: { basic: { password: secret } } }),
      line(secret.toLowerCase().padEnd(200, "x"), { provider: secret }),
    ];
    for (const [name, text] of [
      ["s.ndjson", lines(...wrong)],
      ["s.csv", `account_id,refresh_token\ns1,"${secret}\n`],
      ["t.csv", `account_id,${secret.toLowerCase()}\ns1,x\n`],
      ["u.csv", `account_id,refresh_token,expires_at\ns1,${secret},${secret}\ns2,${secret},,${secret}\n`],
      ["v.ndjson", secret.repeat(100_000)],
    ] as const) {
      const { exit, stdout, stderr } = await importing([fileOf(name, text)]);
      expect(exit, name).not.toBe(0);
      expect((stdout + stderr).toLowerCase(), name).not.toContain(secret.toLowerCase());
    }
    expect(at.logs.join("\n")).not.toContain(secret);
  });

  it("reads CSV, and counts the line breaks inside of cells", async () => {
    const head =
      "account_id,provider,client,display_name,refresh_token,expires_at,scopes,label.team,field.port";
    const file = fileOf(
      "c.csv",
      `\uFEFF${head}\r\nc1,simulator,main,"Acme\r\nInc.",rt-c1,1767225600,"a b",crm,10\r\n\r\nc2,simulator,main,,rt-c2,,,,10\r\nc3,simulator\r\n`,
    );
    const { exit, results } = await importing([file]);
    expect([exit, outcomes(results)]).toEqual([1, ["2 created", "5 created", "6 failed"]]);
    const { account } = await at.admin.call(AccountService.method.getAccount, { accountId: "c1" });
    expect(account).toMatchObject({
      displayName: "Acme\r\nInc.",
      labels: { team: "crm" },
      fields: { port: "10" },
    });
    expect(account?.slots[0]?.scopes).toEqual(["a", "b"]);
  });

  it("stores nothing on a dry run, and says what it would do", async () => {
    const file = fileOf("d.ndjson", lines(line("d1"), line("d2", { client: "nobody" })));
    const { exit, results } = await importing([file, "--dry-run"]);
    expect([exit, outcomes(results)]).toEqual([1, ["1 created", "2 failed"]]);
    const missing = at.admin.call(AccountService.method.getAccount, { accountId: "d1" });
    expect(await missing.then(() => "", reasonOf)).toBe("ACCOUNT_NOT_FOUND");
  });

  it("goes on where a stopped import was, sending nothing twice", async () => {
    const count = 1_500;
    const all = Array.from({ length: count }, (_, n) => line(`r${n}`));
    const file = fileOf("r.ndjson", lines(...all));
    const stop = new AbortController();
    const stopping = importing([file], { signal: stop.signal });
    // A mark is written once a second.
    while (!existsSync(`${file}.import-mark`)) await new Promise((resolve) => setTimeout(resolve, 20));
    stop.abort();
    const first = await stopping;
    expect(first.exit).toBe(130);
    const second = await importing([file, "--resume"]);
    expect(second.exit).toBe(0);
    expect(second.results[0]?.line).toBe(first.results.length + 1);
    expect(second.results.at(-1)?.line).toBe(count);
    expect(existsSync(`${file}.import-mark`)).toBe(false);
  });

  it("refuses to resume a file that has changed", async () => {
    const file = fileOf("x.ndjson", lines(line("x1"), line("x2"), line("x3")));
    writeFileSync(`${file}.import-mark`, JSON.stringify({ version: 1, line: 2, sha256: "0".repeat(64) }));
    const { exit, results, stderr } = await importing([file, "--resume"]);
    expect([exit, results]).toEqual([2, []]);
    expect(stderr).toContain("has changed up to line 2");
    rmSync(`${file}.import-mark`);
  });

  it("takes stdin, and says that it cannot be resumed", async () => {
    const { exit, results } = await importing(["-", "--format", "ndjson"], { stdin: lines(line("i1")) });
    expect([exit, outcomes(results)]).toEqual([0, ["1 created"]]);
    expect((await importing(["-", "--format", "ndjson", "--resume"])).exit).toBe(2);
  });

  it("writes one audit record of how it ended, with its counts", async () => {
    await importing([fileOf("audit.ndjson", lines(line("au1"), line("au2", { client: "nobody" })))]);
    await expect
      .poll(() =>
        readTrail()
          .filter((record) => record.operation === "AccountService/ImportAccounts")
          .at(-1),
      )
      .toMatchObject({ outcome: "ok", detail: { created: "1", unchanged: "0", failed: "1" } });
  });
});

function readTrail(): readonly { readonly operation: string }[] {
  const folder = join(at.stateDir, "audit");
  const text = readdirSync(folder)
    .sort()
    .map((name) => readFileSync(join(folder, name), "utf8"))
    .join("");
  return text
    .trimEnd()
    .split("\n")
    .map((text) => JSON.parse(text));
}

it("publishes the JSON Schema of a line as the command prints it", async () => {
  const path = join(import.meta.dirname, "../../proto/keyturn/v1/import-line.schema.json");
  const { stdout } = await run(["accounts", "import", "--schema"]);
  expect(readFileSync(path, "utf8")).toBe(stdout);
});
