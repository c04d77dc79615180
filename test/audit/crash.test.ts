import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { describe, expect, it, onTestFinished } from "vitest";
import { createAudit } from "../../src/audit/audit.ts";
import { verifyAudit } from "../../src/audit/verify.ts";
import { tempFolder } from "../fakes/temp-folder.ts";
import { ManualClock } from "../store/manual-clock.ts";
import { auditIn, entry, queried, segmentsOf, writtenTrail } from "./setup.ts";

const tornFiles = (directory: string) => readdirSync(directory).filter((name) => name.includes(".torn-"));

describe("a restart", () => {
  it("goes on with the chain", async () => {
    const directory = tempFolder();
    const head = await writtenTrail(directory, 3);
    const audit = await auditIn(directory);
    expect(audit.head()).toEqual(head);
    await audit.record(entry("account-4"));
    expect((await queried(audit)).map(({ seq }) => seq)).toEqual([1, 2, 3, 4]);
    expect(await verifyAudit(directory, audit.head())).toMatchObject({ intact: true, records: 4 });
  });

  it("moves a half-written last line aside, wherever it ends, and records that", async () => {
    const directory = tempFolder();
    await writtenTrail(directory, 3, 1e6);
    const [path = ""] = segmentsOf(directory);
    const whole = readFileSync(path);
    const lastLine = whole.lastIndexOf("\n", whole.length - 2) + 1;
    for (let size = lastLine + 1; size < whole.length; size += size % 3 === 0 ? 1 : 17) {
      writeFileSync(path, whole.subarray(0, size));
      const torn = tornFiles(directory);
      const audit = await createAudit({ instance: "one", clock: new ManualClock(), to: { directory } });
      await audit.record(entry("account-3"));
      const records = await queried(audit);
      await audit.close();
      expect(records.map(({ operation }) => operation)).toEqual([
        "kek.unwrap",
        "kek.unwrap",
        "audit.recovered",
        "kek.unwrap",
      ]);
      const [aside = ""] = tornFiles(directory).filter((name) => !torn.includes(name));
      expect(records[2]?.detail).toMatchObject({ file: aside, bytes: String(size - lastLine) });
      expect(readFileSync(join(directory, aside))).toEqual(whole.subarray(lastLine, size));
      expect(await verifyAudit(directory, audit.head())).toMatchObject({ intact: true, records: 4 });
    }
  });

  it("passes over a last file in which nothing whole was written", async () => {
    for (const left of ["", '{"format":1,"inst', "garbage\n"]) {
      const directory = tempFolder();
      const head = await writtenTrail(directory, 2);
      writeFileSync(join(directory, "audit-0000000000000003-2026-01-02.jsonl"), left);
      const audit = await auditIn(directory);
      await audit.record(entry("account-3"));
      expect(audit.head().seq).toBe(head.seq + (left === "" ? 1 : 2));
      expect(tornFiles(directory)).toHaveLength(left === "" ? 0 : 1);
      expect((await verifyAudit(directory, audit.head())).intact).toBe(true);
    }
  });

  it("does not hide that the end was cut meanwhile: the store's head stays ahead or becomes another", async () => {
    const directory = tempFolder();
    const head = await writtenTrail(directory, 4, 1e6);
    const [path = ""] = segmentsOf(directory);
    writeFileSync(path, readFileSync(path, "latin1").split("\n").slice(0, 2).join("\n").concat("\n"));
    const audit = await auditIn(directory);
    expect((await verifyAudit(directory, head)).faults.map(({ kind }) => kind)).toEqual(["end_missing"]);
    for (let n = 0; n < 5; n += 1) await audit.record(entry("later"));
    expect((await verifyAudit(directory, head)).faults.map(({ kind }) => kind)).toEqual(["rewritten"]);
  });

  it("after kill -9 finds every record that was said to be written", async () => {
    const directory = tempFolder();
    const program = join(import.meta.dirname, "recording-process.ts");
    const child = spawn(process.execPath, [program, directory], { stdio: ["ignore", "pipe", "inherit"] });
    onTestFinished(() => void child.kill("SIGKILL"));
    const said: string[] = [];
    createInterface({ input: child.stdout }).on("line", (line) => said.push(line));
    await expect.poll(() => said.length, { interval: 1, timeout: 10_000 }).toBeGreaterThan(20);
    child.kill("SIGKILL");
    await once(child, "close");
    const audit = await auditIn(directory);
    const accounts = (await queried(audit, { operation: "kek.unwrap" })).map(({ account }) => account);
    expect(accounts.slice(0, said.length)).toEqual(said);
    await audit.record(entry("after"));
    expect((await verifyAudit(directory, audit.head())).intact).toBe(true);
  });
});
