import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { fixturesJsonSchema } from "../../src/providers/fixtures/schema.ts";
import { providerJsonSchema } from "../../src/providers/schema.ts";
import { providerOf, SHIPPED } from "./stage.ts";

describe("provider file schema", () => {
  it("loads the article's example byte for byte", () => {
    const text = readFileSync(join(import.meta.dirname, "fixtures/article-example.json"), "utf8");
    const { token, authorization } = providerOf(text, "article-example");
    const request = token?.refresh?.[0]?.request;
    expect(request?.url.source).toBe("https://login.salesforce.com/services/oauth2/token");
    expect(token?.clientAuth).toBe("header");
    expect(request?.bodyFormat).toBe("form");
    expect(token?.scopes).toEqual(["read", "write"]);
    expect(authorization).toEqual([{ format: "bearer", path: "oauth.token.access_token" }]);
  });

  it("is published as the JSON Schema that stands in providers/schema.json", () => {
    expect(JSON.parse(readFileSync(join(SHIPPED, "schema.json"), "utf8"))).toEqual(
      JSON.parse(providerJsonSchema()),
    );
  });

  it("of fixtures is published too, in providers/fixtures/schema.json", () => {
    expect(JSON.parse(readFileSync(join(SHIPPED, "fixtures/schema.json"), "utf8"))).toEqual(
      JSON.parse(fixturesJsonSchema()),
    );
  });
});
