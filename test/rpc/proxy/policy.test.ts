import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { CredentialService } from "../../../src/gen/keyturn/v1/credential_service_pb.js";
import { reasonOf } from "../../e2e/harness.ts";
import { tempFolder } from "../../fakes/temp-folder.ts";
import { proxyOf, stage, streamed } from "./stage.ts";

const hashOf = (token: string) => createHash("sha256").update(token).digest("hex");

const CALLERS = `version: 1
callers:
  - name: operator
    token_sha256: [${hashOf("operator")}]
    rpcs: ["*"]
  - name: crm-sync
    token_sha256: [${hashOf("crm")}]
    rpcs: [CredentialService/Proxy, CredentialService/ProxyStream]
    tenants: [acme]
    providers: [api]
    accounts: ["acme-*"]
    methods: [GET, POST]
    paths: [/contacts, /contacts/*]
`;

async function restricted() {
  const file = join(tempFolder(), "callers.yaml");
  writeFileSync(file, CALLERS);
  return stage({ token: "operator", flags: { "callers.file": file } });
}

describe("a caller that may only use the proxy", () => {
  it("never gets a token, and calls nothing beyond its accounts, methods and paths", async () => {
    const at = await restricted();
    try {
      const having = { fields: { api: String(at.api.port) }, provider: "api", expired: false };
      await at.connect("acme-1", having);
      await at.connect("other", having);
      await at.connect("acme-2", { ...having, tenant: "else" });
      const as = { token: "crm" };
      const asked = { accountId: "acme-1", path: "/contacts/7" };
      expect((await proxyOf(at.data, asked, as)).status).toBe(200);
      expect((await streamed(at.data, asked, [], as)).head.status).toBe(200);
      const denied = [
        { ...asked, accountId: "other" },
        { ...asked, accountId: "acme-2" },
        { ...asked, accountId: "nobody" },
        { ...asked, method: "DELETE" },
        { ...asked, path: "/contactsx" },
        { ...asked, path: "/contacts/../admin" },
        { ...asked, path: "/contacts/%2e%2e/admin" },
      ];
      for (const request of denied) {
        expect(await proxyOf(at.data, request, as).catch(reasonOf), JSON.stringify(request)).toBe(
          "CALLER_NOT_ALLOWED",
        );
        expect(await streamed(at.data, request, [], as).catch(reasonOf)).toBe("CALLER_NOT_ALLOWED");
      }
      const token = at.data.call(CredentialService.method.getToken, { accountId: "acme-1" }, as);
      expect(await token.catch(reasonOf)).toBe("CALLER_NOT_ALLOWED");
      expect(await proxyOf(at.data, asked).catch(reasonOf)).toBe("CALLER_UNKNOWN");
      expect(at.api.seen).toHaveLength(2);
    } finally {
      await at.stop();
    }
  });

  it("is in the audit trail by name, with the purpose of what it did, and no token", async () => {
    const at = await restricted();
    const { accessToken } = await at.connect("acme-1", {
      fields: { api: String(at.api.port) },
      provider: "api",
      expired: false,
    });
    await proxyOf(at.data, { accountId: "acme-1", path: "/contacts" }, { token: "crm" });
    await at.data.call(CredentialService.method.getToken, { accountId: "acme-1" }, { token: "operator" });
    await at.end();
    const folder = join(at.stateDir, "audit");
    const text = readdirSync(folder)
      .map((name) => readFileSync(join(folder, name), "utf8"))
      .join("");
    await at.stop();
    const records = text
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line));
    const uses = records.filter(
      ({ account, purpose }) => account === "acme-1" && /^(proxy|token)$/.test(purpose),
    );
    expect(new Set(uses.map(({ caller, purpose }) => `${caller} ${purpose}`))).toEqual(
      new Set(["crm-sync proxy", "operator token"]),
    );
    expect(text).not.toContain(accessToken);
  });
});
