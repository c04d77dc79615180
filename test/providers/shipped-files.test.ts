import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { RawAnswer } from "../../src/tokens/vendor.ts";
import {
  answerOf,
  bodyText,
  contextOf,
  NOW_MS,
  SHIPPED,
  SHIPPED_NAMES,
  shipped,
  vendorsOf,
} from "./stage.ts";

const FIELDS: Record<string, string> = {
  port: "4571",
  subdomain: "acme",
  instance_url: "https://acme.my.salesforce.com",
};

function read(name: string, status: number, body: unknown, headers: Record<string, string> = {}) {
  const provider = shipped(name);
  const context = { ...contextOf(name, FIELDS), slot: provider.tokenNames[0] ?? "" };
  return vendorsOf(provider).vendors.interpret(context, answerOf(status, body, headers));
}

describe("shipped provider files", () => {
  it.each([
    [
      "google",
      400,
      { error: "invalid_grant", error_subtype: "invalid_rapt" },
      { class: "reauth", code: "invalid_rapt" },
    ],
    [
      "google",
      400,
      { error: "invalid_grant", error_description: "Token has been expired or revoked." },
      { class: "reauth", code: "invalid_grant" },
    ],
    ["google", 401, { error: "deleted_client" }, { class: "fix_configuration", clientFault: true }],
    ["google", 401, { error: "invalid_client" }, { class: "fix_configuration", clientFault: true }],
    [
      "hubspot",
      400,
      { status: "BAD_HUB", message: "unknown hub" },
      { class: "reauth", code: "BAD_HUB", message: "unknown hub" },
    ],
    [
      "hubspot",
      400,
      { status: "BAD_REFRESH_TOKEN", message: "x", error: "invalid_grant" },
      { class: "reauth", code: "BAD_REFRESH_TOKEN" },
    ],
    ["hubspot", 400, { status: "BAD_CLIENT_SECRET" }, { class: "fix_configuration", clientFault: true }],
    ["hubspot", 429, { policyName: "SECONDLY", message: "slow" }, { class: "rate_limited" }],
    [
      "microsoft",
      400,
      { error: "invalid_grant", error_description: "AADSTS700082: The refresh token has expired" },
      { class: "reauth", code: "AADSTS700082", rule: "file" },
    ],
    [
      "microsoft",
      400,
      { error: "invalid_grant", error_description: "AADSTS9: x" },
      { class: "reauth", code: "AADSTS9", rule: "default:invalid_grant" },
    ],
    [
      "microsoft",
      400,
      { error: "interaction_required", error_description: "AADSTS50079: x" },
      { class: "reauth", code: "AADSTS50079" },
    ],
    [
      "microsoft",
      401,
      { error: "invalid_client", error_description: "AADSTS7000222: expired" },
      { class: "fix_configuration", code: "AADSTS7000222", clientFault: true },
    ],
    [
      "microsoft",
      401,
      { error: "invalid_client" },
      { class: "fix_configuration", code: "invalid_client", clientFault: true },
    ],
    [
      "salesforce",
      400,
      { error: "invalid_grant", error_description: "expired access/refresh token" },
      { class: "reauth" },
    ],
    ["salesforce", 400, { error: "inactive_org" }, { class: "reauth" }],
    ["salesforce", 400, { error: "invalid_client_id" }, { class: "fix_configuration", clientFault: true }],
    [
      "slack",
      200,
      { ok: false, error: "invalid_refresh_token" },
      { class: "reauth", code: "invalid_refresh_token" },
    ],
    [
      "slack",
      200,
      { ok: false, error: "bad_client_secret" },
      { class: "fix_configuration", clientFault: true },
    ],
    ["slack", 200, { ok: false, error: "ratelimited" }, { class: "rate_limited", retryAfterMs: 30_000 }],
    ["slack", 200, { ok: false, error: "internal_error" }, { class: "transient" }],
    ["zoho-crm", 200, { error: "invalid_code" }, { class: "reauth", code: "invalid_code" }],
    ["zoho-crm", 200, { error: "invalid_client_secret" }, { class: "fix_configuration", clientFault: true }],
    [
      "zoho-crm",
      400,
      { error: "Access Denied", error_description: "too many requests" },
      { class: "rate_limited" },
    ],
    [
      "zoom",
      401,
      { error: "invalid_request", reason: "Invalid Token!" },
      { class: "reauth", message: "Invalid Token!" },
    ],
    [
      "zoom",
      401,
      { error: "invalid_client", reason: "Invalid client_id or client_secret" },
      { class: "fix_configuration", clientFault: true },
    ],
    ["zoom", 400, { error: "invalid_grant" }, { class: "reauth" }],
  ])("%s: %s %j", async (name, status, body, expected) => {
    expect(await read(name, status, body, { "retry-after": "30" })).toMatchObject({
      kind: "refused",
      ...expected,
    });
  });

  it("asks Salesforce's introspection for the expiry at the instance that the answer names, else takes two hours", async () => {
    const answer = answerOf(200, {
      access_token: "a",
      instance_url: "https://eu.my.salesforce.com",
      token_type: "Bearer",
    });
    const run = async (introspection: RawAnswer) => {
      const { vendors, sent } = vendorsOf(shipped("salesforce"), introspection);
      const granted = await vendors.interpret(contextOf("salesforce"), answer);
      return { granted, sent };
    };
    const { granted, sent } = await run(answerOf(200, { active: true, exp: NOW_MS / 1_000 + 600 }));
    expect(granted).toMatchObject({
      kind: "granted",
      fields: { instance_url: "https://eu.my.salesforce.com" },
      credential: { expiresAtMs: NOW_MS + 600_000 },
    });
    expect(sent[0]?.url).toBe("https://eu.my.salesforce.com/services/oauth2/introspect");
    expect(bodyText(sent[0])).toContain("client_secret=");
    expect((await run(answerOf(500, ""))).granted).toMatchObject({
      credential: { expiresAtMs: NOW_MS + 7_200_000 },
    });
  });

  it("sends Salesforce's client secret to no instance outside its domains", async () => {
    const { vendors, sent } = vendorsOf(shipped("salesforce"));
    const answer = answerOf(200, { access_token: "a", instance_url: "https://evil.example" });
    expect(await vendors.interpret(contextOf("salesforce"), answer)).toMatchObject({
      kind: "granted",
      fields: {},
    });
    expect(sent).toEqual([]);
  });

  it("reads comma-separated scopes, and takes a Slack bot token for one that never ends", async () => {
    const slack = await read("slack", 200, {
      ok: true,
      access_token: "xoxb-1",
      token_type: "bot",
      scope: "chat:write,commands",
      team: { id: "T1" },
    });
    expect(slack).toMatchObject({
      kind: "granted",
      fields: { team_id: "T1" },
      credential: { scopes: ["chat:write", "commands"], expiresAtMs: undefined },
    });
    expect(await read("zoom", 200, { access_token: "a", scope: "a:b c:d" })).toMatchObject({
      credential: { scopes: ["a:b", "c:d"] },
    });
  });

  it("calls Zoho's data centres and no other host", async () => {
    const exchange = async (accounts_server?: string) => {
      const { vendors, sent } = vendorsOf(shipped("zoho-crm"));
      const fields: Record<string, string> = accounts_server === undefined ? {} : { accounts_server };
      await vendors.exchange(contextOf("zoho-crm", fields), () => true, new AbortController().signal);
      return sent[0]?.url;
    };
    expect(await exchange()).toBe("https://accounts.zoho.com/oauth/v2/token");
    expect(await exchange("https://accounts.zoho.eu")).toBe("https://accounts.zoho.eu/oauth/v2/token");
    await expect(exchange("https://accounts.zoho.evil")).rejects.toMatchObject({
      reason: "DESTINATION_NOT_ALLOWED",
    });
    const granted = await read("zoho-crm", 200, {
      access_token: "a",
      expires_in: 3_600_000,
      expires_in_sec: 3600,
      api_domain: "https://www.zohoapis.eu",
    });
    expect(granted).toMatchObject({
      fields: { api_domain: "https://www.zohoapis.eu" },
      credential: { expiresAtMs: NOW_MS + 3_600_000 },
    });
    const { vendors } = vendorsOf(shipped("zoho-crm"));
    expect(vendors.authorize(contextOf("zoho-crm")).headers.reveal()).toEqual({
      Authorization: "Zoho-oauthtoken old-access-77d0",
    });
  });
});

describe("shipped settings that could cost a grant", () => {
  it("resends after a lost answer only where the vendor does not rotate or keeps old refresh tokens", () => {
    const lasting = SHIPPED_NAMES.filter((name) => {
      const { refresh, token } = shipped(name);
      return refresh.resendSafe && token?.grant !== undefined && token.refresh !== undefined;
    });
    expect(lasting).toEqual([
      "amazon-selling-partner",
      "asana",
      "coros",
      "dropbox",
      "facebook",
      "figma",
      "instagram",
      "microsoft",
      "reddit",
      "revolut-business",
      "sharepoint-online",
      "shopline",
      "threads",
      "zoho-crm",
    ]);
  });
});

describe("what a shipped file tells its reader", () => {
  it.each(SHIPPED_NAMES.filter((name) => name !== "simulator"))(
    "%s cites its pages first, and says what is unverified there and nowhere else",
    (name) => {
      const text = readFileSync(join(SHIPPED, `${name}.yaml`), "utf8");
      const lines = text.split("\n");
      const head = lines.slice(
        1,
        lines.findIndex((line) => !line.startsWith("#")),
      );
      expect(head[0]).toMatch(/^# https:\/\//);
      expect(text.match(/unverified/gi)?.length ?? 0).toBe(
        head.filter((line) => line.startsWith("# Unverified: ")).length,
      );
    },
  );
});
