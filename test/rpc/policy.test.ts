import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { type CallerRule, Callers, requireRequest, requireRpc, requireSight } from "../../src/rpc/policy.ts";

const hashOf = (token: string) => createHash("sha256").update(token).digest("hex");

const rule: CallerRule = {
  name: "billing",
  token_sha256: [hashOf("first"), hashOf("second")],
  rpcs: ["CredentialService/Proxy", "EventService/*"],
  tenants: ["acme"],
  providers: ["*"],
  accounts: ["acme-*", "shared.1"],
  methods: ["get", "POST"],
  paths: ["/v1/contacts", "/v1/contacts/*"],
};

describe("caller tokens", () => {
  const callers = new Callers([rule]);

  it("are told by their hash, the old and the new one while they are exchanged", () => {
    expect(callers.identify("Bearer first", "uds").name).toBe("billing");
    expect(callers.identify("bearer second", "uds").name).toBe("billing");
  });

  it.each([undefined, "", "Bearer ", "Bearer third", "Basic first", "Bearer first second"])(
    "refuse %j",
    (header) => {
      expect(() => callers.identify(header, "uds")).toThrow(
        expect.objectContaining({ reason: "CALLER_UNKNOWN" }),
      );
    },
  );

  it("are not asked for where there are no rules", () => {
    const caller = new Callers([]).identify(undefined, "uds");
    expect(caller.name).toBe("uds");
    expect(caller.mayCall("AccountService/DeleteAccount")).toBe(true);
  });
});

describe("a caller's policy", () => {
  const caller = new Callers([rule]).identify("Bearer first", "uds");
  const refused = expect.objectContaining({ reason: "CALLER_NOT_ALLOWED" });

  it("may allow Proxy and deny GetToken", () => {
    requireRpc(caller, "CredentialService/Proxy");
    requireRpc(caller, "EventService/WatchEvents");
    expect(() => requireRpc(caller, "CredentialService/GetToken")).toThrow(refused);
    expect(() => requireRpc(caller, "XEventService/WatchEvents")).toThrow(refused);
  });

  it("matches tenants, providers and account globs whole, with no other special character than *", () => {
    requireSight(caller, { tenant: "acme", provider: "any", account: "acme-1" });
    requireSight(caller, { tenant: "acme", provider: "any", account: "shared.1" });
    for (const account of ["sharedx1", "xacme-1", "acme"]) {
      expect(() => requireSight(caller, { tenant: "acme", provider: "any", account })).toThrow(refused);
    }
    expect(() => requireSight(caller, { tenant: "acme2", provider: "any", account: "acme-1" })).toThrow(
      refused,
    );
  });

  it("names methods and paths, and no way of writing a path leads out of them", () => {
    requireRequest(caller, { method: "get", path: "/v1/contacts" });
    requireRequest(caller, { method: "POST", path: "/v1/contacts/7/notes" });
    requireRequest(caller, { method: "GET", path: "/v1/contacts/a..b%2Fc" });
    const denied = [
      ["DELETE", "/v1/contacts/7"],
      ["GET", "/v1/contactsx"],
      ["GET", "/V1/contacts"],
      ["GET", "/v1/contacts/../admin"],
      ["GET", "/v1/contacts/%2e%2E/admin"],
      ["GET", "/v1/contacts/%252e%252e/admin"],
      ["GET", "/v1/contacts/..%2fadmin"],
      ["GET", "/v1/contacts/..%5Cadmin"],
      ["GET", "/v1/contacts/..;x/admin"],
      ["GET", "/v1/contacts/."],
    ] as const;
    for (const [method, path] of denied)
      expect(() => requireRequest(caller, { method, path }), `${method} ${path}`).toThrow(refused);
  });
});
