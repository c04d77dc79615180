import { describe, expect, it } from "vitest";
import { Random } from "../simulation/random.ts";
import { CAPS, soak } from "./soak.ts";
import { KINDS_OF_TROUBLE } from "./trouble.ts";

const seeded = (seed: string) => {
  const random = new Random(seed);
  return () => random.next();
};

const MUTANT_RUNS = 5;

describe("the soak", () => {
  it("keeps every promise while sidecars are killed and frozen, etcd ends and the provider fails", {
    timeout: 240_000,
  }, async () => {
    const { violations, figures, troubles, mostUsed, lastAnswers } = await soak({
      runMs: 30_000,
      sidecars: 10,
      accounts: 200,
      lifetimeMs: 10_000,
      callsPerSecond: 40,
      freezeMs: 35_000,
      faults: 2,
      random: seeded(String(Date.now())),
    });
    expect({ violations, figures }).toMatchObject({ violations: [] });
    // A run in which nothing happened shows nothing.
    expect(figures["tokenRequests"]).toBeGreaterThan(200);
    expect(KINDS_OF_TROUBLE.filter((kind) => (troubles[kind] ?? 0) === 0)).toEqual([]);
    // Nor does a cap that nobody reaches.
    expect(mostUsed["app-0"]?.budget).toBe(CAPS[0]?.budget.requests);
    expect(mostUsed["app-0"]?.inAWindow).toBeGreaterThanOrEqual((CAPS[0]?.budget.requests ?? 0) / 2);
    expect(mostUsed["app-1"]?.permits).toBe(CAPS[1]?.maxConcurrent);
    expect(mostUsed["app-1"]?.atATime).toBe(CAPS[1]?.maxConcurrent);
    // Whoever is not served is told why, which is checked above; most are, where no cap and no suspicion is in the way.
    const free = lastAnswers.filter(
      ({ clientId, answer }) =>
        ["app-2", "app-3"].includes(clientId) && answer !== "PROVIDER_UNAVAILABLE/outage_suspected",
    );
    expect(free.filter(({ answer }) => answer === "served").length).toBeGreaterThan(0.5 * free.length);
  });

  it("sees what is missing when the refresh lacks one of its precautions", { timeout: 240_000 }, async () => {
    const promises = {
      "no attempt": "an attempt is durable before the first byte leaves",
      "no re-read": "an attempt is of the current generation",
      "lock ignored": "a lock has one holder",
      "blind resend": "one attempt sends once",
    };
    // Which faults a short run meets is a matter of luck, so a mutant has several.
    const caught = async ([mutant, promise]: [string, string]) => {
      const broken = new Set<string>();
      for (let run = 1; run <= MUTANT_RUNS && !broken.has(promise); run += 1) {
        const { violations } = await soak({
          runMs: 10_000,
          sidecars: 2,
          accounts: 16,
          lifetimeMs: 3_000,
          callsPerSecond: 40,
          freezeMs: 500,
          faults: 20,
          random: seeded(`${mutant} ${run}`),
          mutant,
        });
        for (const violation of violations) broken.add(violation.split(":")[0] ?? "");
      }
      return { mutant, broken: [...broken] };
    };
    const seen = await Promise.all(Object.entries(promises).map(caught));
    for (const [n, promise] of Object.values(promises).entries())
      expect(seen[n]).toMatchObject({ broken: expect.arrayContaining([promise]) });
  });
});
