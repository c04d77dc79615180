import type { IncomingMessage, RequestListener, ServerResponse } from "node:http";
import { inspect } from "node:util";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { systemClock } from "../../../src/clock.ts";
import { createSealer } from "../../../src/seal/envelope.ts";
import type { TransitKek } from "../../../src/seal/kek/vault/transit.ts";
import type { WrappedDek } from "../../../src/seal/kek.ts";
import { Secret } from "../../../src/tokens/secret.ts";
import { type OpenBao, startOpenBao } from "../../backends/openbao.ts";
import { CA, httpServer, httpsServer } from "../../egress/servers.ts";
import { ACTOR, CONTEXT, PLAIN, sealOne } from "../setup.ts";
import { DEK, freshKey, transit, unavailable, waiting } from "./stage.ts";

let bao: OpenBao;

beforeAll(async () => {
  bao = await startOpenBao();
}, 60_000);

afterAll(() => bao?.stop());

/** A KEK that has worked once, and a data key wrapped by it. */
async function working() {
  const { key, token, authority } = await freshKey(bao);
  const kek = transit(bao, { key, auth: { method: "token", token } });
  return { key, token, authority, kek, wrapped: await kek.wrap(DEK, waiting()) };
}

/** All that a sidecar asks of it fails with that cause. */
async function expectAll(kek: TransitKek, wrapped: WrappedDek, cause: string): Promise<void> {
  const asked = [
    kek.wrap(DEK, waiting()),
    kek.unwrap(wrapped, waiting()),
    kek.rewrap(wrapped, waiting()),
    kek.versions(),
  ];
  for (const answer of await Promise.allSettled(asked)) {
    expect(answer).toMatchObject({ status: "rejected", reason: unavailable(cause) });
  }
}

describe("a real Vault", () => {
  it("that is sealed is KEK_UNAVAILABLE, cause sealed, and serves again once it is not", async () => {
    const { kek, wrapped } = await working();
    await bao.seal();
    try {
      await expectAll(kek, wrapped, "sealed");
    } finally {
      await bao.unseal();
    }
    expect(await kek.unwrap(wrapped, waiting())).toEqual(DEK);
  });

  it("that denies is cause denied, with a token of no policy as with one that is not there", async () => {
    const { key, wrapped } = await working();
    const powerless = new Secret(await bao.token({ policies: ["none"], ttl: "1h" }));
    for (const token of [powerless, new Secret("s.gone")]) {
      await expectAll(transit(bao, { key, auth: { method: "token", token } }), wrapped, "denied");
    }
  });

  it("that has no such key is cause key_missing, whatever is asked, and no key is made", async () => {
    const { wrapped } = await working();
    const { key, token } = await freshKey(bao);
    await bao.act("POST", `transit/keys/${key}/config`, { deletion_allowed: true });
    await bao.act("DELETE", `transit/keys/${key}`);
    const kek = transit(bao, { key, auth: { method: "token", token } });
    await expectAll(kek, wrapped, "key_missing");
    expect((await bao.request("GET", `transit/keys/${key}`)).status).toBe(404);
  });

  it("with a key of another kind is cause key_unfit", async () => {
    for (const type of [{ type: "ed25519" }, { type: "aes256-gcm96", derived: true }]) {
      const { key, token } = await freshKey(bao);
      const other = `${key}-other`;
      await bao.act("POST", `transit/keys/${other}`, type);
      const root = new Secret(bao.rootToken);
      const kek = transit(bao, { key: other, auth: { method: "token", token: root } });
      await expect(kek.versions()).rejects.toMatchObject(unavailable("key_unfit"));
      await expect(kek.wrap(DEK, waiting())).rejects.toMatchObject({ reason: "KEK_UNAVAILABLE" });
      expect(token).toBeInstanceOf(Secret);
    }
  });

  it("that throttles is cause rate_limited, with a time to come back", async () => {
    const { kek, wrapped } = await working();
    await bao.act("POST", "sys/quotas/rate-limit/test", { path: "transit/", rate: 0.01 });
    try {
      await kek.unwrap(wrapped, waiting()).catch(() => undefined);
      await expectAll(kek, wrapped, "rate_limited");
      await expect(kek.unwrap(wrapped, waiting())).rejects.toMatchObject({
        retryAfterMs: expect.toSatisfy((ms) => ms > 0),
      });
    } finally {
      await bao.act("DELETE", "sys/quotas/rate-limit/test");
    }
  });

  it("that hangs is cause timeout within 5 s, also for who opens a credential", async () => {
    const { kek, wrapped } = await working();
    const clock = systemClock();
    const sealer = createSealer({ kek, environment: "test", clock, audit: async () => undefined });
    const sealed = await sealOne(sealer);
    bao.freeze();
    const startMs = performance.now();
    try {
      await Promise.all([
        expectAll(kek, wrapped, "timeout"),
        expect(sealer.open(CONTEXT, sealed, ACTOR)).rejects.toMatchObject(unavailable("timeout")),
        expect(sealer.prepare(CONTEXT, ACTOR)).rejects.toMatchObject(unavailable("timeout")),
      ]);
      expect(performance.now() - startMs).toBeLessThan(5_000);
    } finally {
      bao.thaw();
    }
    expect(await sealer.open(CONTEXT, sealed, ACTOR)).toEqual(PLAIN);
  });

  it("that is away is cause unreachable, and serves the same sidecar after its restart", async () => {
    const { kek, wrapped } = await working();
    await bao.kill();
    try {
      await expectAll(kek, wrapped, "unreachable");
    } finally {
      await bao.restart();
    }
    expect(await kek.unwrap(wrapped, waiting())).toEqual(DEK);
  });
});

describe("what looks like a Vault", () => {
  const open = (port: number, options: object = {}) =>
    transit(
      { url: `http://127.0.0.1:${port}` },
      { key: "k", auth: { method: "token", token: new Secret("s.PLANTED") }, ...options },
    );
  const answering = (status: number, body: string, headers: Record<string, string> = {}) =>
    httpServer((_request, response) => {
      response.writeHead(status, headers).end(body);
    });

  it.each([
    [500, '{"errors":["local node not active but active cluster node not found"]}', "standby"],
    [503, '{"errors":["Vault is in standby mode"]}', "standby"],
    [503, '{"errors":["Vault is sealed"]}', "sealed"],
    [503, "<html>no upstream</html>", "backend_error"],
    [500, '{"errors":["1 error occurred: s.PLANTED"]}', "backend_error"],
    [404, '{"errors":["no handler for route \\"transit/\\""]}', "key_missing"],
    [400, '{"errors":["s.PLANTED"]}', "refused"],
    [429, "", "rate_limited"],
    [200, "PLANTED", "bad_answer"],
    [200, '{"data":{"batch_results":[]}}', "bad_answer"],
    [200, '{"data":{"batch_results":[{"ciphertext":"PLANTED"}]}}', "bad_answer"],
    [200, '{"data":{"batch_results":["PLANTED"]}}', "bad_answer"],
    [200, '{"warnings":["Endpoint ignored PLANTED"],"data":{"batch_results":[]}}', "bad_answer"],
  ])("and answers %i %s is cause %s", { timeout: 10_000 }, async (status, body, cause) => {
    const isLookup = (request: IncomingMessage) => request.url?.endsWith("lookup-self") === true;
    const port = await httpServer((request, response) => {
      if (isLookup(request)) return response.end('{"data":{"ttl":0,"renewable":false}}');
      return response.writeHead(status).end(body);
    });
    const refused: unknown = await open(port)
      .wrap(DEK, waiting())
      .catch((error: unknown) => error);
    expect(refused).toMatchObject(unavailable(cause));
    expect(inspect(refused, { depth: null, showHidden: true })).not.toContain("PLANTED");
  });

  it("and answers without end is cause bad_answer", async () => {
    const port = await httpServer((_request, response) => {
      response.on("error", () => undefined);
      const more = () =>
        void (response.write("x".repeat(65_536)) ? setImmediate(more) : response.once("drain", more));
      more();
    });
    await expect(open(port).wrap(DEK, waiting())).rejects.toMatchObject(unavailable("bad_answer"));
  });

  it("and redirects gets neither token nor data key at the other place: cause standby", async () => {
    const stolen: IncomingMessage[] = [];
    const elsewhere = await httpServer((request, response) => {
      stolen.push(request);
      response.end("{}");
    });
    const port = await answering(307, "", { location: `http://127.0.0.1:${elsewhere}/v1/transit/encrypt/k` });
    await expect(open(port).wrap(DEK, waiting())).rejects.toMatchObject(unavailable("standby"));
    expect(stolen).toEqual([]);
  });

  it("and throttles with a Retry-After is given that time", async () => {
    const port = await answering(429, "", { "retry-after": "17" });
    await expect(open(port).wrap(DEK, waiting())).rejects.toMatchObject({ retryAfterMs: 17_000 });
  });

  it("is not asked through the environment's proxy, token or namespace", async () => {
    const seen: string[] = [];
    const port = await httpServer((request, response) => {
      seen.push(`${request.headers["x-vault-token"]} ${request.headers["x-vault-namespace"]} ${request.url}`);
      response.end("{}");
    });
    const foreign = {
      HTTP_PROXY: "http://127.0.0.1:9",
      http_proxy: "http://127.0.0.1:9",
      VAULT_TOKEN: "s.FOREIGN",
      VAULT_NAMESPACE: "FOREIGN",
      VAULT_ADDR: "http://127.0.0.1:9",
      VAULT_PREFIX: "/FOREIGN",
    };
    const before = { ...process.env };
    onTestFinished(() => {
      process.env = before;
    });
    Object.assign(process.env, foreign);
    await open(port)
      .versions()
      .catch(() => undefined);
    await open(port, { namespace: "team/a" })
      .versions()
      .catch(() => undefined);
    await open(port, {
      auth: { method: "approle", mount: "approle", roleId: "r", secretId: new Secret("s") },
    })
      .versions()
      .catch(() => undefined);
    expect(seen).toContain("s.PLANTED undefined /v1/auth/token/lookup-self");
    expect(seen).toContain("s.PLANTED team/a /v1/auth/token/lookup-self");
    expect(seen).toContain("undefined undefined /v1/auth/approle/login");
    expect(seen.join()).not.toContain("FOREIGN");
  });

  it("prints nothing of its traffic, not even when DEBUG asks for it", async () => {
    const port = await answering(200, "{}");
    const written: string[] = [];
    const write = process.stderr.write;
    process.env["DEBUG"] = "*";
    process.stderr.write = (chunk: string | Uint8Array) => {
      written.push(String(chunk));
      return true;
    };
    try {
      await open(port)
        .wrap(DEK, waiting())
        .catch(() => undefined);
    } finally {
      process.stderr.write = write;
      delete process.env["DEBUG"];
    }
    expect(written.join("")).not.toContain("PLANTED");
  });

  it("says nothing of token, role secret or data key in any error, nor does the KEK itself", async () => {
    const secret = "PLANTED-role-secret";
    const auths = [
      { method: "token", token: new Secret("s.PLANTED") },
      { method: "approle", mount: "approle", roleId: "role", secretId: new Secret(secret) },
    ] as const;
    const listeners: readonly RequestListener[] = [
      (request, response) => void request.pipe(response),
      (request, response) => void request.pipe(response.writeHead(400)),
      (_request, response) => void response.destroy(),
      (_request, response) => void response.writeHead(500, { "content-length": 100 }).end("half"),
    ];
    const spellings = ["PLANTED", DEK.toString("base64").slice(0, 20), DEK.toString("hex")];
    for (const auth of auths) {
      for (const listener of listeners) {
        const kek = open(await httpServer(listener), { auth });
        const asked = [
          kek.wrap(DEK, waiting()),
          kek.unwrap({ version: 1, bytes: Buffer.alloc(60) }, waiting()),
          kek.rotate(new Secret("s.PLANTED-authority")),
        ];
        for (const answer of await Promise.allSettled(asked)) {
          expect(answer).toMatchObject({ status: "rejected", reason: { reason: "KEK_UNAVAILABLE" } });
          const shown = inspect({ answer, kek }, { depth: Number.POSITIVE_INFINITY, showHidden: true });
          for (const spelling of spellings) expect(shown).not.toContain(spelling);
        }
      }
    }
  });

  it("and ends an idle connection just as it is used again is asked once more", async () => {
    let requests = 0;
    const port = await httpServer((request, response: ServerResponse) => {
      requests += 1;
      if (request.url?.endsWith("lookup-self")) return response.end('{"data":{"ttl":0}}');
      // The second use of a connection meets its end.
      if (requests === 2) return request.socket.destroy();
      return response.end('{"data":{"batch_results":[{"ciphertext":"vault:v1:AAAA"}]}}');
    });
    expect(await open(port).wrap(DEK, waiting())).toMatchObject({ version: 1 });
    expect(requests).toBe(3);
  });
});

describe("TLS", () => {
  const answer: RequestListener = (request, response) => {
    const lookup = request.url?.endsWith("lookup-self") === true;
    response.end(
      lookup ? '{"data":{"ttl":0}}' : '{"data":{"batch_results":[{"ciphertext":"vault:v3:AAAA"}]}}',
    );
  };
  const auth = { method: "token", token: new Secret("s.token") } as const;

  it("trusts whom ca names", async () => {
    const url = `https://localhost:${await httpsServer(answer)}`;
    expect(await transit({ url }, { key: "k", auth, ca: CA }).wrap(DEK, waiting())).toMatchObject({
      version: 3,
    });
  });

  it("trusts nobody else, whatever the environment says: cause tls", async () => {
    const url = `https://localhost:${await httpsServer(answer)}`;
    process.env["NODE_TLS_REJECT_UNAUTHORIZED"] = "0";
    process.env["VAULT_SKIP_VERIFY"] = "1";
    try {
      await expect(transit({ url }, { key: "k", auth }).wrap(DEK, waiting())).rejects.toMatchObject(
        unavailable("tls"),
      );
    } finally {
      delete process.env["NODE_TLS_REJECT_UNAUTHORIZED"];
      delete process.env["VAULT_SKIP_VERIFY"];
    }
  });
});
