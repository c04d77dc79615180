import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { kept } from "../backends/cache.ts";

const ROOT = join(import.meta.dirname, "../..");
const PROTOS = join(ROOT, "proto/keyturn/v1");

/** What an app in Python is built with. */
const GRPCIO = "1.76.0";
/** What an app in Go is built with. */
const GO_GRPC = "v1.76.0";
const GO_PROTOBUF = "v1.36.10";
const PROTOC_GEN_GO_GRPC = "v1.5.1";

/** A Python interpreter with gRPC; the error says what to install. */
export async function python(): Promise<string> {
  const folder = await needing("Python 3 with venv and pip (python3-venv), and PyPI in reach", () =>
    kept(`python-grpcio-${GRPCIO}`, (place) => {
      run("python3", ["-m", "venv", place]);
      const packages = [`grpcio==${GRPCIO}`, `grpcio-tools==${GRPCIO}`];
      run(join(place, "bin/python"), ["-m", "pip", "install", "--quiet", ...packages]);
    }),
  );
  return join(folder, "bin/python");
}

/** The folder of `keyturn/v1/…_pb2.py`, for PYTHONPATH. */
export async function pythonStubs(): Promise<string> {
  const interpreter = await python();
  return kept(`python-stubs-${GRPCIO}-${hashOf(protoTexts())}`, (place) => {
    const outputs = [`--python_out=${place}`, `--grpc_python_out=${place}`];
    const files = protoNames().map((name) => join("keyturn/v1", name));
    run(interpreter, ["-m", "grpc_tools.protoc", `-I${join(ROOT, "proto")}`, ...outputs, ...files]);
  });
}

/** Go's protobuf plugins, and a module that names gRPC; the error says what to install. */
export async function goTools(): Promise<string> {
  return needing("Go 1.24 or newer, and its module proxy in reach", () =>
    kept(`go-grpc-${GO_GRPC}-${GO_PROTOBUF}-${PROTOC_GEN_GO_GRPC}`, (place) => {
      const env = goEnv({ GOBIN: place });
      run("go", ["install", `google.golang.org/protobuf/cmd/protoc-gen-go@${GO_PROTOBUF}`], { env });
      const plugin = `google.golang.org/grpc/cmd/protoc-gen-go-grpc@${PROTOC_GEN_GO_GRPC}`;
      run("go", ["install", plugin], { env });
    }),
  );
}

/** Builds Go programs against stubs of our protos: the paths of the binaries, by the programs' names. */
export async function goPrograms(
  sources: Readonly<Record<string, string>>,
): Promise<(name: string) => string> {
  const tools = await goTools();
  const key = hashOf([...protoTexts(), JSON.stringify(sources), GO_GRPC, GO_PROTOBUF]);
  const folder = await kept(`go-clients-${key}`, (place) => {
    const module = join(place, "module");
    mkdirSync(module);
    const env = goEnv({ PATH: `${tools}${delimiter}${process.env.PATH ?? ""}` });
    const go = (...args: string[]) => run("go", args, { cwd: module, env });
    go("mod", "init", "keyturn.dev");
    go("get", `google.golang.org/grpc@${GO_GRPC}`, `google.golang.org/protobuf@${GO_PROTOBUF}`);
    const plugins = ["protoc-gen-go", "protoc-gen-go-grpc"].map(
      (local) => `{"local":"${local}","out":${JSON.stringify(module)},"opt":["module=keyturn.dev"]}`,
    );
    const template = `{"version":"v2","plugins":[${plugins.join(",")}]}`;
    run("buf", ["generate", "proto", "--template", template, "--path", "proto/keyturn/v1"], {
      cwd: ROOT,
      env: { ...env, PATH: `${join(ROOT, "node_modules/.bin")}${delimiter}${env.PATH ?? ""}` },
    });
    for (const [name, source] of Object.entries(sources)) {
      mkdirSync(join(module, name));
      writeFileSync(join(module, name, "main.go"), source);
      go("build", "-o", join(place, name), `./${name}`);
    }
    rmSync(module, { recursive: true });
  });
  return (name) => join(folder, name);
}

function goEnv(more: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return { ...process.env, CGO_ENABLED: "0", GOFLAGS: "-mod=mod", ...more };
}

function protoNames(): readonly string[] {
  return readdirSync(PROTOS)
    .filter((name) => name.endsWith(".proto"))
    .sort();
}

function protoTexts(): readonly string[] {
  return protoNames().map((name) => readFileSync(join(PROTOS, name), "utf8"));
}

function hashOf(texts: readonly string[]): string {
  const hash = createHash("sha256");
  for (const text of texts) hash.update(text).update("\0");
  return hash.digest("hex").slice(0, 16);
}

async function needing<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new Error(`This test needs ${what}. (${why.split("\n").slice(0, 3).join(" ")})`);
  }
}

function run(
  command: string,
  args: readonly string[],
  options: { readonly cwd?: string; readonly env?: NodeJS.ProcessEnv } = {},
): void {
  execFileSync(command, [...args], { ...options, stdio: ["ignore", "pipe", "pipe"] });
}
