import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { type Scene, scene } from "./harness.ts";

const SIMULATOR = readFileSync(join(import.meta.dirname, "../../providers/simulator.yaml"), "utf8");
const BEARER = "authorization:\n  format: bearer\n  config: { path: oauth.token.access_token }\n";
const withHeader = (name: string) =>
  SIMULATOR.replace(
    BEARER,
    `authorization: { format: header, config: { name: ${name}, value: "\${oauth.token.access_token}" } }\n`,
  );

let directory: string;
let stage: Scene;
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "keyturn-reload-"));
  stage = await scene({ flags: { "providers.directories": directory } });
  await stage.connect("acme", { expired: false });
});
afterAll(async () => {
  await stage.stop();
  rmSync(directory, { recursive: true });
});

const headers = async () =>
  Object.keys((await stage.data.call(CredentialService.method.getToken, { accountId: "acme" })).headers);
const write = (text: string) => writeFileSync(join(directory, "simulator.yaml"), text);

describe("provider files that are read again", () => {
  it("decide from then on what a token goes into, without a refresh", async () => {
    expect(await headers()).toEqual(["Authorization"]);
    write(withHeader("X-First"));
    stage.reload();
    expect(await headers()).toEqual(["X-First"]);
    expect(await headers()).toEqual(["X-First"]);
    expect(stage.simulator.stats().tokenRequests).toBe(0);
  });

  it("stay the old ones when one of them does not load", async () => {
    write(withHeader("X-Second").replace("tokenPath", "tokenPth"));
    expect(() => stage.reload()).toThrow(/tokenPth.*did you mean tokenPath/);
    expect(await headers()).toEqual(["X-First"]);
  });
});
