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

const CLASSES = ["reauth", "fix_configuration", "rate_limited", "transient"] as const;

/** What fixtures must show, as far as the provider has it. */
function missing(provider: Provider, { cases }: Fixtures): readonly string[] {
  const { token, verification } = provider;
  const given = (call: string) => cases.some((one) => one.call === call && one.gives !== undefined);
  const refused = (name: string) => cases.some((one) => one.refused?.class === name);
  const grants = cases.filter((one) => one.call === "grant" && one.gives?.refresh_token !== undefined);
  const neverRefreshes = grants.length > 0 && grants.every((one) => one.gives?.refresh_token === null);
  const isAsked = token !== undefined && (token.grant ?? token.mint)?.[0]?.request !== undefined;
  const shown: Readonly<Record<string, boolean>> = {
    "a grant": token?.grant === undefined || given("grant"),
    "a refresh": token?.refresh === undefined || neverRefreshes || given("refresh"),
    "a minted token": token?.mint === undefined || given("mint"),
    ...Object.fromEntries(CLASSES.map((name) => [`a refusal of class ${name}`, !isAsked || refused(name)])),
    "what goes into a call of the API": cases.some(
      ({ gives }) => gives?.headers !== undefined || gives?.query !== undefined,
    ),
    "who the account is":
      (provider.identity ?? provider.afterConnect.find((each) => each.identity)) === undefined ||
      cases.some(({ gives }) => typeof gives?.subject === "string"),
    "a refused verification":
      verification === undefined || cases.some((one) => one.call === "verify" && one.outcome === "refused"),
    "a rate limit of the API": cases.some((one) => one.call === "api" && one.rate_limit !== undefined),
  };
  return Object.keys(shown).filter((what) => shown[what] !== true);
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
