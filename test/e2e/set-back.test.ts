import { cpSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { systemClock } from "../../src/clock.ts";
import { AccountService } from "../../src/gen/keyturn/v1/account_service_pb.js";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { JournalService } from "../../src/gen/keyturn/v1/journal_service_pb.js";
import { openJournal } from "../../src/journal/journal.ts";
import { startSimulator } from "../../src/simulator/simulator.ts";
import { tempFolder } from "../fakes/temp-folder.ts";
import { sampleEntry } from "../journal/sample-entry.ts";
import { connectAccount, putSimulatorClient, reasonOf } from "./harness.ts";
import { serve } from "./serving-process.ts";

function copyDatabase(from: string, to: string): void {
  mkdirSync(to, { recursive: true });
  for (const name of readdirSync(from).filter((each) => each.startsWith("store.sqlite"))) {
    rmSync(join(to, name), { force: true });
    cpSync(join(from, name), join(to, name));
  }
}

it("serves valid tokens from a database put back from yesterday, and refreshes nothing until that is accepted", async () => {
  const simulator = await startSimulator({ clock: systemClock(), style: "strict" });
  onTestFinished(() => simulator.close());
  const [stateDir, copy] = [tempFolder(), tempFolder()];
  const refresh = { accountId: "acme" };

  const yesterday = await serve({ stateDir });
  await putSimulatorClient(yesterday.admin);
  await connectAccount(yesterday.admin, simulator, "acme");
  await yesterday.data.call(CredentialService.method.getToken, { accountId: "acme" });
  expect(await yesterday.end("SIGTERM")).toBe(0);
  copyDatabase(stateDir, copy);

  const today = await serve({ stateDir });
  for (let n = 0; n < 3; n += 1) await today.admin.call(AccountService.method.refreshAccount, refresh);
  expect(await today.end("SIGTERM")).toBe(0);
  copyDatabase(copy, stateDir);

  const restored = await serve({ stateDir });
  const asked = simulator.history().length;
  const { accessToken } = await restored.data.call(CredentialService.method.getToken, { accountId: "acme" });
  expect(accessToken).not.toBe("");
  const held = restored.admin.call(AccountService.method.refreshAccount, refresh);
  expect(await held.then(() => "", reasonOf)).toBe("REFRESH_UNCERTAIN");
  const { restoreHold } = await restored.admin.call(JournalService.method.listEntries, {});
  expect(restoreHold?.foundRevision).toBeLessThan(restoreHold?.seenRevision ?? 0n);
  expect(simulator.history()).toHaveLength(asked);
  expect(restored.log()).toContain("the store was set back");

  await restored.admin.call(JournalService.method.acceptRestore, {});
  // The provider has seen its refresh token before: now that is its own word, and nobody's guess.
  const spent = restored.admin.call(AccountService.method.refreshAccount, refresh);
  expect(await spent.then(() => "", reasonOf)).toBe("REAUTHORIZATION_REQUIRED");
}, 60_000);

it("takes in no journal that is none, its own, or one in use", async () => {
  const serving = await serve({ stateDir: tempFolder() });
  const replay = (directory: string) =>
    serving.admin
      .call(JournalService.method.replayEntries, { directory })
      .then(({ settled }) => `${settled} settled`, reasonOf);
  expect(await replay("/nonexistent")).toBe("INVALID_REQUEST");
  expect(await replay("relative")).toBe("INVALID_REQUEST");
  expect(await replay(tempFolder())).toBe("INVALID_REQUEST");
  expect(await replay(serving.stateDir)).toBe("INVALID_REQUEST");
  const other = await serve({ stateDir: tempFolder() });
  expect(await replay(other.stateDir)).toBe("INVALID_REQUEST");
  await other.end("SIGKILL");
  expect(await replay(other.stateDir)).toBe("0 settled");
  // An answer whose KEK is another one's cannot be opened; it stays where it is.
  const journal = await openJournal({ directory: join(other.stateDir, "journal") });
  await (await journal.reserve()).keep(sampleEntry("attempt-1"));
  await journal.close();
  expect(await replay(join(other.stateDir, "journal"))).toBe("KEK_MISMATCH");
  const after = await openJournal({ directory: join(other.stateDir, "journal") });
  expect(await after.entries()).toHaveLength(1);
  await after.close();
}, 60_000);
