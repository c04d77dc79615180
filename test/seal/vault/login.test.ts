import { generateKeyPairSync, sign } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Secret } from "../../../src/tokens/secret.ts";
import { type OpenBao, startOpenBao } from "../../backends/openbao.ts";
import { CA, httpServer } from "../../egress/servers.ts";
import { tempFolder } from "../../fakes/temp-folder.ts";
import { DEK, freshKey, transit, unavailable, waiting } from "./stage.ts";

let bao: OpenBao;

beforeAll(async () => {
  bao = await startOpenBao();
}, 60_000);

afterAll(() => bao?.stop());

/** An AppRole with the sidecar's policy for `key`, its tokens of `ttl`. */
async function appRole(key: string, settings: object) {
  const mount = `approle-${key}`;
  await bao.act("POST", `sys/auth/${mount}`, { type: "approle" });
  const role = { token_policies: [`sidecar-${key}`], token_no_default_policy: true, ...settings };
  await bao.act("POST", `auth/${mount}/role/sidecar`, role);
  const { data: id } = await bao.act("GET", `auth/${mount}/role/sidecar/role-id`);
  const roleId = (id as { readonly role_id: string }).role_id;
  const secretId = async () => {
    const { data } = await bao.act("POST", `auth/${mount}/role/sidecar/secret-id`);
    return (data as { readonly secret_id: string }).secret_id;
  };
  return { mount, roleId, secretId };
}

/** How many living tokens have that policy. */
async function tokensOf(policy: string): Promise<number> {
  const { data } = await bao.act("LIST", "auth/token/accessors");
  const accessors = (data as { readonly keys: readonly string[] }).keys;
  const found = await Promise.all(
    accessors.map((accessor) => bao.request("POST", "auth/token/lookup-accessor", { accessor })),
  );
  return found.filter(({ body }) =>
    (body.data as { readonly policies?: readonly string[] } | undefined)?.policies?.includes(policy),
  ).length;
}

describe("a token file", () => {
  it("is read again when Vault does not know its token any more", async () => {
    const { key } = await freshKey(bao);
    const file = join(tempFolder(), "token");
    const issue = async () => {
      const token = await bao.token({ policies: [`sidecar-${key}`], ttl: "1h" });
      writeFileSync(file, `${token}\n`);
      return token;
    };
    const first = await issue();
    const kek = transit(bao, { key, auth: { method: "token_file", file } });
    const wrapped = await kek.wrap(DEK, waiting());
    await issue();
    await bao.act("POST", "auth/token/revoke", { token: first });
    expect(await kek.unwrap(wrapped, waiting())).toEqual(DEK);
  });

  it("that is missing or empty is cause login_unreadable, and is used as soon as it is there", async () => {
    const { key, token } = await freshKey(bao);
    const file = join(tempFolder(), "token");
    const kek = transit(bao, { key, auth: { method: "token_file", file } });
    await expect(kek.wrap(DEK, waiting())).rejects.toMatchObject(unavailable("login_unreadable"));
    writeFileSync(file, "\n");
    await expect(kek.wrap(DEK, waiting())).rejects.toMatchObject(unavailable("login_unreadable"));
    writeFileSync(file, token.reveal());
    expect((await kek.wrap(DEK, waiting())).version).toBe(1);
  });
});

describe("AppRole", () => {
  it("logs in once for all who ask at once", async () => {
    const { key } = await freshKey(bao);
    const { mount, roleId, secretId } = await appRole(key, { token_ttl: "1h" });
    const auth = { method: "approle", mount, roleId, secretId: new Secret(await secretId()) } as const;
    const before = await tokensOf(`sidecar-${key}`);
    const kek = transit(bao, { key, auth });
    await Promise.all(Array.from({ length: 50 }, () => kek.wrap(DEK, waiting())));
    expect((await tokensOf(`sidecar-${key}`)) - before).toBe(1);
  });

  it("that refuses is cause login_refused, and is not asked again for a while: Vault locks out who insists", async () => {
    const { key } = await freshKey(bao);
    const { mount, roleId } = await appRole(key, { token_ttl: "1h" });
    let asked = 0;
    const port = await httpServer(async (request, response) => {
      asked += 1;
      const chunks = await request.toArray();
      const { status, body } = await bao.request(
        "POST",
        (request.url ?? "").slice(4),
        JSON.parse(Buffer.concat(chunks).toString()),
      );
      response.writeHead(status).end(JSON.stringify(body));
    });
    const auth = { method: "approle", mount, roleId, secretId: new Secret("wrong") } as const;
    const kek = transit({ url: `http://127.0.0.1:${port}` }, { key, auth });
    for (let n = 0; n < 5; n += 1) {
      await expect(kek.wrap(DEK, waiting())).rejects.toMatchObject(unavailable("login_refused"));
    }
    expect(asked).toBe(1);
  });

  it("keeps a token of 5 s alive by renewing it, and takes a new one at its last day, with no failed call", async () => {
    const { key } = await freshKey(bao);
    const settings = { token_ttl: "5s", token_max_ttl: "8s" };
    const { mount, roleId, secretId } = await appRole(key, settings);
    const file = join(tempFolder(), "secret-id");
    writeFileSync(file, await secretId());
    const kek = transit(bao, { key, auth: { method: "approle", mount, roleId, secretId: { file } } });
    const wrapped = await kek.wrap(DEK, waiting());
    const before = await tokensOf(`sidecar-${key}`);
    writeFileSync(file, await secretId());
    const untilMs = performance.now() + 9_000;
    while (performance.now() < untilMs) {
      expect(await kek.unwrap(wrapped, waiting())).toEqual(DEK);
      await delay(100);
    }
    expect(before).toBeGreaterThan(0);
    expect(kek.reported).toEqual([]);
  });

  it("replaces a batch token, which cannot be renewed", async () => {
    const { key } = await freshKey(bao);
    const { mount, roleId, secretId } = await appRole(key, { token_ttl: "2s", token_type: "batch" });
    const auth = { method: "approle", mount, roleId, secretId: new Secret(await secretId()) } as const;
    const kek = transit(bao, { key, auth });
    const wrapped = await kek.wrap(DEK, waiting());
    const untilMs = performance.now() + 3_500;
    while (performance.now() < untilMs) {
      expect(await kek.unwrap(wrapped, waiting())).toEqual(DEK);
      await delay(50);
    }
    expect(kek.reported).toEqual([]);
  });

  it("logs in again when its token was revoked", async () => {
    const { key } = await freshKey(bao);
    const { mount, roleId, secretId } = await appRole(key, { token_ttl: "1h" });
    const auth = { method: "approle", mount, roleId, secretId: new Secret(await secretId()) } as const;
    const kek = transit(bao, { key, auth });
    const wrapped = await kek.wrap(DEK, waiting());
    await bao.act("POST", `sys/leases/revoke-prefix/auth/${mount}`);
    expect(await kek.unwrap(wrapped, waiting())).toEqual(DEK);
  });
});

describe("Kubernetes", () => {
  const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");

  /** A service account's projected token. */
  function projected(name: string): string {
    const claims = {
      iss: "https://kubernetes.default.svc",
      sub: `system:serviceaccount:apps:${name}`,
      aud: ["https://kubernetes.default.svc"],
      exp: Math.floor(Date.now() / 1_000) + 3_600,
      iat: Math.floor(Date.now() / 1_000),
      jti: String(Math.random()),
      "kubernetes.io": { namespace: "apps", serviceaccount: { name, uid: "uid-1" } },
    };
    const text = `${part({ alg: "RS256", typ: "JWT" })}.${part(claims)}`;
    return `${text}.${sign("sha256", Buffer.from(text), privateKey).toString("base64url")}`;
  }

  it("logs in with the projected token, read again each time", async () => {
    const { key } = await freshKey(bao);
    const reviewed: string[] = [];
    const valid = new Set<string>();
    const api = await httpServer(async (request, response) => {
      const { spec } = JSON.parse(Buffer.concat(await request.toArray()).toString());
      reviewed.push(spec.token);
      const user = {
        username: "system:serviceaccount:apps:keyturn",
        uid: "uid-1",
        groups: ["system:serviceaccounts"],
      };
      const status = valid.has(spec.token)
        ? { authenticated: true, user, audiences: spec.audiences }
        : { authenticated: false };
      response.writeHead(201, { "content-type": "application/json" });
      response.end(JSON.stringify({ apiVersion: "authentication.k8s.io/v1", kind: "TokenReview", status }));
    });
    await bao.act("POST", "sys/auth/kubernetes", { type: "kubernetes" });
    await bao.act("POST", "auth/kubernetes/config", {
      kubernetes_host: `http://127.0.0.1:${api}`,
      token_reviewer_jwt: projected("reviewer"),
      disable_local_ca_jwt: true,
      kubernetes_ca_cert: CA,
      pem_keys: [publicKey.export({ type: "spki", format: "pem" })],
    });
    await bao.act("POST", "auth/kubernetes/role/sidecar", {
      bound_service_account_names: ["keyturn"],
      bound_service_account_namespaces: ["apps"],
      token_policies: [`sidecar-${key}`],
      token_no_default_policy: true,
      token_ttl: "3s",
      token_type: "batch",
    });
    const file = join(tempFolder(), "token");
    const renew = () => {
      const jwt = projected("keyturn");
      valid.clear();
      valid.add(jwt);
      writeFileSync(file, jwt);
      return jwt;
    };
    const first = renew();
    const auth = { method: "kubernetes", mount: "kubernetes", role: "sidecar", file } as const;
    const kek = transit(bao, { key, auth });
    const wrapped = await kek.wrap(DEK, waiting());
    expect(new Set(reviewed)).toEqual(new Set([first]));
    const second = renew();
    await delay(3_500);
    expect(await kek.unwrap(wrapped, waiting())).toEqual(DEK);
    expect(reviewed).toContain(second);
    const refused = transit(bao, { key, auth: { ...auth, role: "other" } });
    await expect(refused.wrap(DEK, waiting())).rejects.toMatchObject(unavailable("login_refused"));
  });
});
