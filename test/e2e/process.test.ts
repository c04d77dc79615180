import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { describe, expect, it, onTestFinished } from "vitest";
import { systemClock } from "../../src/clock.ts";
import { AccountService } from "../../src/gen/keyturn/v1/account_service_pb.js";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { type Simulator, startSimulator } from "../../src/simulator/simulator.ts";
import { tempFolder } from "../fakes/temp-folder.ts";
import { connectAccount, putSimulatorClient, reasonOf } from "./harness.ts";
import { serve, spawnServe } from "./serving-process.ts";

const { getToken } = CredentialService.method;
const main = join(import.meta.dirname, "../../src/main.ts");

async function simulator(): Promise<Simulator> {
  const running = await startSimulator({ clock: systemClock() });
  onTestFinished(() => running.close());
  return running;
}

describe("a sidecar's process", () => {
  it("lets no second one onto its state directory, which ends with 2 and says why", async () => {
    const stateDir = tempFolder();
    const first = await serve({ stateDir, name: "first" });
    const second = spawnServe({ stateDir, name: "second" });
    expect(await second.exited).toBe(2);
    expect(second.log()).toMatch(/state_dir|state directory/i);
    expect(second.log()).toMatch(/another process/i);
    expect(first.child.exitCode).toBeNull();
    expect(await first.end("SIGTERM")).toBe(0);
    // Given back with the process.
    const third = await serve({ stateDir, name: "third" });
    expect(await third.end("SIGTERM")).toBe(0);
  });

  it("starts again on the sockets of one that was killed", async () => {
    const stateDir = tempFolder();
    const first = await serve({ stateDir });
    await first.end("SIGKILL");
    const second = await serve({ stateDir });
    expect(await second.end("SIGTERM")).toBe(0);
  });

  it("ends with 0 within a second of SIGTERM when nothing is on its way", async () => {
    const sidecar = await serve({ stateDir: tempFolder() });
    const beganMs = performance.now();
    expect(await sidecar.end("SIGTERM")).toBe(0);
    expect(performance.now() - beganMs).toBeLessThan(1_500);
  });

  it("saves the exchange that is on its way at SIGTERM, starts no other, and ends with 0", async () => {
    const vendor = await simulator();
    const stateDir = tempFolder();
    const first = await serve({ stateDir });
    await putSimulatorClient(first.admin);
    await connectAccount(first.admin, vendor, "a", { expired: false });
    await connectAccount(first.admin, vendor, "b", { expired: false });
    vendor.faults.add({ kind: "late", ms: 1_500 });
    const running = first.admin
      .call(AccountService.method.refreshAccount, { accountId: "a" })
      .then(() => "answered", reasonOf);
    await expect.poll(() => vendor.stats().tokenRequests, { timeout: 10_000 }).toBe(1);
    const ended = new Promise((resolve) => first.child.once("exit", resolve));
    first.child.kill("SIGTERM");
    await delay(200);
    const late = await first.admin
      .call(AccountService.method.refreshAccount, { accountId: "b" })
      .then(() => "answered", reasonOf);
    expect(late).not.toBe("answered");
    expect(await running).toBe("answered");
    await ended;
    expect(await first.exited).toBe(0);
    expect(vendor.stats().tokenRequests).toBe(1);

    const second = await serve({ stateDir });
    const { account } = await second.admin.call(AccountService.method.getAccount, { accountId: "a" });
    expect(account?.slots[0]?.generation).toBe(2n);
    await second.end("SIGTERM");
  });

  it("ends with 1 within its limit when an answer does not come, and leaves that attempt to the next start", async () => {
    const vendor = await simulator();
    const stateDir = tempFolder();
    const config = "shutdown_grace: 1s";
    const first = await serve({ stateDir, config });
    await putSimulatorClient(first.admin);
    await connectAccount(first.admin, vendor, "a", { expired: false });
    vendor.faults.add({ kind: "hang" });
    const { admin } = first;
    void admin.call(AccountService.method.refreshAccount, { accountId: "a" }).catch(() => undefined);
    await delay(300);
    const beganMs = performance.now();
    first.child.kill("SIGTERM");
    expect(await first.exited).toBe(1);
    expect(performance.now() - beganMs).toBeLessThan(5_000);
    expect(first.log()).toContain("attempt left open");

    const second = await serve({ stateDir, config });
    expect((await second.data.call(getToken, { accountId: "a" })).accessToken).toMatch(/^sim_at_/);
    await second.end("SIGTERM");
    expect(vendor.stats().tokenRequests).toBe(1);
  });
});

describe("the demo of a cluster", () => {
  it("gets its etcd and its Vault, plays to its end and exits 0", async () => {
    const { stdout } = await promisify(execFile)("npm", ["start", "--", "--cluster"], {
      cwd: join(import.meta.dirname, "../.."),
    });
    expect(stdout).toContain("The provider counted 1 token request");
    expect(stdout).toContain("All of it held.");
  }, 90_000);
});

describe("the tour", () => {
  it("plays to its end and exits 0", async () => {
    const env = { ...process.env, XDG_STATE_HOME: tempFolder(), XDG_RUNTIME_DIR: tempFolder() };
    const { stdout } = await promisify(execFile)(process.execPath, [main, "demo", "--tour"], { env });
    for (const step of ["50 concurrent callers", "1 token request", "connects again", "audit"]) {
      expect(stdout).toContain(step);
    }
  });
});

describe("caller tokens over the wire", () => {
  it("decide who is let in, to which calls and to whose accounts", async () => {
    const folder = tempFolder();
    const hash = (token: string) => createHash("sha256").update(token).digest("hex");
    const callers = {
      version: 1,
      callers: [
        { name: "ops", token_sha256: [hash("ops-token")], rpcs: ["*"] },
        {
          name: "app",
          token_sha256: [hash("app-token"), hash("app-token-2")],
          rpcs: ["CredentialService/*", "EventService/*"],
          accounts: ["mine-*"],
        },
      ],
    };
    const file = join(folder, "callers.yaml");
    writeFileSync(file, JSON.stringify(callers));
    const vendor = await simulator();
    const sidecar = await serve({ stateDir: folder, config: `callers: { file: ${file} }` });
    const ops = { token: "ops-token" };
    const { admin, data } = sidecar;
    await putSimulatorClient(admin, ops);
    for (const id of ["mine-1", "other-1"]) await connectAccount(admin, vendor, id, { expired: false }, ops);
    const ask = (accountId: string, token?: string) =>
      data
        .call(getToken, { accountId }, token === undefined ? {} : { token })
        .then(({ accessToken }) => (accessToken.startsWith("sim_at_") ? "token" : "?"), reasonOf);
    expect(await ask("mine-1")).toBe("CALLER_UNKNOWN");
    expect(await ask("mine-1", "guess")).toBe("CALLER_UNKNOWN");
    expect(await ask("mine-1", "app-token")).toBe("token");
    expect(await ask("mine-1", "app-token-2")).toBe("token");
    expect(await ask("other-1", "app-token")).toBe("CALLER_NOT_ALLOWED");
    // What may not be seen cannot be told from what is not there.
    expect(await ask("other-2", "app-token")).toBe("CALLER_NOT_ALLOWED");
    expect(await ask("other-1", "ops-token")).toBe("token");
    const listed = await admin
      .call(AccountService.method.listAccounts, {}, { token: "app-token" })
      .catch(reasonOf);
    expect(listed).toBe("CALLER_NOT_ALLOWED");
    expect(sidecar.log()).not.toContain("app-token");
    await sidecar.end("SIGTERM");
  });
});
