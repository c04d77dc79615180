import { createPublicKey, generateKeyPairSync, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import { join } from "node:path";
import { getCACertificates, setDefaultCACertificates, type TLSSocket } from "node:tls";
import Provider from "oidc-provider";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AccountService } from "../../src/gen/keyturn/v1/account_service_pb.js";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { OAuthClientService } from "../../src/gen/keyturn/v1/oauth_client_service_pb.js";
import { reasonOf, type Scene, scene } from "./harness.ts";

const { putClient, getClient } = OAuthClientService.method;
const fixture = (name: string) => readFileSync(join(import.meta.dirname, "../egress/fixtures", name), "utf8");
const KEYS = {
  RS256: generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey,
  PS256: generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey,
  ES256: generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey,
  EdDSA: generateKeyPairSync("ed25519").privateKey,
};
const SECRET = "a-client-secret-that-is-long-enough-to-sign-with";
const PEM = { type: "pkcs8", format: "pem" } as const;

/** A real authorization server that asks every connection for a certificate, and takes those of the test authority. */
async function startServer() {
  const client = (client_id: string, more: object) => ({
    client_id,
    grant_types: ["client_credentials"],
    redirect_uris: [],
    response_types: [],
    ...more,
  });
  const signed = Object.entries(KEYS).map(([alg, key]) =>
    client(alg, {
      token_endpoint_auth_method: "private_key_jwt",
      token_endpoint_auth_signing_alg: alg,
      jwks: {
        keys: [{ ...createPublicKey(key.export(PEM)).export({ format: "jwk" }), alg, kid: `k-${alg}` }],
      },
    }),
  );
  let handler: ((...args: Parameters<ReturnType<Provider["callback"]>>) => void) | undefined;
  const server = createServer(
    {
      key: fixture("server.key"),
      cert: fixture("server.pem"),
      ca: fixture("client-ca.pem"),
      requestCert: true,
      rejectUnauthorized: false,
    },
    (request, response) => handler?.(request, response),
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  const socketOf = ({ req }: { readonly req: { readonly socket: unknown } }) => req.socket as TLSSocket;
  const provider = new Provider(`https://127.0.0.1:${port}`, {
    clients: [
      ...signed,
      client("shared", { token_endpoint_auth_method: "client_secret_jwt", client_secret: SECRET }),
      client("certified", {
        token_endpoint_auth_method: "tls_client_auth",
        tls_client_auth_subject_dn: "O=Acme,CN=keyturn",
      }),
    ],
    clientAuthMethods: ["private_key_jwt", "client_secret_jwt", "tls_client_auth"],
    enabledJWA: { clientAuthSigningAlgValues: ["HS256", "RS256", "PS256", "ES256", "EdDSA"] },
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      introspection: { enabled: true },
      revocation: { enabled: true },
      mTLS: {
        enabled: true,
        tlsClientAuth: true,
        getCertificate: (context: { readonly req: { readonly socket: unknown } }) =>
          new X509Certificate(socketOf(context).getPeerCertificate().raw).toString(),
        certificateAuthorized: (context: { readonly req: { readonly socket: unknown } }) =>
          socketOf(context).authorized,
        certificateSubjectMatches: (
          context: { readonly req: { readonly socket: unknown } },
          _property: string,
          expected: string,
        ) => {
          const { O, CN } = socketOf(context).getPeerCertificate().subject;
          return `O=${O},CN=${CN}` === expected;
        },
      },
    },
  });
  const oauth = provider.callback();
  handler = (request, response) => {
    if (request.url?.startsWith("/api/") !== true) return oauth(request, response);
    const { subject } = (request.socket as TLSSocket).getPeerCertificate();
    if (request.url === "/api/elsewhere")
      response.writeHead(302, { location: `https://localhost:${port}/api/whose` });
    response.end(JSON.stringify({ certificate: subject?.CN ?? "none" }));
  };
  let revoked = 0;
  provider.on("client_credentials.destroyed", () => {
    revoked += 1;
  });
  const close = () => {
    server.closeAllConnections();
    server.close();
  };
  return { port, close, revoked: () => revoked };
}

let server: Awaited<ReturnType<typeof startServer>>;
let stage: Scene;
const own = getCACertificates("default");

beforeAll(async () => {
  setDefaultCACertificates([...own, fixture("ca.pem")]);
  server = await startServer();
  stage = await scene({
    flags: { "providers.directories": join(import.meta.dirname, "oidc-providers") },
  });
});
afterAll(async () => {
  await stage.stop();
  server.close();
  setDefaultCACertificates(own);
});

let accounts = 0;
async function token(provider: string, client: string): Promise<string> {
  accounts += 1;
  const accountId = `account-${accounts}`;
  await stage.admin.call(AccountService.method.createAccount, {
    accountId,
    provider,
    client,
    fields: { port: String(server.port) },
    credential: { kind: { case: "clientCredentials", value: {} } },
  });
  const answer = stage.data.call(CredentialService.method.getToken, { accountId });
  return answer.then(({ accessToken }) => accessToken, reasonOf);
}

describe("a real authorization server that knows our app by", () => {
  it.each(Object.entries(KEYS))("a %s signature hands out a token", async (alg, key) => {
    const provider = "oidc-private-key-jwt";
    // The one RSA key type signs two ways; which one, its JWK says.
    const privateKey =
      alg === "PS256" ? JSON.stringify({ ...key.export({ format: "jwk" }), alg }) : String(key.export(PEM));
    const put = { provider, name: alg, clientId: alg, privateKey, privateKeyId: `k-${alg}` };
    await stage.admin.call(putClient, put);
    expect(await token(provider, alg)).toMatch(/^[\w-]{20,}$/);
    const { client } = await stage.admin.call(getClient, { provider, name: alg });
    expect(client?.privateKey).toMatchObject({ algorithm: alg, keyId: `k-${alg}` });
    expect(client?.secrets).toEqual([]);
  });

  it("a signature says at its introspection how long a token lives, and revokes it", async () => {
    const provider = "oidc-private-key-jwt";
    const put = { provider, name: "EdDSA", clientId: "EdDSA", privateKey: String(KEYS.EdDSA.export(PEM)) };
    await stage.admin.call(putClient, { ...put, privateKeyId: "k-EdDSA" });
    expect(await token(provider, "EdDSA")).toMatch(/^[\w-]{20,}$/);
    const accountId = `account-${accounts}`;
    const { expireTime } = await stage.data.call(CredentialService.method.getToken, { accountId });
    expect(Math.round((Number(expireTime?.seconds) - Date.now() / 1_000) / 60)).toBe(10);
    const answer = await stage.admin.call(AccountService.method.deleteAccount, { accountId, revoke: true });
    expect([answer.revoked, server.revoked()]).toEqual([true, 1]);
  });

  it("a signature by the shared secret hands out a token", async () => {
    const provider = "oidc-client-secret-jwt";
    await stage.admin.call(putClient, { provider, name: "main", clientId: "shared", clientSecret: SECRET });
    expect(await token(provider, "main")).toMatch(/^[\w-]{20,}$/);
  });

  it("a certificate hands out a token; without one nothing is sent", async () => {
    const provider = "oidc-tls-client-auth";
    const client = { provider, name: "main", clientId: "certified" };
    await stage.admin.call(putClient, client);
    expect(await token(provider, "main")).toBe("CLIENT_MISCONFIGURED");
    const certificate = fixture("client.pem");
    await stage.admin.call(putClient, { ...client, certificate, certificateKey: fixture("client.key") });
    expect(await token(provider, "main")).toMatch(/^[\w-]{20,}$/);
    const shown = (await stage.admin.call(getClient, { provider, name: "main" })).client?.certificate;
    expect(shown?.subject).toBe("O=Acme, CN=keyturn");
    expect(shown?.fingerprint).toMatch(/^[0-9a-f]{64}$/);
  });

  it("a certificate is shown to its API as well, and not where a redirect leads to", async () => {
    const accountId = `account-${accounts}`;
    const ask = async (path: string) => {
      const call = { accountId, method: "GET", path };
      const { status, body } = await stage.data.call(CredentialService.method.proxy, call);
      return [status, Buffer.from(body).toString()];
    };
    // The second one is answered from what is kept sealed.
    for (let n = 0; n < 2; n += 1)
      expect(await ask("/api/whose")).toEqual([200, '{"certificate":"keyturn"}']);
    expect(await ask("/api/elsewhere")).toEqual([200, '{"certificate":"none"}']);
  });

  it("one key keeps the secret there is when the other is replaced", async () => {
    const provider = "oidc-client-secret-jwt";
    const client = { provider, name: "both", clientId: "shared" };
    await stage.admin.call(putClient, { ...client, clientSecret: SECRET });
    await stage.admin.call(putClient, { ...client, privateKey: String(KEYS.ES256.export(PEM)) });
    expect(await token(provider, "both")).toMatch(/^[\w-]{20,}$/);
    await stage.admin.call(putClient, client);
    expect(await token(provider, "both")).toMatch(/^[\w-]{20,}$/);
  });
});

describe("what a client is given to prove itself by", () => {
  const put = async (more: object) => {
    const client = { provider: "oidc-tls-client-auth", name: "faulty", clientId: "x", ...more };
    const error: Error = await stage.admin.call(putClient, client).then(
      () => new Error("stored"),
      (thrown: Error) => thrown,
    );
    return error.message;
  };
  const weak = generateKeyPairSync("rsa", { modulusLength: 1024 }).privateKey.export(PEM);
  const locked = KEYS.ES256.export({ ...PEM, cipher: "aes-256-cbc", passphrase: "x" });
  const chain = fixture("client.pem");

  it.each([
    ["private_key", { privateKey: "not a key" }],
    ["private_key", { privateKey: String(weak) }],
    ["private_key", { privateKey: String(locked) }],
    ["private_key", { privateKey: JSON.stringify({ kty: "oct", k: "c2VjcmV0" }) }],
    ["private_key", { privateKeyId: "k" }],
    ["certificate", { certificate: "not one", certificateKey: fixture("client.key") }],
    ["certificate", { certificateKey: fixture("client.key") }],
    ["certificate_key", { certificate: chain }],
    ["certificate_key", { certificate: chain, certificateKey: String(KEYS.ES256.export(PEM)) }],
  ])("is checked before it is stored: %s", async (field, more) => {
    const message = await put(more);
    expect(message).toContain(`INVALID_ARGUMENT: ${field}`);
    expect(message).not.toMatch(/BEGIN|c2VjcmV0/);
    await expect(
      stage.admin.call(getClient, { provider: "oidc-tls-client-auth", name: "faulty" }),
    ).rejects.toThrow(/NOT_FOUND/);
  });
});
