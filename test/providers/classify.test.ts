import { describe, expect, it } from "vitest";
import type { Interpretation } from "../../src/tokens/vendor.ts";
import {
  answerOf,
  CLIENT_SECRET,
  contextOf,
  interpretation,
  OLD_ACCESS,
  OLD_REFRESH,
  oauthFile,
  plainFile,
  providerOf,
  shipped,
  tokenBody,
  vendorsOf,
} from "./stage.ts";

describe("default classification", () => {
  it.each([
    [400, { error: "invalid_grant" }, "reauth", "default:invalid_grant", false],
    [200, { error: "invalid_grant" }, "reauth", "default:invalid_grant", false],
    [503, { error: "invalid_grant" }, "reauth", "default:invalid_grant", false],
    [429, { error: "invalid_grant" }, "reauth", "default:invalid_grant", false],
    [500, { error: "invalid_grant" }, "reauth", "default:invalid_grant", false],
    [400, "error=invalid_grant&error_description=gone", "reauth", "default:invalid_grant", false],
    [401, { error: "invalid_client" }, "fix_configuration", "default:invalid_client", true],
    [400, { error: "unauthorized_client" }, "fix_configuration", "default:unauthorized_client", true],
    [400, { error: "invalid_scope" }, "fix_configuration", "default:invalid_scope", false],
    [400, { error: "invalid_request" }, "fix_configuration", "default:invalid_request", false],
    [400, { error: "unsupported_grant_type" }, "fix_configuration", "default:unsupported_grant_type", false],
    [401, {}, "reauth", "default:401", false],
    [401, "<html>", "reauth", "default:401", false],
    [401, { error: "temporarily_unavailable" }, "transient", "default:temporarily_unavailable", false],
    [429, {}, "rate_limited", "default:429", false],
    [429, "slow down", "rate_limited", "default:429", false],
    [503, "<html>", "transient", "default:5xx", false],
    [501, {}, "transient", "default:5xx", false],
    [408, {}, "transient", "default:408", false],
    [404, "<html>", "transient", "default:other", false],
    [403, { error: "whatever" }, "transient", "default:other", false],
    [400, "not json", "transient", "default:other", false],
    [302, "", "transient", "default:other", false],
  ])("takes %s %j for %s by %s", async (status, body, failure, rule, clientFault) => {
    expect(await interpretation(answerOf(status, body))).toMatchObject({
      kind: "refused",
      class: failure,
      rule,
      clientFault,
    });
  });

  it("reads an error from the query of a redirect", async () => {
    const answer = answerOf(302, "", {
      location: "https://x.example/?error=invalid_grant&error_description=ended",
    });
    expect(await interpretation(answer)).toMatchObject({
      kind: "refused",
      class: "reauth",
      code: "invalid_grant",
      message: "ended",
    });
  });

  it.each([
    [500, "<html>"],
    [500, {}],
    [502, ""],
    [504, { message: "gateway" }],
    [524, ""],
    [200, ""],
    [200, '{"access_token":"x'],
    [200, "<html>"],
    [204, ""],
  ])("leaves %s %j as unknown: the provider may have acted", async (status, body) => {
    expect(await interpretation(answerOf(status, body))).toMatchObject({ kind: "unknown" });
  });

  it.each([
    [{}],
    [{ token: "x" }],
    [null],
    [[1]],
    ["ok"],
    [{ access_token: "" }],
    [{ access_token: 5 }],
    [{ access_token: "a\nb" }],
    [{ access_token: "x", refresh_token: {} }],
    [{ error: "odd" }],
  ])("keeps a parseable success without a usable token for remap: %j", async (body) => {
    expect(await interpretation(answerOf(200, JSON.stringify(body)))).toMatchObject({ kind: "unmapped" });
  });

  it("is unmapped when the file is gone", async () => {
    const { vendors } = vendorsOf(plainFile);
    expect(await vendors.interpret(contextOf("gone"), answerOf(200, tokenBody()))).toEqual({
      kind: "unmapped",
      cause: "file_missing",
    });
  });

  it("hides every secret it sent, and shows printable ASCII of bounded length", async () => {
    const error_description = `bad ${OLD_REFRESH} ${encodeURIComponent(OLD_REFRESH)} ${OLD_ACCESS} ${CLIENT_SECRET}\r\n\u0000é ${"x".repeat(500)}`;
    const read = await interpretation(
      answerOf(400, { error: `e-${OLD_ACCESS}-${"y".repeat(99)}`, error_description }),
    );
    const { code, message } = read as Extract<Interpretation, { kind: "refused" }>;
    expect(message).toMatch(/^bad \[secret\] \[secret\] \[secret\] \[secret\]\? x+$/);
    expect(message).toHaveLength(200);
    expect(code).toMatch(/^e-\[secret\]-y+$/);
    expect(code).toHaveLength(64);
  });
});

describe("classification by the file", () => {
  const file = (errors: string) => providerOf(oauthFile(`errors: >-\n  ${errors}`));

  it("takes class, code, message, retryAfter and clientFault from the expression", async () => {
    const errors =
      '{"class": body.kind, "code": body.num, "message": body.text, "retryAfter": body.wait, "clientFault": true}';
    const body = { kind: "fix_configuration", num: 4711, text: "no", wait: "7" };
    expect(await interpretation(answerOf(418, body), file(errors))).toMatchObject({
      class: "fix_configuration",
      code: "4711",
      message: "no",
      retryAfterMs: 7_000,
      clientFault: true,
      rule: "file",
    });
  });

  it("falls back to the default when the expression fails, names no class, or the answer is too large for it", async () => {
    for (const errors of [
      "body.error + 1",
      '{"class": "non" & "sense"}',
      "3",
      '{"class": 5}',
      "$length(body)",
    ]) {
      expect(await interpretation(answerOf(400, { error: "invalid_grant" }), file(errors))).toMatchObject({
        class: "reauth",
        rule: "default:invalid_grant",
      });
    }
    const large = { error: "invalid_grant", pad: "x".repeat(66_000) };
    expect(await interpretation(answerOf(400, large), file('{"class": "transient"}'))).toMatchObject({
      class: "reauth",
    });
  });

  it("believes no 'transient' about a gateway's 502, because the provider may have acted", async () => {
    expect(await interpretation(answerOf(502, {}), file('{"class": "transient"}'))).toMatchObject({
      kind: "unknown",
    });
    expect(await interpretation(answerOf(500, { c: 1 }), file('{"class": "reauth"}'))).toMatchObject({
      kind: "refused",
      class: "reauth",
    });
    expect(await interpretation(answerOf(500, "<html>"), file('{"class": "reauth"}'))).toMatchObject({
      kind: "unknown",
    });
  });

  it("keeps a 200 without a token for remap, though a catch-all of the file would call it transient", async () => {
    const catchAll = file('{"class": body.hard ? "reauth" : "transient"}');
    expect(await interpretation(answerOf(200, {}), catchAll)).toMatchObject({ kind: "unmapped" });
    expect(await interpretation(answerOf(200, { hard: true }), catchAll)).toMatchObject({ class: "reauth" });
  });

  it("takes a 200 for an error when the success predicate says so", async () => {
    const slack = shipped("slack");
    expect(await interpretation(answerOf(200, { ok: false, error: "something_new" }), slack)).toMatchObject({
      kind: "refused",
      class: "transient",
    });
    expect(await interpretation(answerOf(200, { ok: true }), slack)).toMatchObject({ kind: "unmapped" });
  });
});
