import { describe, expect, it } from "vitest";
import { Random } from "../simulation/random.ts";
import { soak } from "./soak.ts";

const seeded = (seed: string) => {
  const random = new Random(seed);
  return () => random.next();
};

const MUTANT_RUNS = 5;

describe("the soak", () => {
  it("keeps every promise while sidecars are killed and frozen, etcd ends and the provider fails", {
    timeout: 240_000,
  }, async () => {
    const { violations, figures, answers } = await soak({
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
    expect(figures["tokenRequests"]).toBeGreaterThan(50);
    expect(answers["served"]).toBeGreaterThan(0);
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
