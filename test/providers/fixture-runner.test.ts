import { describe, expect, it } from "vitest";
import { differences } from "../../src/providers/fixtures/match.ts";
import { runFixtures } from "../../src/providers/fixtures/run.ts";
import { fixturesFile } from "../../src/providers/fixtures/schema.ts";
import { oauthFile, providerOf } from "./stage.ts";

const file = providerOf(
  oauthFile("verification: { url: 'https://auth.acme.example/me', refused: status = 401 }"),
);

async function faultsOf(one: object): Promise<readonly string[]> {
  const fixtures = fixturesFile.parse({ cases: [{ it: "is tried", ...one }] });
  return (await runFixtures(file, fixtures)).flatMap(({ faults }) => faults);
}

const TOKEN = { body: { access_token: "a", refresh_token: "r", expires_in: 60 } };

describe("a fixture of a provider file", () => {
  it("passes when all of it is so", async () => {
    const gives = {
      access_token: "a",
      refresh_token: "r",
      expires_in: 60,
      headers: { Authorization: "Bearer a" },
    };
    expect(await faultsOf({ call: "refresh", answer: TOKEN, gives })).toEqual([]);
    expect(await faultsOf({ call: "grant", answer: TOKEN, gives })).toEqual([]);
  });

  it.each<[string, object, string]>([
    [
      "another token",
      { answer: TOKEN, gives: { access_token: "b" } },
      "gives.access_token: expected b, got a",
    ],
    [
      "another lifetime",
      { answer: TOKEN, gives: { expires_in: 61 } },
      "gives.expires_in: expected 61, got 60",
    ],
    [
      "a lifetime where none is expected",
      { answer: TOKEN, gives: { expires_in: null } },
      "gives.expires_in: expected none, got 60",
    ],
    [
      "a token where a refusal is expected",
      { answer: TOKEN, refused: { class: "reauth" } },
      "expected no token, got one",
    ],
    [
      "a refusal where a token is expected",
      { answer: { status: 401 }, gives: {} },
      "expected no refusal, got reauth",
    ],
    [
      "another class",
      { answer: { status: 429 }, refused: { class: "transient" } },
      "refused.class: expected transient, got rate_limited",
    ],
    [
      "another request",
      { sends: { method: "GET" }, answer: TOKEN, gives: {} },
      "sends.method: expected GET, got POST",
    ],
    [
      "a parameter that must not be",
      { sends: { body: { grant_type: null } }, answer: TOKEN, gives: {} },
      "sends.body.grant_type: expected none, got refresh_token",
    ],
    ["no answer prepared", { gives: {} }, "an unexpected request: POST https://auth.acme.example/token"],
    [
      "a request that is not sent",
      { steps: [{ answer: TOKEN }, { answer: TOKEN }], gives: {} },
      "sent 1 of the 2 requests",
    ],
  ])("tells of %s", async (_what, one, fault) => {
    expect((await faultsOf({ call: "refresh", ...one })).join("\n")).toContain(fault);
  });

  it("tells of another verdict", async () => {
    const verify = (status: number, outcome: string) =>
      faultsOf({ call: "verify", answer: { status }, outcome });
    expect(await verify(401, "refused")).toEqual([]);
    expect(await verify(401, "accepted")).toEqual(["outcome: expected accepted, got refused"]);
  });

  it("tells of another rate limit", async () => {
    const answer = { status: 429, headers: { "retry-after": "30" } };
    expect(await faultsOf({ call: "api", answer, rate_limit: { retry_after: 30, throttled: true } })).toEqual(
      [],
    );
    expect(await faultsOf({ call: "api", answer, rate_limit: { retry_after: 31 } })).toEqual([
      "rate_limit.retry_after: expected 31, got 30",
    ]);
  });
});

describe("an expectation", () => {
  it("may be a pattern of the whole text", () => {
    expect(differences("at", "/[0-9a-f]{4}/", "12ab")).toEqual([]);
    expect(differences("at", "/[0-9a-f]{4}/", "12abc")).toHaveLength(1);
    expect(differences("at", "/[0-9a-f]{4}/", undefined)).toHaveLength(1);
  });

  it("may be what a text encodes", () => {
    const jwt = ["{}", '{"iss":"me","aud":"you"}', ""]
      .map((part) => Buffer.from(part).toString("base64url"))
      .join(".");
    expect(differences("at", { jwt: { iss: "me" } }, jwt)).toEqual([]);
    expect(differences("at", { jwt: { iss: "you" } }, jwt)).toEqual(["at.jwt.iss: expected you, got me"]);
    expect(differences("at", { jwt: { iss: "me" } }, "no token")).toHaveLength(1);
    expect(differences("at", { json: { a: [1] } }, '{"a":[1]}')).toEqual([]);
    expect(differences("at", { base64: "me" }, "bWU=")).toEqual([]);
  });

  it("of a list is the whole list, of an object what it names", () => {
    expect(differences("at", [1, 2], [1, 2])).toEqual([]);
    expect(differences("at", [1, 2], [1, 2, 3])).toHaveLength(1);
    expect(differences("at", { a: 1 }, { a: 1, b: 2 })).toEqual([]);
    expect(differences("at", { a: null }, { b: 2 })).toEqual([]);
    expect(differences("at", { a: 1 }, "text")).toHaveLength(1);
  });
});
