import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { describe, expect, it, onTestFinished } from "vitest";
import { cli } from "../../src/cli/cli.ts";
import { OAuthClientService } from "../../src/gen/keyturn/v1/oauth_client_service_pb.js";
import { scene } from "../e2e/harness.ts";
import { tempFolder } from "../fakes/temp-folder.ts";
import { roomsWith, run } from "./run.ts";

const PROVIDERS = join(import.meta.dirname, "../e2e/providers");

/** A sidecar, a provider, and a terminal in which `keyturn connect` runs. */
async function terminal(flags: Record<string, string> = {}) {
  const here = await scene({ flags });
  onTestFinished(() => here.stop());
  const sockets = { data: here.targets.data.slice(5), admin: here.targets.admin.slice(5) };
  const fields = ["--field", `port=${here.simulator.port}`];
  const connect = (args: readonly string[], env: Record<string, string> = {}) => {
    const written = { stdout: "", stderr: "" };
    const outlet = (name: "stdout" | "stderr") => ({ write: (text: string) => (written[name] += text) });
    const stdin = new PassThrough();
    const stop = new AbortController();
    const io = { stdout: outlet("stdout"), stderr: outlet("stderr"), stdin, env, signal: stop.signal };
    const exited = cli(["connect", ...args, ...fields], io, roomsWith(sockets));
    const address = async () => {
      await expect.poll(() => written.stderr, { timeout: 10_000 }).toMatch(/http:\S+authorize/);
      return /http:\S+authorize\S+/.exec(written.stderr)?.[0] ?? "";
    };
    return { written, stdin, stop, exited, address };
  };
  return { ...here, sockets, connect, fields };
}

async function redirectOf(address: string): Promise<string> {
  return (await fetch(address, { redirect: "manual" })).headers.get("location") ?? "";
}

const SIMULATOR = ["simulator", "--client", "main", "--account", "acme"];

describe("keyturn connect", () => {
  it("opens the browser that there is at an address that gives nothing away", async () => {
    const { connect } = await terminal();
    const folder = tempFolder();
    const browser = join(folder, "browser");
    writeFileSync(
      browser,
      `#!/bin/sh\nprintf %s "$1" > ${folder}/opened.part && mv ${folder}/opened.part ${folder}/opened\n`,
      { mode: 0o755 },
    );
    const { address, exited, written } = connect(SIMULATOR, { BROWSER: browser });
    const authorization = await address();
    await expect.poll(() => existsSync(join(folder, "opened"))).toBe(true);
    const opened = readFileSync(join(folder, "opened"), "utf8");
    expect(opened).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/$/);
    expect(await redirectOf(opened)).toBe(authorization);
    await fetch(await redirectOf(authorization));
    expect(await exited).toBe(0);
    expect(written.stdout).toContain("granted scopes   read write");
  });

  it("takes the pasted address where the provider's redirect cannot come here", async () => {
    const { connect } = await terminal();
    const paste = ["--paste", "--redirect-uri", "https://app.example/callback"];
    const { address, stdin, exited, written } = connect([...SIMULATOR, ...paste]);
    const landed = await redirectOf(await address());
    expect(landed).toMatch(/^https:\/\/app\.example\/callback\?/);
    stdin.write("\nhttps://app.example/callback\n");
    await expect.poll(() => written.stderr).toContain("That is not where this authorization ends");
    stdin.write(`${landed}\n`);
    expect(await exited).toBe(0);
    expect(written.stdout).toMatch(/^connected +acme\n/);
  });

  it("says what came of it in JSON: the address to open, then the account", async () => {
    const { connect } = await terminal();
    const { exited, written } = connect([...SIMULATOR, "--json", "--no-browser"]);
    await expect.poll(() => written.stdout, { timeout: 10_000 }).toContain("\n");
    await fetch(await redirectOf(JSON.parse(written.stdout).authorizationUrl));
    expect(await exited).toBe(0);
    const [, done = ""] = written.stdout.split("\n");
    expect(JSON.parse(done)).toMatchObject({ accountId: "acme", grantedScopes: ["read", "write"] });
    expect(written.stderr).toBe("");
  });

  it("tells browser and terminal that the customer declined, and does not mind what is not its own", async () => {
    const { connect } = await terminal();
    const { address, exited, written } = connect(SIMULATOR);
    const declined = await redirectOf(`${await address()}&prompt=deny`);
    const stranger = declined.replace(/state=[^&]+/, "state=other");
    expect((await fetch(stranger)).status).toBe(404);
    expect(await (await fetch(declined)).text()).toContain("Not connected.");
    expect(await exited).toBe(1);
    expect(written.stderr).toContain("did not authorize");
  });

  it("waits for a provider that is not asked now, and completes the same consent when it is", async () => {
    const { connect, simulator } = await terminal();
    const throttled = { kind: "rate_limit", dialect: "retry_after_seconds", endpoint: "token" } as const;
    simulator.faults.add({ ...throttled, times: 1, retryAfterMs: 3_000 });
    const [first, second] = [connect(SIMULATOR), connect([...SIMULATOR.slice(0, -1), "other"])];
    const redirect = await redirectOf(await second.address());
    await fetch(await redirectOf(await first.address()));
    expect(await first.exited).toBe(4);
    const page = fetch(redirect);
    expect(await second.exited).toBe(0);
    expect(second.written.stderr).toMatch(/throttles this OAuth client\. Trying again in [1-3] s/);
    expect(await (await page).text()).toContain("Connected.");
  });

  it("says how to give the field that is missing, and what it is", async () => {
    const { sockets } = await terminal();
    const { exit, stderr } = await run(["connect", ...SIMULATOR, "--no-browser"], { sockets });
    expect(exit).toBe(2);
    expect(stderr).toContain("next: Give it as --field NAME=VALUE; which there are");
    expect(stderr).toContain("fields.port: this provider needs it");
  });

  it("says where the provider has to redirect to when its address cannot tell it", async () => {
    const { connect, admin } = await terminal({ "providers.directories": PROVIDERS });
    const client = { provider: "app-install", name: "main", clientId: "app", clientSecret: "app-secret" };
    await admin.call(OAuthClientService.method.putClient, client);
    const { written, exited, stop } = connect(["app-install", "--client", "main", "--account", "acme"]);
    await expect.poll(() => written.stderr, { timeout: 10_000 }).toMatch(/Waiting until/);
    expect(written.stderr).toMatch(/has to redirect to http:\/\/127\.0\.0\.1:\d+\/callback:/);
    stop.abort();
    expect(await exited).toBe(130);
  });

  it("gives up on Ctrl-C", async () => {
    const { connect } = await terminal();
    const { address, exited, stop } = connect(SIMULATOR);
    await address();
    stop.abort();
    expect(await exited).toBe(130);
  });

  it("stores a key that the provider accepts, and says when it does not", async () => {
    const { sockets, fields } = await terminal({ "providers.directories": PROVIDERS });
    const args = ["connect", "sim-key", "--account", "hr", "--api-key-file", "-", ...fields];
    const refused = await run(args, { sockets, stdin: "wrong-key" });
    expect([refused.exit, refused.stderr]).toEqual([
      1,
      expect.stringContaining("does not accept this secret"),
    ]);
    const accepted = await run(args, { sockets, stdin: "demo-api-key\n" });
    expect([accepted.exit, accepted.stdout]).toEqual([
      0,
      expect.stringContaining("the provider accepted it"),
    ]);
    const keyFile = join(tempFolder(), "key");
    writeFileSync(keyFile, "demo-api-key\n");
    const named = ["connect", "sim-key", "--account", "hr", "--secret-file", `api_key=${keyFile}`];
    expect((await run([...named, ...fields], { sockets })).exit).toBe(0);
    const gone = await run(["disconnect", "hr"], { sockets });
    expect([gone.exit, gone.stdout]).toEqual([1, expect.stringContaining("may live on there")]);
  });

  it.each([
    [["--paste"], "--redirect-uri: is needed with --paste"],
    [["--redirect-uri", "https://app.example/callback"], "or --paste for any other address"],
  ])("with %j says what is missing", async (more, message) => {
    const { exit, stderr } = await run(["connect", ...SIMULATOR, ...more]);
    expect([exit, stderr]).toEqual([2, expect.stringContaining(message)]);
  });
});
