import { describe, expect, it } from "vitest";
import { fixturesPath, loadFixtures } from "../../src/providers/fixtures/load.ts";
import { runFixtures } from "../../src/providers/fixtures/run.ts";
import type { Fixtures } from "../../src/providers/fixtures/schema.ts";
import { faultText, loadCatalogue } from "../../src/providers/load.ts";
import type { Provider } from "../../src/providers/provider.ts";
import { SHIPPED } from "./stage.ts";

function shippedCatalogue() {
  const loaded = loadCatalogue([SHIPPED]);
  if (!loaded.ok) throw new Error(loaded.faults.map(faultText).join("\n"));
  return loaded.catalogue;
}

const catalogue = shippedCatalogue();

const shipped = catalogue.names.map((name) => {
  const provider = catalogue.get(name);
  const fixtures = loadFixtures(fixturesPath(catalogue.source(name) ?? "", name));
  if (provider === undefined) throw new Error(name);
  if ("faults" in fixtures) throw new Error(fixtures.faults.map(faultText).join("\n"));
  return { name, provider, fixtures };
});

/** What fixtures must show, as far as the provider has it. */
function missing(provider: Provider, { cases }: Fixtures): readonly string[] {
  const has = (what: string, found: boolean) => (found ? [] : [what]);
  const given = (call: string) => cases.some((one) => one.call === call && one.gives !== undefined);
  const classes = cases.map((one) => one.refused?.class);
  const token = provider.token;
  return [
    ...(token?.grant === undefined ? [] : has("a grant", given("grant"))),
    ...(token?.refresh === undefined ? [] : has("a refresh", given("refresh"))),
    ...(token?.mint === undefined ? [] : has("a minted token", given("mint"))),
    ...(token === undefined || (token.mint?.[0]?.request === undefined && token.refresh === undefined)
      ? []
      : ["reauth", "fix_configuration", "rate_limited", "transient"].flatMap((each) =>
          has(
            `a refusal of class ${each}`,
            classes.some((one) => one === each),
          ),
        )),
    ...has(
      "what goes into a call of the API",
      cases.some((one) => one.gives?.headers !== undefined || one.gives?.query !== undefined),
    ),
    ...(provider.verification === undefined
      ? []
      : has(
          "a refused verification",
          cases.some((one) => one.call === "verify" && one.outcome === "refused"),
        )),
    ...has(
      "a rate limit of the API",
      cases.some((one) => one.call === "api" && one.rate_limit !== undefined),
    ),
  ];
}

describe.each(shipped)("$name, by its fixtures", ({ provider, fixtures }) => {
  it("does what they say", async () => {
    const results = await runFixtures(provider, fixtures);
    const failed = results.filter(({ faults }) => faults.length > 0);
    expect(failed.map(({ it: name, faults }) => `${name}: ${faults.join("; ")}`)).toEqual([]);
  });

  it("is shown whole", () => {
    expect(missing(provider, fixtures)).toEqual([]);
  });
});
