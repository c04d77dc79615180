import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Secret } from "../../../src/tokens/secret.ts";
import { type OpenBao, startOpenBao } from "../../backends/openbao.ts";
import { DEK, freshKey, putPolicies, transit } from "./stage.ts";

let bao: OpenBao;

beforeAll(async () => {
  bao = await startOpenBao();
}, 60_000);

afterAll(() => bao?.stop());

const SIDECAR = ["POST encrypt/keyturn", "POST decrypt/keyturn", "POST rewrap/keyturn", "GET keys/keyturn"];
const ADMINISTRATOR = ["GET keys/keyturn", "POST keys/keyturn/rotate", "POST keys/keyturn/config"];

/** Every operation of the Transit engine, as the server itself describes them, on the key `keyturn`. */
async function operations(): Promise<readonly string[]> {
  const { paths } = await bao.act("GET", "sys/internal/specs/openapi");
  const found: string[] = [];
  for (const [path, methods] of Object.entries(paths as Record<string, Record<string, unknown>>)) {
    const [, mount, rest] = /^\/([^/]+)\/(.*)$/.exec(path) ?? [];
    if (rest === undefined || !(mount === "transit" || mount === "{transit_mount_path}")) continue;
    const filled = rest.replace("{name}", "keyturn").replaceAll(/\{[^}]*\}/g, "plaintext");
    for (const method of ["get", "post", "delete"]) {
      if (method in methods) found.push(`${method.toUpperCase()} ${filled}`);
    }
    found.push(`LIST ${filled}`);
  }
  return [...new Set(found)];
}

async function allowed(token: string): Promise<readonly string[]> {
  const through: string[] = [];
  for (const operation of await operations()) {
    const [method = "", path = ""] = operation.split(" ");
    const { status } = await bao.request(
      method,
      `transit/${path}`,
      method === "POST" ? {} : undefined,
      token,
    );
    if (status !== 403) through.push(operation);
  }
  return through;
}

describe("the policies in deploy/vault", () => {
  it("let a sidecar use one key and nothing else of Transit, and the administrator not use it at all", async () => {
    await putPolicies(bao);
    await bao.act("POST", "transit/keys/keyturn", { type: "aes256-gcm96" });
    expect((await operations()).length).toBeGreaterThan(60);
    const of = (policy: string) => bao.token({ policies: [policy], ttl: "1h" });
    expect((await allowed(await of("sidecar-keyturn"))).toSorted()).toEqual(SIDECAR.toSorted());
    expect((await allowed(await of("key-administrator-keyturn"))).toSorted()).toEqual(
      ADMINISTRATOR.toSorted(),
    );
  });

  it("keep a sidecar from other keys, and from making one that is missing", async () => {
    const { token } = await freshKey(bao);
    const { key: other } = await freshKey(bao);
    for (const path of [`encrypt/${other}`, `decrypt/${other}`, `keys/${other}`, "encrypt/missing"]) {
      const { status } = await bao.request("POST", `transit/${path}`, { plaintext: "AAAA" }, token.reveal());
      expect({ path, status }).toEqual({ path, status: 403 });
    }
    const { status } = await bao.request("GET", "transit/keys/missing");
    expect(status).toBe(404);
  });

  it("keep the administrator from making the key exportable or deletable", async () => {
    const { key, authority } = await freshKey(bao);
    for (const setting of [
      "deletion_allowed",
      "exportable",
      "allow_plaintext_backup",
      "auto_rotate_period",
    ]) {
      const path = `transit/keys/${key}/config`;
      const { status } = await bao.request("POST", path, { [setting]: true }, authority.reveal());
      expect({ setting, status }).toEqual({ setting, status: 403 });
    }
  });

  it("make rotation and retirement a matter of the administrator's token alone", async () => {
    const { key, token, authority } = await freshKey(bao);
    const kek = transit(bao, { key, auth: { method: "token", token } });
    const missing = { reason: "INVALID_REQUEST", violations: [{ field: "authority" }] };
    for (const wrong of [undefined, token, new Secret("s.notatoken")]) {
      await expect(kek.rotate(wrong)).rejects.toMatchObject(missing);
    }
    expect(await kek.rotate(authority)).toBe(2);
    for (const wrong of [undefined, token]) await expect(kek.retire(1, wrong)).rejects.toMatchObject(missing);
    await kek.retire(1, authority);
    const fromAuthority = transit(bao, { key, auth: { method: "token", token: authority } });
    await expect(fromAuthority.wrap(DEK, new AbortController().signal)).rejects.toMatchObject({
      metadata: { cause: "denied" },
    });
  });
});
