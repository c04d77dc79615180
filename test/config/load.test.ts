import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { parseDuration } from "../../src/config/duration.ts";
import { egressProxy } from "../../src/config/egress-proxy.ts";
import { loadConfig } from "../../src/config/load.ts";
import { checkSocketPath } from "../../src/config/paths.ts";
import { KeyturnError } from "../../src/errors.ts";

const folder = mkdtempSync(join(tmpdir(), "keyturn-config-"));
afterAll(() => rmSync(folder, { recursive: true }));

function file(text: string): string {
  const path = join(folder, "keyturn.yaml");
  writeFileSync(path, text);
  return path;
}

function faultsOf(text: string): readonly string[] {
  try {
    loadConfig({ file: file(text), env: {}, flags: {} });
  } catch (error) {
    if (error instanceof KeyturnError) return error.violations.map(({ field }) => field);
    throw error;
  }
  return [];
}

describe("the configuration", () => {
  it("has a default for everything but its version", () => {
    const config = loadConfig({ file: file("version: 1\n"), env: {}, flags: {} });
    expect(config.environment).toBe("development");
    expect(config.shutdown_grace).toBe(25_000);
    expect(config.audit.retention).toBe(400 * 86_400_000);
    expect(config.kek).toEqual({ backend: "local", acknowledge_local: false });
  });

  it("knows four ways into Vault, and wants one of them", () => {
    const kek = (...lines: string[]) =>
      [
        "version: 1",
        "kek:",
        "  backend: vault-transit",
        "  vault:",
        ...lines.map((line) => `    ${line}`),
      ].join("\n");
    const address = "address: https://vault.example:8200";
    const ways = {
      token: "token: s.PLANTED",
      token_file: "token_file: /run/token",
      approle: "approle: { role_id: r, secret_id_file: /run/secret-id }",
      kubernetes: "kubernetes: { role: keyturn }",
    };
    for (const way of Object.values(ways)) expect(faultsOf(kek(address, way))).toEqual([]);
    const { vault } = loadConfig({ file: file(kek(address, ways.kubernetes)), env: {}, flags: {} }).kek;
    expect(vault).toMatchObject({
      mount: "transit",
      key: "keyturn",
      kubernetes: { mount: "kubernetes", token_file: "/var/run/secrets/kubernetes.io/serviceaccount/token" },
    });
    expect(faultsOf(kek(address))).toEqual(["kek.vault.token_file"]);
    expect(faultsOf(kek(address, ways.token, ways.token_file))).toEqual(["kek.vault.token_file"]);
    expect(faultsOf(kek(address, "approle: { role_id: r }"))).toEqual(["kek.vault.approle"]);
    expect(faultsOf("version: 1\nkek: { backend: vault-transit }")).toEqual(["kek.vault"]);
    for (const wrong of ["address: vault:8200", "address: https://vault/v1", "address: https://u:p@vault"]) {
      expect(faultsOf(kek(wrong, ways.token))).toEqual(["kek.vault.address"]);
    }
    expect(faultsOf(kek("address: http://vault:8200", ways.token))).toEqual(["kek.vault.address"]);
    expect(faultsOf(kek("address: http://127.0.0.1:8200", ways.token))).toEqual([]);
    expect(faultsOf(kek("address: http://vault:8200", "allow_http: true", ways.token))).toEqual([]);
    expect(faultsOf(kek(address, ways.token, "mount: /transit/"))).toEqual(["kek.vault.mount"]);
    expect(faultsOf(kek(address, ways.token, "key: ../other"))).toEqual(["kek.vault.key"]);
  });

  it("does not show Vault's secrets, wherever they came from", () => {
    const env = {
      KEYTURN_KEK__BACKEND: "vault-transit",
      KEYTURN_KEK__VAULT__ADDRESS: "https://vault.example:8200",
      KEYTURN_KEK__VAULT__TOKEN: "s.PLANTED",
    };
    const config = loadConfig({ file: undefined, env, flags: {} });
    expect(config.kek.vault?.token?.reveal()).toBe("s.PLANTED");
    expect(inspect(config, { depth: null, showHidden: true }) + JSON.stringify(config)).not.toContain(
      "PLANTED",
    );
  });

  it("names every unknown key, wherever it stands", () => {
    expect(faultsOf("version: 1\nenviroment: x\ncache:\n  max_acounts: 3\n")).toEqual([
      "cache.max_acounts",
      "enviroment",
    ]);
  });

  it("names the line of what is not YAML", () => {
    expect(faultsOf("version: 1\ncache: {a: \n")[0]).toMatch(/^\d+:\d+$/);
  });

  it("refuses aliases, which a configuration does not need", () => {
    expect(faultsOf("version: 1\nenvironment: *other\n")).toEqual(["*"]);
  });

  it("prefers a flag to the environment and the environment to the file", () => {
    const path = file("version: 1\nenvironment: file\nrefresh:\n  max_concurrent: 2\nshutdown_grace: 5s\n");
    const env = { KEYTURN_ENVIRONMENT: "env", KEYTURN_REFRESH__MAX_CONCURRENT: "3", HOME: "/root" };
    const config = loadConfig({ file: path, env, flags: { environment: "flag" } });
    expect(config.environment).toBe("flag");
    expect(config.refresh.max_concurrent).toBe(3);
    expect(config.shutdown_grace).toBe(5_000);
  });

  it("takes etcd's endpoints as a list, or from the environment with commas", () => {
    const env = {
      KEYTURN_STORE__BACKEND: "etcd",
      KEYTURN_STORE__ENDPOINTS: "https://a:2379,https://b:2379",
      KEYTURN_ROLES: "serve",
    };
    const config = loadConfig({ file: undefined, env, flags: {} });
    expect(config.store.endpoints).toEqual(["https://a:2379", "https://b:2379"]);
    expect(config.roles).toEqual(["serve"]);
  });

  it.each([
    ["no endpoints", "backend: etcd", "store.endpoints"],
    ["mixed schemes", "backend: etcd, endpoints: [https://a:2379, http://b:2379]", "store.endpoints"],
    ["addresses under TLS", "backend: etcd, endpoints: [https://10.0.0.1:2379]", "store.endpoints"],
    ["a login inside", "backend: etcd, endpoints: [http://me:pw@a:2379]", "store.endpoints.0"],
    ["a name alone", "backend: etcd, endpoints: [http://a:2379], username: me", "store.password_file"],
    [
      "half a certificate",
      "backend: etcd, endpoints: [https://a:1], tls: {key_file: k}",
      "store.tls.key_file",
    ],
    ["a prefix that is no path", "prefix: apps", "store.prefix"],
  ])("refuses etcd with %s, naming the key", (_, text, field) => {
    expect(faultsOf(`version: 1\nstore: { ${text} }\n`)).toContain(field);
  });

  it("refuses what the environment misspells", () => {
    expect(() => loadConfig({ file: undefined, env: { KEYTURN_ENVIROMENT: "x" }, flags: {} })).toThrow(
      "enviroment",
    );
  });

  it("passes over the links that Kubernetes makes for a service of this name", () => {
    const env = {
      KEYTURN_SERVICE_HOST: "10.0.0.1",
      KEYTURN_PORT: "tcp://10.0.0.1:7470",
      KEYTURN_PORT_7470_TCP_ADDR: "10.0.0.1",
    };
    expect(loadConfig({ file: undefined, env, flags: {} }).environment).toBe("development");
  });

  it("never fails in another way than with the faults named", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
        try {
          loadConfig({ file: file(text), env: {}, flags: {} });
        } catch (error) {
          expect(error).toBeInstanceOf(KeyturnError);
          expect((error as KeyturnError).violations.length).toBeGreaterThan(0);
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe("durations", () => {
  it("are a whole number and a unit", () => {
    expect(parseDuration("30s")).toBe(30_000);
    expect(parseDuration("400d")).toBe(34_560_000_000);
    for (const text of ["30", "s", "1.5s", "-1s", "30 s", ""]) expect(parseDuration(text)).toBeUndefined();
  });
});

describe("socket paths", () => {
  it("may have 107 bytes and no more", () => {
    expect(checkSocketPath("a".repeat(107), "listeners.data.socket")).toHaveLength(107);
    expect(() => checkSocketPath("a".repeat(108), "listeners.data.socket")).toThrow("listeners.data.socket");
  });
});

describe("the way out", () => {
  const proxy = (text: string) => faultsOf(`version: 1\negress: { proxy: ${text} }\n`);

  it("may lead through a proxy, whose password lies in a file of its own", () => {
    const passwordFile = join(folder, "proxy-password");
    writeFileSync(passwordFile, "pr0xy-secret\n");
    const text = `version: 1
egress:
  proxy: { url: "http://proxy.acme.example:3128", username: keyturn, password_file: ${passwordFile}, except: [.acme.example] }
`;
    const { egress } = loadConfig({ file: file(text), env: {}, flags: {} });
    expect(inspect(egress)).not.toContain("pr0xy-secret");
    expect(egressProxy(egress.proxy)).toEqual({
      secure: false,
      host: "proxy.acme.example",
      port: 3128,
      authorization: `Basic ${Buffer.from("keyturn:pr0xy-secret").toString("base64")}`,
      except: [".acme.example"],
    });
    const { proxy: tls } = loadConfig({
      file: file('version: 1\negress: { proxy: { url: "https://[2001:db8::1]" } }\n'),
      env: {},
      flags: {},
    }).egress;
    expect(egressProxy(tls)).toMatchObject({ secure: true, host: "2001:db8::1", port: 443 });
    expect(egressProxy(undefined)).toBeUndefined();
  });

  it("names what is wrong with it", () => {
    for (const url of ["socks5://p:1080", "http://u:p@proxy:3128", "http://proxy:3128/path", "proxy"])
      expect(proxy(`{ url: "${url}" }`)).toEqual(["egress.proxy.url"]);
    expect(proxy('{ url: "http://p", password_file: /x }')).toEqual(["egress.proxy.username"]);
    const missing = { url: "http://p", username: "u", password_file: join(folder, "nowhere"), except: [] };
    expect(() => egressProxy(missing)).toThrow(/egress\.proxy\.password_file/);
  });
});
