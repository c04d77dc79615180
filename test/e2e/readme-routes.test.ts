import { spawn } from "node:child_process";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { freePort } from "../backends/ports.ts";
import { goPrograms, python, pythonStubs } from "../clients/toolchains.ts";
import { tempFolder } from "../fakes/temp-folder.ts";
import { scene } from "./harness.ts";

const ROOT = join(import.meta.dirname, "../..");
const SOCKET = "/run/keyturn/data/keyturn.sock";

/** The README's one block of code in a language. */
function blockOf(language: string): string {
  const readme = readFileSync(join(ROOT, "README.md"), "utf8");
  return new RegExp(`\`\`\`${language}\\n(.*?)\`\`\``, "s").exec(readme)?.[1] ?? "";
}

/** Where the README's programs find what they name. */
interface Place {
  readonly socket: string;
  readonly vendorPort: string;
  readonly appPort: string;
}

function placed(source: string, { socket, vendorPort, appPort }: Place): string {
  return source.replaceAll(SOCKET, socket).replaceAll("8090", vendorPort).replaceAll("8000", appPort);
}

/** Told by the environment, so that the same program, once built, is good for the next run. */
function placedByEnvironment(source: string): string {
  return source
    .replace("import (\n", 'import (\n\t"os"\n')
    .replaceAll(`"unix://${SOCKET}"`, '"unix://" + os.Getenv("SOCKET")')
    .replaceAll('"8090"', 'os.Getenv("VENDOR_PORT")')
    .replaceAll('"http://127.0.0.1:8000/', '"http://127.0.0.1:" + os.Getenv("APP_PORT") + "/')
    .replaceAll('"127.0.0.1:8000"', '"127.0.0.1:" + os.Getenv("APP_PORT")');
}

interface Running {
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
}

const starters: Readonly<Record<string, (source: string, place: Place) => Promise<Running>>> = {
  python: async (source, place) => {
    const path = join(tempFolder(), "app.py");
    writeFileSync(path, placed(source, place));
    return { command: await python(), args: [path], env: { PYTHONPATH: await pythonStubs() } };
  },
  go: async (source, { socket, vendorPort, appPort }) => {
    const program = await goPrograms({ app: placedByEnvironment(source) });
    return {
      command: program("app"),
      args: [],
      env: { SOCKET: socket, VENDOR_PORT: vendorPort, APP_PORT: appPort },
    };
  },
  js: async (source, place) => {
    const folder = tempFolder();
    mkdirSync(join(folder, "app"));
    symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
    symlinkSync(join(ROOT, "src/gen"), join(folder, "app/gen"));
    writeFileSync(join(folder, "app/package.json"), '{"type":"module"}');
    writeFileSync(join(folder, "app/app.js"), placed(source, place));
    // The stubs are looked up where they seem to be, beside the packages that they import.
    return { command: process.execPath, args: ["--preserve-symlinks", join(folder, "app/app.js")] };
  },
};

it.each(["python", "go", "js"])(
  "the README's routes in %s connect a customer",
  { timeout: 240_000 },
  async (language) => {
    const here = await scene();
    onTestFinished(() => here.stop());
    const port = await freePort();
    const socket = here.targets.data.replace("unix:", "");
    const place = { socket, vendorPort: String(here.simulator.port), appPort: String(port) };
    const starter = starters[language];
    if (starter === undefined) throw new Error(`no way to run ${language}`);
    const { command, args, env } = await starter(blockOf(language), place);
    const app = spawn(command, [...args], {
      env: { PATH: process.env.PATH, ...env },
      stdio: ["ignore", "ignore", "pipe"],
    });
    onTestFinished(() => void app.kill("SIGKILL"));
    let said = "";
    app.stderr.on("data", (chunk) => (said += chunk));
    const url = `http://127.0.0.1:${port}`;
    const begin = () => fetch(`${url}/connect`, { redirect: "manual" }).catch(() => undefined);
    await expect.poll(async () => (await begin())?.status ?? said, { timeout: 20_000 }).toBe(303);

    const started = await begin();
    const cookie = started?.headers.get("set-cookie")?.split(";")[0] ?? "";
    const vendor = await fetch(started?.headers.get("location") ?? "", { redirect: "manual" });
    const callback = vendor.headers.get("location") ?? "";
    expect(callback).toMatch(new RegExp(`^${url}/callback\\?`));
    expect((await fetch(callback, { headers: { cookie } })).status).toBe(204);
    const { accessToken } = await here.data.call(CredentialService.method.getToken, { accountId: "acme" });
    expect(accessToken).not.toBe("");
  },
);
