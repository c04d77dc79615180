import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { testProvider } from "../../src/providers/fixtures/test-provider.ts";
import { lintProvider } from "../../src/providers/load.ts";
import { writeStarter } from "../../src/providers/starter.ts";
import { tempFolder } from "../fakes/temp-folder.ts";
import { SHIPPED } from "./stage.ts";

describe("a new provider file", () => {
  it.each(["oauth2", "api_key"])("loads and passes as it is: %s", async (format) => {
    const directory = join(tempFolder(), "new");
    const paths = writeStarter({ name: "acme", directory, format });
    expect(paths).toEqual([join(directory, "acme.yaml"), join(directory, "fixtures", "acme.yaml")]);
    const [path = ""] = paths;
    expect(lintProvider(readFileSync(path, "utf8"), "acme.yaml")).toEqual([]);
    const { faults, cases } = await testProvider(path, SHIPPED);
    expect([faults, cases.flatMap((each) => each.faults)]).toEqual([[], []]);
    expect(cases.length).toBeGreaterThan(3);
  });

  it("is written over nothing", () => {
    const directory = tempFolder();
    writeFileSync(join(directory, "acme.yaml"), "mine");
    expect(() => writeStarter({ name: "acme", directory, format: "oauth2" })).toThrow(/./);
    expect(readFileSync(join(directory, "acme.yaml"), "utf8")).toBe("mine");
  });

  it("has a provider's name and a known format", () => {
    const directory = tempFolder();
    for (const name of ["Acme", "../acme", "", "a_b"])
      expect(() => writeStarter({ name, directory, format: "oauth2" })).toThrow(/./);
    expect(() => writeStarter({ name: "acme", directory, format: "saml" })).toThrow(/./);
  });
});

describe("testing a provider", () => {
  it("finds shipped ones by name and others by path", async () => {
    expect((await testProvider("simulator", SHIPPED)).cases.length).toBeGreaterThan(3);
    expect((await testProvider(join(SHIPPED, "simulator.yaml"), SHIPPED)).provider).toBe("simulator");
  });

  it("says what is missing or does not load", async () => {
    const directory = tempFolder();
    expect((await testProvider("nobody", SHIPPED)).faults[0]?.message).toContain("no provider of this name");
    expect((await testProvider(join(directory, "a.yaml"), SHIPPED)).faults[0]?.message).toContain(
      "no such file",
    );
    const [path = "", fixtures = ""] = writeStarter({ name: "acme", directory, format: "api_key" });
    writeFileSync(fixtures, "cases:\n  - it: x\n    cal: api\n");
    expect((await testProvider(path, SHIPPED)).faults).toContainEqual(
      expect.objectContaining({ file: fixtures, line: 3, path: "cases.0.cal" }),
    );
    writeFileSync(path, "credentials: 1\n");
    expect((await testProvider(path, SHIPPED)).faults[0]).toMatchObject({ file: path, line: 1 });
  });
});
