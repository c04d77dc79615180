import { describe, expect, it } from "vitest";
import {
  answerOf,
  contextOf,
  headerOf,
  oauthFile,
  providerOf,
  shipped,
  staticCredential,
  vendorsOf,
} from "./stage.ts";

const FIELDS: Record<string, string> = {
  port: "4571",
  subdomain: "acme",
  instance_url: "https://acme.my.salesforce.com",
};

describe("verification", () => {
  const verify = (
    name: string,
    answer: Parameters<typeof vendorsOf>[1],
    credential = staticCredential("api_key", { api_key: "k" }),
  ) => {
    const stage = vendorsOf(shipped(name), ...(answer === undefined ? [] : [answer]));
    return { ...stage, result: stage.vendors.verify(contextOf(name, FIELDS, credential)) };
  };

  it("accepts, refuses or stays unclear by status", async () => {
    const { result, sent } = verify("bamboohr", answerOf(200, []));
    expect(await result).toEqual({ kind: "accepted", status: 200 });
    expect(sent[0]).toMatchObject({
      method: "GET",
      url: "https://acme.bamboohr.com/api/v1/meta/fields",
      body: undefined,
      fresh: false,
    });
    expect(headerOf(sent[0], "authorization")).toBe(`Basic ${Buffer.from("k:x").toString("base64")}`);
    expect(await verify("bamboohr", answerOf(401, "")).result).toEqual({ kind: "refused", status: 401 });
    expect(await verify("bamboohr", answerOf(403, "")).result).toMatchObject({ kind: "unclear" });
    for (const status of [408, 429, 500, 503, 404])
      expect(await verify("bamboohr", answerOf(status, "")).result).toMatchObject({ kind: "unclear" });
    expect(await verify("bamboohr", { kind: "not_sent", cause: "dns" }).result).toEqual({
      kind: "unclear",
      cause: "dns",
    });
    expect(await verify("bamboohr", { kind: "unknown", cause: "reset" }).result).toEqual({
      kind: "unclear",
      cause: "reset",
    });
  });

  it("refuses on 401 and 403 when the file says nothing else", async () => {
    for (const status of [401, 403]) {
      const { vendors } = vendorsOf(shipped("simulator"), answerOf(status, ""));
      expect(await vendors.verify(contextOf("simulator", FIELDS))).toEqual({ kind: "refused", status });
    }
  });

  it("blames no credential for throttling or the provider's own trouble, whatever the file's predicates say", async () => {
    const file = providerOf(
      oauthFile("verification: { url: https://auth.acme.example/me, refused: 'true' }"),
    );
    for (const status of [408, 429, 500, 503]) {
      const { vendors } = vendorsOf(file, answerOf(status, {}));
      expect(await vendors.verify(contextOf("acme"))).toEqual({ kind: "unclear", cause: `status_${status}` });
    }
    expect(await vendorsOf(file, answerOf(400, {})).vendors.verify(contextOf("acme"))).toMatchObject({
      kind: "refused",
    });
  });

  it("takes Slack's 200 for what its body says", async () => {
    const verdict = async (body: object) =>
      (await vendorsOf(shipped("slack"), answerOf(200, body)).vendors.verify(contextOf("slack"))).kind;
    expect(await verdict({ ok: true })).toBe("accepted");
    expect(await verdict({ ok: false, error: "token_revoked" })).toBe("refused");
    expect(await verdict({ ok: false, error: "fatal_error" })).toBe("unclear");
  });

  it("is unclear, never an exception, without a file, a verification or a usable field", async () => {
    const { vendors } = vendorsOf(shipped("google"));
    expect(await vendors.verify(contextOf("google"))).toMatchObject({ kind: "unclear" });
    expect(await vendors.verify(contextOf("gone"))).toMatchObject({ kind: "unclear" });
    const evil = vendorsOf(shipped("bamboohr"));
    const context = contextOf(
      "bamboohr",
      { subdomain: "evil.example/#" },
      staticCredential("api_key", { api_key: "k" }),
    );
    expect(await evil.vendors.verify(context)).toEqual({ kind: "unclear", cause: "DESTINATION_NOT_ALLOWED" });
    expect(evil.sent).toEqual([]);
  });

  it("tells the heart which providers can verify", () => {
    const rules = (name: string) => vendorsOf(shipped(name)).vendors.rules(name);
    expect(rules("bamboohr")).toMatchObject({
      canVerify: true,
      resendSafe: false,
      refreshesWithoutToken: false,
    });
    expect(rules("microsoft")).toMatchObject({ canVerify: false, resendSafe: true });
    expect(rules("hubspot")).toMatchObject({ maxConcurrent: 5 });
  });
});
