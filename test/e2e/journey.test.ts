import { execFile, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, it, onTestFinished } from "vitest";
import { startBrowser } from "../clients/browser.ts";
import { goPrograms, python, pythonStubs } from "../clients/toolchains.ts";
import { tempFolder } from "../fakes/temp-folder.ts";
import { serve } from "./serving-process.ts";

const MAIN = join(import.meta.dirname, "../../src/main.ts");
const CLIENTS = join(import.meta.dirname, "../clients");
const exec = promisify(execFile);

/** A command of ours, running; killed with the test. */
function keyturn(args: readonly string[], input = "") {
  const child = spawn(process.execPath, [MAIN, ...args], { env: { PATH: process.env.PATH } });
  onTestFinished(() => void child.kill("SIGKILL"));
  const said = { out: "", err: "" };
  child.stdout.on("data", (chunk) => (said.out += chunk));
  child.stderr.on("data", (chunk) => (said.err += chunk));
  child.stdin.end(input);
  const exited = new Promise<number | null>((resolve) => child.once("close", resolve));
  const until = async (where: "out" | "err", pattern: RegExp) => {
    await expect.poll(() => said[where], { timeout: 20_000, interval: 20 }).toMatch(pattern);
    return pattern.exec(said[where])?.[1] ?? "";
  };
  return { said, exited, until, write: (text: string) => child.stdin.write(text) };
}

it("connects a customer in a browser, whose token a Python and a Go program get", {
  timeout: 300_000,
}, async () => {
  const stateDir = tempFolder();
  const [interpreter, stubs, program] = [
    await python(),
    await pythonStubs(),
    await goPrograms({ "get-token": readFileSync(join(CLIENTS, "get_token.go"), "utf8") }),
  ];
  const vendor = await keyturn(["simulate", "--port", "0"]).until("out", /(http:\S+)/);
  await serve({ stateDir });
  const [data, admin] = ["s-data.sock", "s-admin.sock"].map((name) => join(stateDir, name));
  const client = ["clients", "put", "simulator", "main", "--client-id", "demo-client"];
  const secret = ["--client-secret-file", "-", "--socket", admin ?? ""];
  expect(await keyturn([...client, ...secret], "demo-secret").exited).toBe(0);

  const account = ["--client", "main", "--account", "acme", "--field", `port=${new URL(vendor).port}`];
  const connecting = keyturn(["connect", "simulator", ...account, "--socket", data ?? ""]);
  const address = await connecting.until("err", /(http:\S+oauth\/authorize\S+)/);
  const page = await (await startBrowser()).newPage();
  await page.goto(address);
  await page.$eval("input[name=login_hint]", (input) => ((input as { value: string }).value = "alice"));
  await Promise.all([page.waitForNavigation(), page.click("button[value=allow]")]);
  expect(await page.$eval("body", (body) => body.textContent)).toContain("Connected.");
  expect(await connecting.exited).toBe(0);
  expect(connecting.said.out).toMatch(/connected +acme\n.*at the provider +alice\n/);
  expect(connecting.said.out).toMatch(/expires .*\(in 59 min.*\)\ngranted scopes +read write/);

  const target = `unix:${data}`;
  const env = { ...process.env, PYTHONPATH: stubs };
  const inPython = await exec(interpreter, [join(CLIENTS, "get_token.py"), target, "acme"], { env });
  const inGo = await exec(program("get-token"), [target, "acme"]);
  expect(inGo.stdout).toBe(inPython.stdout);
  const headers = { authorization: `Bearer ${inGo.stdout.trim()}` };
  const me = await fetch(`${vendor}/api/me`, { headers });
  expect(await me.json()).toMatchObject({ subject: "alice" });
});
