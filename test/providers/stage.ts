import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type Catalogue, catalogueOf, faultText, parseProvider } from "../../src/providers/load.ts";
import type { Provider } from "../../src/providers/provider.ts";
import type { Outbound, Send, Sent } from "../../src/providers/send.ts";
import { createVendors } from "../../src/providers/vendors.ts";
import type { Account } from "../../src/tokens/account.ts";
import type { Credential, OAuthCredential, StaticCredential } from "../../src/tokens/credential.ts";
import { Secret } from "../../src/tokens/secret.ts";
import type { Interpretation, RawAnswer, VendorContext } from "../../src/tokens/vendor.ts";

export const SHIPPED = join(import.meta.dirname, "../../providers");
export const SHIPPED_NAMES = readdirSync(SHIPPED)
  .filter((name) => name.endsWith(".yaml"))
  .map((name) => name.slice(0, -".yaml".length))
  .sort();

/** 2026-01-01T00:00:00Z. */
export const NOW_MS = 1_767_225_600_000;
export const OLD_REFRESH = "old-refresh-9f2c/+ü";
export const OLD_ACCESS = "old-access-77d0";
export const CLIENT_SECRET = "client-secret:%&=4711";

/** Compiles a provider file's text; throws its faults. */
export function providerOf(text: string, name = "acme"): Provider {
  const parsed = parseProvider(text, `${name}.yaml`, name);
  if ("faults" in parsed) throw new Error(parsed.faults.map(faultText).join("\n"));
  return parsed;
}

export function shipped(name: string): Provider {
  return providerOf(readFileSync(join(SHIPPED, `${name}.yaml`), "utf8"), name);
}

/** The smallest oauth2 file, with `more` appended. */
export function oauthFile(more = "", config = ""): string {
  return `credentials:
  format: oauth2
  config:
    auth: { tokenHost: "https://auth.acme.example", tokenPath: "/token" }
${config}
authorization: { format: bearer, config: { path: oauth.token.access_token } }
${more}
`;
}

export function oauthCredential(over: Partial<OAuthCredential> = {}): OAuthCredential {
  return {
    kind: "oauth",
    accessToken: new Secret(OLD_ACCESS),
    tokenType: "Bearer",
    issuedAtMs: NOW_MS - 3_600_000,
    expiresAtMs: NOW_MS,
    refreshToken: new Secret(OLD_REFRESH),
    refreshTokenExpiresAtMs: undefined,
    scopes: ["read"],
    members: new Secret({ access_token: OLD_ACCESS, refresh_token: OLD_REFRESH, instance: "eu1" }),
    ...over,
  };
}

export function staticCredential(
  kind: StaticCredential["kind"],
  values: Record<string, string>,
): StaticCredential {
  const secrets = Object.entries(values).map(([name, value]) => [name, new Secret(value)] as const);
  return {
    kind,
    versions: [{ version: "1", state: "active", createdAtMs: NOW_MS, values: Object.fromEntries(secrets) }],
    expiresAtMs: undefined,
  };
}

export function contextOf(
  provider: string,
  fields: Record<string, string> = {},
  credential: Credential = oauthCredential(),
  clientSecret: string | null = CLIENT_SECRET,
): VendorContext {
  const account: Account = {
    id: "acc-1",
    incarnation: "inc-1",
    tenant: "t1",
    provider,
    client: "main",
    labels: {},
    displayName: "",
    externalSubject: "",
    disabled: false,
    fields,
    slots: {},
    createdAtMs: NOW_MS,
    updatedAtMs: NOW_MS,
    lastUsedAtMs: undefined,
    contentHash: "",
  };
  const record = {
    provider,
    name: "main",
    clientId: "client id/1",
    caps: { maxConcurrent: undefined, budget: undefined },
    labels: {},
    generation: 1,
    secrets: [],
    onHold: undefined,
    fault: undefined,
    createdAtMs: NOW_MS,
    updatedAtMs: NOW_MS,
  };
  const secret = clientSecret === null ? undefined : new Secret(clientSecret);
  return { account, slot: "default", credential, client: { record, secret } };
}

export function answerOf(
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
  timing: { requestedAtMs?: number; receivedAtMs?: number } = {},
): RawAnswer {
  return {
    status,
    headers: Object.entries(headers),
    body: Buffer.from(typeof body === "string" ? body : JSON.stringify(body)),
    requestedAtMs: NOW_MS,
    receivedAtMs: NOW_MS + 200,
    ...timing,
  };
}

/** A way out that answers from a list and remembers what it was given. */
export function wayOut(...answers: (RawAnswer | Sent)[]): { send: Send; sent: Outbound[] } {
  const sent: Outbound[] = [];
  const send: Send = async (request) => {
    sent.push(request);
    const next = answers[sent.length - 1];
    if (next === undefined) return { kind: "not_sent", cause: "no_answer_prepared" };
    return "kind" in next ? next : { kind: "answer", ...next };
  };
  return { send, sent };
}

export function vendorsOf(provider: Provider, ...answers: (RawAnswer | Sent)[]) {
  const { send, sent } = wayOut(...answers);
  const catalogue: Catalogue = catalogueOf(new Map([[provider.name, provider]]));
  return { vendors: createVendors({ catalogue: () => catalogue, send, now: () => NOW_MS }), sent };
}

export function bodyText(request: Outbound | undefined): string {
  return Buffer.from(request?.body ?? []).toString("utf8");
}

export function headerOf(request: Outbound | undefined, name: string): string | undefined {
  return request?.headers.find(([each]) => each.toLowerCase() === name)?.[1];
}

export const plainFile = providerOf(oauthFile());

/** What a provider's file makes of an answer to a refresh. */
export function interpretation(
  answer: RawAnswer,
  file = plainFile,
  credential: Credential = oauthCredential(),
): Promise<Interpretation> {
  const context = { ...contextOf(file.name, {}, credential), slot: file.tokenNames[0] ?? "" };
  return vendorsOf(file).vendors.interpret(context, answer);
}

/** The credential of an answer that must be a grant. */
export async function granted(
  answer: RawAnswer,
  file = plainFile,
  credential: Credential = oauthCredential(),
): Promise<OAuthCredential> {
  const read = await interpretation(answer, file, credential);
  if (read.kind !== "granted" || read.credential.kind !== "oauth") throw new Error(JSON.stringify(read));
  return read.credential;
}

export function tokenBody(more: object = {}): object {
  return { access_token: "new-access", token_type: "bearer", ...more };
}
