import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve, sep } from "node:path";
import { describe, expect, it } from "vitest";

const root = join(import.meta.dirname, "..");
const src = join(root, "src");

const SHARED = ["tokens", "errors.ts", "clock.ts", "suggest.ts"];
const SEE_GEN = ["rpc", "store", "cli"];
/** Which rooms a package from npm may be imported in. Packages not named here may be imported nowhere. */
const PACKAGES: Readonly<Record<string, readonly string[]>> = {
  "@grpc/grpc-js": ["rpc", "cli"],
  "@connectrpc/connect": ["rpc"],
  "@connectrpc/connect-node": ["rpc"],
  "@bufbuild/protobuf": ["rpc", "store", "cli"],
  etcd3: ["store/etcd"],
  undici: ["egress"],
  "node-vault": ["seal"],
  jsonata: ["providers"],
  re2js: ["providers"],
  yaml: ["providers", "config"],
  zod: ["providers", "config", "cli"],
  "csv-parse": ["cli"],
};

interface Import {
  readonly file: string;
  /** The folder under src, or the file's name when it lies in src itself. */
  readonly room: string;
  readonly specifier: string;
}

function filesUnder(folder: string): readonly string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => join(folder, name));
}

function roomOf(path: string): string {
  return relative(src, path).split(sep)[0] ?? "";
}

const sources = filesUnder(src).filter((path) => roomOf(path) !== "gen");

const imports: readonly Import[] = sources.flatMap((file) => {
  const text = readFileSync(file, "utf8");
  const found = text.matchAll(/(?:\sfrom\s+|\bimport(?:\s+|\s*\(\s*))"([^"]+)"/g);
  return [...found].map(([, specifier = ""]) => ({
    file: relative(root, file),
    room: roomOf(file),
    specifier,
  }));
});

/** A file in src itself composes the rooms; everything else is a room. */
const inRooms = imports.filter(({ room }) => !room.endsWith(".ts"));

function faultOf({ file, room, specifier }: Import): string | undefined {
  if (specifier.startsWith("node:"))
    return room === "tokens" && /^node:(fs|net|http|child)/.test(specifier)
      ? `${file}: tokens does no I/O (${specifier})`
      : undefined;
  if (specifier.startsWith(".")) {
    const other = roomOf(resolve(root, dirname(file), specifier));
    if (other === room || SHARED.includes(other)) return undefined;
    if (other === "gen" && SEE_GEN.includes(room)) return undefined;
    return `${file}: ${room} imports ${specifier}; a room imports only tokens, errors and clock`;
  }
  const name = specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/");
  const folder = dirname(relative("src", file));
  return PACKAGES[name]?.some((allowed) => allowed === room || folder.startsWith(allowed))
    ? undefined
    : `${file}: ${room} imports ${name}; allowed in ${PACKAGES[name]?.join(", ") ?? "no room"}`;
}

/** The company that publishes gRPC's error details is also a provider. */
function withoutPackageNames(text: string): string {
  return text.replaceAll(/google[./](rpc|protobuf)/g, "");
}

describe("the walls between rooms", () => {
  it("are crossed by no import", () => {
    expect(imports.length).toBeGreaterThan(200);
    expect(inRooms.map(faultOf).filter((fault) => fault !== undefined)).toEqual([]);
  });

  it("keep the heart free of every package", () => {
    const foreign = imports.filter(
      ({ room, specifier }) =>
        room === "tokens" && !specifier.startsWith(".") && !specifier.startsWith("node:"),
    );
    expect(foreign).toEqual([]);
  });
});

describe("the tree", () => {
  it("has no other folders at its top than those agreed on", () => {
    const folders = readdirSync(root, { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && !entry.name.startsWith("."))
      .map((entry) => entry.name);
    const allowed = ["proto", "src", "providers", "deploy", "test", "node_modules", "dist"];
    expect(folders.filter((name) => !allowed.includes(name))).toEqual([]);
  });

  it("names no provider in its code", () => {
    const names = readdirSync(join(root, "providers"))
      .filter((name) => name.endsWith(".yaml") && name !== "simulator.yaml")
      .map((name) => name.slice(0, -".yaml".length));
    const word = new RegExp(`\\b(${names.join("|")})\\b`, "i");
    const named = sources.filter(
      (file) => roomOf(file) !== "simulator" && word.test(withoutPackageNames(readFileSync(file, "utf8"))),
    );
    expect(named.map((file) => relative(root, file))).toEqual([]);
  });
});
