import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { systemClock } from "../../../src/clock.ts";
import type { AttributeContextSchema } from "../../../src/gen/envoy/service/auth/v3/attribute_context_pb.js";
import {
  CheckRequestSchema,
  type CheckResponse,
  CheckResponseSchema,
} from "../../../src/gen/envoy/service/auth/v3/external_auth_pb.js";
import { GetTokenResponseSchema } from "../../../src/gen/keyturn/v1/credential_service_pb.js";
import { type CheckDeps, check } from "../../../src/rpc/authz/check.ts";
import { readAsking } from "../../../src/rpc/authz/wire.ts";
import { anyone } from "../../../src/rpc/policy.ts";
import { portability } from "../../../src/rpc/portable.ts";
import { toKeyturnError } from "../../../src/rpc/status.ts";
import type { Account } from "../../../src/tokens/account.ts";
import { revisionOf } from "../../../src/tokens/token.ts";
import type { RefreshRules } from "../../../src/tokens/vendor.ts";

const TENANT = "acme";
const accountOf = (id: string, tenant = TENANT, incarnation = "i-1") =>
  ({ id, tenant, provider: "vendor", incarnation, fields: {}, slots: {} }) as unknown as Account;

function tokenOf(headers: Record<string, string>, incarnation = "i-1"): Uint8Array {
  const revision = revisionOf({ incarnation }, "default", 1);
  return toBinary(GetTokenResponseSchema, create(GetTokenResponseSchema, { headers, revision }));
}

type Attributes = MessageInitShape<typeof AttributeContextSchema>;

/** Check with a broker that knows every account, as `account` says. */
async function answer(
  attributes: Attributes | undefined,
  broker: Partial<CheckDeps["broker"]> = {},
): Promise<CheckResponse> {
  const clock = systemClock();
  const { unary, failed, decode } = check({
    broker: {
      account: (id) => accountOf(id),
      getToken: () => tokenOf({ Authorization: "Bearer ours" }),
      ...broker,
    },
    allowsHost: (_, host) => host === "api.example.com",
    requirePortable: portability({ rules: (name) => ({ isBound: name === "bound" }) as RefreshRules }),
    clock,
    maxWaitMs: 1_000,
    opened: () => undefined,
  });
  const request = create(CheckRequestSchema, attributes === undefined ? {} : { attributes });
  const call = { caller: anyone("uds"), rpc: "Authorization/Check", untilBootMs: Number.POSITIVE_INFINITY };
  const read = decode(toBinary(CheckRequestSchema, request));
  // What is read of the bytes decides as the whole message does.
  const [brief, whole] = [read, request].map((message) => (async () => unary(message as never, call))());
  const outcome = (asked: Promise<unknown> | undefined) =>
    asked?.then(
      (bytes) => fromBinary(CheckResponseSchema, bytes as Uint8Array),
      (error: unknown) => failed(toKeyturnError(error)),
    );
  const [response, same] = await Promise.all([outcome(brief), outcome(whole)]);
  if (broker.account === undefined) expect(response).toEqual(same);
  if (response === undefined) throw new Error("no answer");
  return response;
}

function reasonOf({ status, httpResponse }: CheckResponse): string {
  if (httpResponse.case === "okResponse" && status?.code === 0) return "allowed";
  if (httpResponse.case !== "deniedResponse" || !status?.code) return "neither allowed nor denied";
  expect(httpResponse.value.status?.code).toBeGreaterThanOrEqual(401);
  return JSON.parse(httpResponse.value.body).reason;
}

const http = { method: "GET", host: "api.example.com", path: "/a?b=c", headers: { "x-account": "acme-1" } };
const request = { http };
const byHeader = { account_header: "X-Account" };

describe("what a route says", () => {
  it.each<[string, Record<string, string>, string]>([
    ["a fixed account", { account_id: "acme-1" }, "allowed"],
    ["a fixed account within its globs", { account_id: "acme-1", tenant_glob: "acme" }, "allowed"],
    ["a fixed account outside of them", { account_id: "acme-1", tenant_glob: "other" }, "CALLER_NOT_ALLOWED"],
    ["a header within a tenant", { ...byHeader, tenant_glob: "ac*" }, "allowed"],
    ["a header within a provider", { ...byHeader, provider_glob: "vendor" }, "allowed"],
    ["a header within accounts", { ...byHeader, account_glob: "acme-*" }, "allowed"],
    [
      "a header within all but one",
      { ...byHeader, tenant_glob: "*", account_glob: "b*" },
      "CALLER_NOT_ALLOWED",
    ],
    ["a header without globs", byHeader, "INVALID_REQUEST"],
    ["a header that is not sent", { account_header: "x-other", tenant_glob: "*" }, "INVALID_REQUEST"],
    ["a header that cannot be one", { account_header: ":path", tenant_glob: "*" }, "INVALID_REQUEST"],
    ["both", { ...byHeader, account_id: "acme-1", tenant_glob: "*" }, "INVALID_REQUEST"],
    ["nothing", {}, "INVALID_REQUEST"],
    ["a glob that is misspelt", { ...byHeader, tenant_glob: "*", acount_glob: "b*" }, "INVALID_REQUEST"],
    ["an account that is none", { account_id: "../acme" }, "INVALID_REQUEST"],
  ])("is followed: %s", async (_what, contextExtensions, expected) => {
    expect(reasonOf(await answer({ contextExtensions, request }))).toBe(expected);
  });

  it.each([
    ["once", [["x-account", "acme-1"]], "allowed"],
    [
      "twice",
      [
        ["x-account", "acme-1"],
        ["X-Account", "acme-1"],
      ],
      "INVALID_REQUEST",
    ],
    ["not at all", [["x-other", "acme-1"]], "INVALID_REQUEST"],
  ] as const)("holds for raw headers: named %s", async (_what, pairs, expected) => {
    const headers = pairs.map(([key, value]) => ({ key, rawValue: Buffer.from(value) }));
    const raw = { http: { ...http, headers: {}, headerMap: { headers } } };
    const contextExtensions = { ...byHeader, tenant_glob: "*" };
    expect(reasonOf(await answer({ contextExtensions, request: raw }))).toBe(expected);
  });

  it("holds for joined headers: a doubled one names nobody", async () => {
    const doubled = { http: { ...http, headers: { "x-account": "acme-1,acme-1" } } };
    const contextExtensions = { ...byHeader, tenant_glob: "*" };
    expect(reasonOf(await answer({ contextExtensions, request: doubled }))).toBe("INVALID_REQUEST");
  });
});

describe("a request that is none", () => {
  it("is refused as such, however it is cut", () => {
    const attributes = { request, contextExtensions: { account_id: "a" } };
    const whole = toBinary(CheckRequestSchema, create(CheckRequestSchema, { attributes }));
    expect(readAsking(whole).attributes?.request?.http?.host).toBe("api.example.com");
    for (let length = 1; length < whole.length; length += 1)
      expect(() => readAsking(whole.subarray(0, length))).toThrow();
    expect(() => readAsking(Buffer.from("not a message"))).toThrow();
    expect(readAsking(new Uint8Array())).toEqual({});
  });
});

describe("an answer to Envoy", () => {
  const contextExtensions = { account_id: "acme-1" };

  it("always says whether it allows, whatever is asked", async () => {
    expect(reasonOf(await answer(undefined))).toBe("INVALID_REQUEST");
    expect(reasonOf(await answer({ contextExtensions }))).toBe("INVALID_REQUEST");
    const text = fc.string({ unit: "binary", maxLength: 20 });
    const asked = fc.record({
      contextExtensions: fc.dictionary(
        fc.constantFrom("account_id", "account_header", "tenant_glob", "account_glob", "token_name", "x"),
        fc.oneof(text, fc.constantFrom("acme-1", "x-account", "*")),
      ),
      host: fc.oneof(text, fc.constant("api.example.com")),
      path: text,
      headers: fc.dictionary(fc.constantFrom("x-account", "authorization", ""), text),
    });
    await fc.assert(
      fc.asyncProperty(asked, async ({ contextExtensions: said, ...fields }) => {
        const response = await answer({ contextExtensions: said, request: { http: { ...http, ...fields } } });
        expect(reasonOf(response)).toMatch(
          /^(allowed|INVALID_REQUEST|CALLER_NOT_ALLOWED|DESTINATION_NOT_ALLOWED)$/,
        );
      }),
      { numRuns: 150 },
    );
  });

  it("is a denial of a token that works only where the client's certificate is shown", async () => {
    const account = (id: string) => ({ ...accountOf(id), provider: "bound" });
    expect(reasonOf(await answer({ contextExtensions, request }, { account }))).toBe("TOKEN_NOT_PORTABLE");
  });

  it("is a denial when something is broken, without its words", async () => {
    const broken = () => {
      throw new Error("secret words");
    };
    const response = await answer({ contextExtensions, request }, { getToken: broken });
    expect(reasonOf(response)).toBe("INTERNAL_ERROR");
    expect(JSON.stringify(response)).not.toContain("secret words");
  });

  it("says in both of Envoy's ways that a header replaces the client's", async () => {
    const { httpResponse } = await answer({ contextExtensions, request });
    if (httpResponse.case !== "okResponse") throw new Error("denied");
    expect(httpResponse.value.headers).toMatchObject([
      { header: { key: "authorization", value: "Bearer ours" }, append: false, appendAction: 2 },
    ]);
    expect(httpResponse.value.headersToRemove).toEqual(["cookie", "cookie2", "proxy-authorization"]);
  });

  it("takes away what servers may read as the credential's header", async () => {
    const getToken = () => tokenOf({ "X-Api-Key": "ours" });
    const { httpResponse } = await answer({ contextExtensions, request }, { getToken });
    if (httpResponse.case !== "okResponse") throw new Error("denied");
    expect(httpResponse.value.headersToRemove).toContain("x_api_key");
  });

  it("is no token of an account that became another tenant's while its token was refreshed", async () => {
    for (const now of [undefined, accountOf("acme-1", "other", "i-2"), accountOf("acme-1", TENANT, "i-2")]) {
      let current: Account | undefined = accountOf("acme-1");
      const account = () => current;
      const getToken = async () => {
        await new Promise((resolve) => setImmediate(resolve));
        current = now;
        return tokenOf({ Authorization: "Bearer ours" });
      };
      const fenced = { ...contextExtensions, tenant_glob: TENANT };
      const response = await answer({ contextExtensions: fenced, request }, { account, getToken });
      expect(reasonOf(response)).toMatch(/^(CALLER_NOT_ALLOWED|REFRESH_UNCERTAIN)$/);
    }
  });
});
