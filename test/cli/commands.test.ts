import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { SimulateOptions } from "../../src/cli/io.ts";
import { KeyturnError } from "../../src/errors.ts";
import { AuditService } from "../../src/gen/keyturn/v1/audit_service_pb.js";
import { JournalService } from "../../src/gen/keyturn/v1/journal_service_pb.js";
import { KeyService } from "../../src/gen/keyturn/v1/key_service_pb.js";
import { OAuthClientService, SecretState } from "../../src/gen/keyturn/v1/oauth_client_service_pb.js";
import { ProviderService } from "../../src/gen/keyturn/v1/provider_service_pb.js";
import { type CannedSidecar, cannedSidecar } from "./canned-sidecar.ts";
import { after } from "./fixtures.ts";
import { type RunOptions, run } from "./run.ts";

let sidecar: CannedSidecar;
beforeAll(async () => {
  sidecar = await cannedSidecar();
});
afterAll(() => sidecar.stop());
const keyturn = (line: string, options: RunOptions = {}) =>
  run(line.split(" "), { sockets: sidecar.sockets, ...options });

describe("clients", () => {
  const client = {
    provider: "salesforce",
    name: "default",
    clientId: "id-1",
    secrets: [{ version: "v1", state: SecretState.ACTIVE, hint: "…9f", createTime: after(-60) }],
    caps: { maxConcurrent: 4, budget: { requests: 100, per: { seconds: 60n, nanos: 0 } } },
    hold: { by: "ops", note: "incident", time: after(-60) },
    fault: { code: "invalid_client", time: after(-120) },
  };

  it("lists their state and caps", async () => {
    sidecar.answer(OAuthClientService.method.listClients, { clients: [client] });
    expect((await keyturn("clients list")).stdout).toBe(
      [
        "PROVIDER    NAME     STATE                    CLIENT ID  CAPS                      LABELS",
        "salesforce  default  refused: invalid_client  id-1       4 at once, 100 per 1 min  -",
        "",
      ].join("\n"),
    );
    expect((await keyturn("clients list --json")).json()).toMatchObject([{ name: "default" }]);
  });

  it.each(["get", "hold", "release"])(
    "%s shows fault, hold with its note, and secrets' versions",
    async (verb) => {
      const { getClient, holdClient, releaseClient } = OAuthClientService.method;
      sidecar.answer(getClient, { client });
      sidecar.answer(holdClient, { client });
      sidecar.answer(releaseClient, { client });
      const { stdout } = await keyturn(`clients ${verb} salesforce default`);
      expect(stdout).toContain("invalid_client, 2026-11-24T07:58:00Z (2 min ago)");
      expect(stdout).toContain("by ops, 2026-11-24T07:59:00Z (1 min ago): incident");
      expect(stdout).toMatch(/^v1 +active +…9f/m);
      expect(sidecar.seen.at(-1)?.request).toMatchObject({ provider: "salesforce", name: "default" });
    },
  );

  it("shows how much of the caps is used", async () => {
    const usage = {
      caps: client.caps,
      permitsTaken: 2,
      requestsTaken: 41,
      cooldownReason: "rate_limited",
      cooldownUntil: after(30),
    };
    sidecar.answer(OAuthClientService.method.getClientUsage, usage);
    const { stdout } = await keyturn("clients usage salesforce default");
    expect(stdout).toContain("2 of 4");
    expect(stdout).toContain("41 of 100");
    expect(stdout).toContain("rate_limited until 2026-11-24T08:00:30Z (in 30 s)");
  });

  it("deletes", async () => {
    expect((await keyturn("clients delete salesforce old")).stdout).toBe("salesforce old is deleted.\n");
  });
});

describe("keys", () => {
  it("shows versions and their uses", async () => {
    sidecar.answer(KeyService.method.getKekStatus, {
      kekId: "local:1",
      newestVersion: 2,
      rotationDue: true,
      versions: [
        { version: 1, uses: 12n, createTime: after(-7_776_000) },
        { version: 2, uses: 5n },
      ],
    });
    const { stdout } = await keyturn("keys status");
    expect(stdout).toContain("due: keyturn keys rotate");
    expect(stdout).toMatch(/^ +1 +2026-08-26T08:00:00Z \(90 d ago\) +12 +old$/m);
    expect(stdout).toMatch(/^ +2 +- +5 +newest$/m);
  });

  it("rotates and retires", async () => {
    sidecar.answer(KeyService.method.rotateKek, { version: 3 });
    expect((await keyturn("keys rotate")).stdout).toContain("Version 3 seals from now on");
    expect((await keyturn("keys rotate --json")).json()).toEqual([{ version: 3 }]);
    expect((await keyturn("keys retire 1")).stdout).toBe("Version 1 is retired.\n");
    expect(sidecar.seen.at(-1)?.request).toMatchObject({ version: 1 });
  });
});

describe("journal", () => {
  it("says when it is empty", async () => {
    expect((await keyturn("journal list")).stdout).toContain("empty");
  });

  it("lists what is kept", async () => {
    const entry = {
      attemptId: "att-1",
      accountId: "acme",
      tokenName: "default",
      keepTime: after(-1),
      generation: 3n,
    };
    sidecar.answer(JournalService.method.listEntries, { entries: [entry] });
    expect((await keyturn("journal list")).stdout).toMatch(
      /^acme +default +2026-11-24T07:59:59Z +3 .*att-1$/m,
    );
    expect((await keyturn("journal list --json")).json()).toMatchObject([{ attemptId: "att-1" }]);
  });

  it("replays, and is partly done when a file still does not map an answer", async () => {
    sidecar.answer(JournalService.method.replayEntries, { settled: 2, unmapped: 1 });
    expect(await keyturn("journal replay")).toMatchObject({ exit: 1 });
    sidecar.answer(JournalService.method.replayEntries, { settled: 2, unmapped: 0 });
    expect(await keyturn("journal replay")).toMatchObject({ exit: 0 });
  });
});

describe("audit verify", () => {
  it("asks the sidecar, and fails when the chain is broken", async () => {
    sidecar.answer(AuditService.method.verifyAudit, { intact: true, records: 9n });
    expect(await keyturn("audit verify")).toMatchObject({
      exit: 0,
      stdout: "The chain is intact: 9 records.\n",
    });
    sidecar.answer(AuditService.method.verifyAudit, {
      intact: false,
      records: 9n,
      faults: ["seg:4: altered"],
    });
    const ran = await keyturn("audit verify --json");
    expect(ran.exit).toBe(1);
    expect(ran.json()).toEqual([{ intact: false, records: "9", faults: ["seg:4: altered"] }]);
  });

  it("reads a directory without a sidecar", async () => {
    const verifyAudit = (directory: string) =>
      Promise.resolve({ intact: false, records: 3, faults: [`${directory}: cut`] });
    const ran = await run(["audit", "verify", "/backup"], { rooms: { verifyAudit } });
    expect(ran.exit).toBe(1);
    expect(ran.stdout).toContain("/backup: cut");
  });
});

describe("providers", () => {
  const provider = {
    name: "salesforce",
    format: "oauth2",
    source: "shipped",
    setup: "Register at …",
    accountFields: ["domain"],
  };

  it("lists them", async () => {
    sidecar.answer(ProviderService.method.listProviders, { providers: [provider] });
    expect((await keyturn("providers list")).stdout).toMatch(/^salesforce +oauth2 +domain +shipped$/m);
  });

  it("shows one with its setup and its file", async () => {
    sidecar.answer(ProviderService.method.getProvider, { provider, text: "name: x\nnext: y\n" });
    const { stdout } = await keyturn("providers show salesforce");
    expect(stdout).toContain("Setup\n  Register at …\n");
    expect(stdout).toContain("File\n  name: x\n  next: y\n");
  });

  it("lints files here, and says where each fault is", async () => {
    const fault = {
      file: "a.yaml",
      line: 3,
      column: 5,
      path: "credentials.format",
      description: "one of oauth2",
    };
    const lintProviders = (paths: readonly string[]) =>
      Promise.resolve(paths.includes("a.yaml") ? [fault] : []);
    const bad = await run(["providers", "lint", "a.yaml", "b.yaml"], { rooms: { lintProviders } });
    expect(bad).toMatchObject({ exit: 2, stdout: "a.yaml:3:5 credentials.format: one of oauth2\n" });
    const good = await run(["providers", "lint", "b.yaml"], { rooms: { lintProviders } });
    expect(good).toMatchObject({ exit: 0, stdout: "b.yaml: good\n" });
    const json = await run(["providers", "lint", "a.yaml", "--json"], { rooms: { lintProviders } });
    expect(json.json()).toEqual([fault]);
  });

  it("tests files here, case by case", async () => {
    const cases = [
      { it: "refreshes", faults: [] },
      { it: "throttles", faults: ["refused.class: expected rate_limited, got transient"] },
    ];
    const rooms = { testProviders: () => Promise.resolve([{ provider: "acme", faults: [], cases }]) };
    const text = await run(["providers", "test", "acme"], { rooms });
    expect(text).toMatchObject({
      exit: 1,
      stdout:
        "passed  acme: refreshes\nfailed  acme: throttles\n        refused.class: expected rate_limited, got transient\n",
    });
    const json = await run(["providers", "test", "acme", "--json"], { rooms });
    expect(json.json()[1]).toEqual({
      provider: "acme",
      it: "throttles",
      passed: false,
      faults: cases[1]?.faults,
    });
    const faults = [{ file: "acme.yaml", line: 3, column: 5, path: "", description: "broken" }];
    const broken = { testProviders: () => Promise.resolve([{ provider: "acme", faults, cases: [] }]) };
    expect(await run(["providers", "test", "acme"], { rooms: broken })).toMatchObject({
      exit: 2,
      stdout: "acme.yaml:3:5 broken\n",
    });
  });

  it("writes a file to start from, and says what to run next", async () => {
    const asked: unknown[] = [];
    const newProvider = (options: unknown) => {
      asked.push(options);
      return Promise.resolve(["p/acme.yaml", "p/fixtures/acme.yaml"]);
    };
    const ran = await run(["providers", "new", "acme", "--directory", "p"], { rooms: { newProvider } });
    expect(asked).toEqual([{ name: "acme", directory: "p", format: "oauth2" }]);
    expect(ran.stdout).toContain("wrote p/acme.yaml\n");
    expect(ran.stdout).toContain("keyturn providers test p/acme.yaml");
  });
});

describe("what runs here", () => {
  it("serves with the file and flags it is given, the environment's file otherwise", async () => {
    const calls: unknown[] = [];
    const serve = (options: unknown) => {
      calls.push(options);
      return Promise.resolve(0);
    };
    await run(["serve", "--config", "k.yaml", "--set", "a.b=c=d"], {
      rooms: { serve },
      env: { KEYTURN_CONFIG: "e.yaml" },
    });
    await run(["serve"], { rooms: { serve }, env: { KEYTURN_CONFIG: "e.yaml" } });
    await run(["serve", "--after-restore"], { rooms: { serve } });
    expect(calls).toEqual([
      { config: "k.yaml", flags: { "a.b": "c=d" }, afterRestore: false },
      { config: "e.yaml", flags: {}, afterRestore: false },
      { flags: {}, afterRestore: true },
    ]);
  });

  it("simulates with defaults and with what it is told", async () => {
    const calls: SimulateOptions[] = [];
    const simulate = (options: SimulateOptions) => {
      calls.push(options);
      return Promise.resolve(0);
    };
    await run(["simulate"], { rooms: { simulate } });
    const told = "simulate --host ::1 --port 9400 --style grace --seed 7 --lifetime 60s";
    await run(told.split(" "), { rooms: { simulate } });
    expect(calls).toEqual([
      { host: "127.0.0.1", port: 0, style: "strict", seed: undefined, lifetimeMs: 3_600_000 },
      { host: "::1", port: 9_400, style: "grace", seed: 7, lifetimeMs: 60_000 },
    ]);
  });

  it("tours", async () => {
    const tours: boolean[] = [];
    const demo = ({ tour }: { tour: boolean }) => {
      tours.push(tour);
      return Promise.resolve(0);
    };
    await run(["demo"], { rooms: { demo } });
    await run(["demo", "--tour"], { rooms: { demo } });
    expect(tours).toEqual([false, true]);
  });

  it("checks a configuration, faults thrown or returned", async () => {
    const good = await run(["config", "check", "k.yaml"]);
    expect(good).toMatchObject({ exit: 0, stdout: "k.yaml: good\n" });
    const returned = await run(["config", "check", "k.yaml"], {
      rooms: { checkConfig: async () => ["a.b: wrong"] },
    });
    expect(returned).toMatchObject({ exit: 2, stdout: "k.yaml: a.b: wrong\n" });
    const checkConfig = () =>
      Promise.reject(
        new KeyturnError("INVALID_REQUEST", "k.yaml: …", {
          violations: [{ field: "version", description: "1" }],
        }),
      );
    const thrown = await run(["config", "check", "k.yaml", "--json"], { rooms: { checkConfig } });
    expect(thrown.exit).toBe(2);
    expect(thrown.json()).toEqual([{ file: "k.yaml", faults: ["version: 1"] }]);
  });
});
