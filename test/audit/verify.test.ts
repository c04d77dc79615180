import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { describe, expect, it } from "vitest";
import { type ChainHead, formatRecord, parseRecord } from "../../src/audit/record.ts";
import { verifyAudit } from "../../src/audit/verify.ts";
import { tempFolder } from "../fakes/temp-folder.ts";
import { entry, segmentsOf, writtenTrail } from "./setup.ts";

const linesOf = (path: string) => readFileSync(path, "latin1").split("\n").slice(0, -1);
const write = (path: string, lines: readonly string[]) =>
  writeFileSync(path, lines.map((line) => `${line}\n`).join(""), "latin1");

/** Kinds of fault found after `change` of a trail of eight records in four files. */
async function faultsAfter(change: (segments: readonly string[]) => void, withHead = true) {
  const directory = join(tempFolder(), "audit");
  const head = await writtenTrail(directory, 8);
  const segments = segmentsOf(directory);
  expect(segments).toHaveLength(4);
  change(segments);
  const proof = await verifyAudit(directory, withHead ? head : undefined);
  expect(proof.intact).toBe(proof.faults.length === 0);
  return [...new Set(proof.faults.map(({ kind }) => kind))];
}

describe("verifying the chain", () => {
  it("proves an untouched one, and an empty one", async () => {
    expect(await faultsAfter(() => undefined)).toEqual([]);
    expect(await verifyAudit(join(tempFolder(), "none"))).toMatchObject({ intact: true, records: 0 });
  });

  it("finds every single changed byte", async () => {
    const directory = join(tempFolder(), "audit");
    const head = await writtenTrail(directory, 3, 1e6);
    const [path = ""] = segmentsOf(directory);
    const bytes = readFileSync(path);
    for (let at = 0; at < bytes.length; at += 1) {
      const changed = Buffer.from(bytes);
      changed.writeUInt8(changed.readUInt8(at) ^ (1 << (at % 8)), at);
      writeFileSync(path, changed);
      const { intact } = await verifyAudit(directory, head);
      expect(intact, `byte ${at}`).toBe(false);
    }
    writeFileSync(path, bytes);
    expect((await verifyAudit(directory, head)).intact).toBe(true);
  });

  it("says where a changed record stands", async () => {
    const directory = join(tempFolder(), "audit");
    await writtenTrail(directory, 8);
    const third = segmentsOf(directory)[2] ?? "";
    const [first = "", second = ""] = linesOf(third);
    write(third, [first, second.replace("account-6", "account-7")]);
    expect((await verifyAudit(directory)).faults).toEqual([
      { kind: "altered", segment: basename(third), line: 2, message: expect.stringContaining("record 5") },
    ]);
  });

  it("finds a record that was written anew with its hash", async () => {
    const kinds = await faultsAfter(([, second = ""]) => {
      const [third = "", fourth = ""] = linesOf(second);
      const before = parseRecord(third)?.record;
      if (before === undefined) throw new Error("no record");
      const { line } = formatRecord(
        entry("somebody-else"),
        { seq: before.seq - 1, hash: before.prev },
        "one",
        before.atMs,
      );
      write(second, [line, fourth]);
    });
    expect(kinds).toEqual(["chain_broken"]);
  });

  it("finds removed, doubled and exchanged records, in one file and between files", async () => {
    const swap = (lines: readonly string[]) => [lines[1] ?? "", lines[0] ?? ""];
    const changes: readonly ((lines: readonly string[]) => readonly string[])[] = [
      (lines) => lines.slice(1),
      (lines) => lines.slice(0, 1),
      (lines) => [...lines, ...lines.slice(1)],
      swap,
      () => [],
    ];
    for (const change of changes) {
      const kinds = await faultsAfter(([, second = ""]) => write(second, change(linesOf(second))));
      expect(kinds).toContain("out_of_order");
    }
  });

  it("finds a gap between files, and files that have exchanged their names", async () => {
    expect(await faultsAfter(([, second = ""]) => rmSync(second))).toContain("out_of_order");
    const kinds = await faultsAfter(([, second = "", third = ""]) => {
      const bytes = readFileSync(second);
      copyFileSync(third, second);
      writeFileSync(third, bytes);
    });
    expect(kinds).toContain("out_of_order");
  });

  it("finds a beginning that is gone without a record of it", async () => {
    expect(await faultsAfter(([first = ""]) => rmSync(first))).toEqual(["start_missing"]);
  });

  it("finds a cut end by the head that the store remembers, and only by that", async () => {
    const cutLine = ([, , , last = ""]: readonly string[]) => write(last, linesOf(last).slice(0, 1));
    const cutFile = ([, , , last = ""]: readonly string[]) => rmSync(last);
    const cutAll = (segments: readonly string[]) => segments.forEach((path) => void rmSync(path));
    for (const cut of [cutLine, cutFile, cutAll]) {
      expect(await faultsAfter(cut)).toEqual(["end_missing"]);
      expect(await faultsAfter(cut, false)).toEqual([]);
    }
  });

  it("finds a chain that was forged from its start by the head that the store remembers", async () => {
    const kinds = await faultsAfter((segments) => {
      for (const path of segments) rmSync(path);
      let head: ChainHead = { seq: 0, hash: "0".repeat(64) };
      const lines: string[] = [];
      for (let n = 1; n <= 9; n += 1) {
        const next = formatRecord(entry(`forged-${n}`), head, "one", 1_767_322_800_000);
        lines.push(next.line);
        head = next.head;
      }
      write(segments[0] ?? "", lines);
    });
    expect(kinds).toEqual(["rewritten"]);
  });

  it("finds a record of another instance", async () => {
    const kinds = await faultsAfter((segments) => {
      const last = segments.at(-1) ?? "";
      const lines = linesOf(last);
      const head = parseRecord(lines.at(-1) ?? "")?.head;
      if (head === undefined) throw new Error("no record");
      write(last, [...lines, formatRecord(entry("x"), head, "two", 0).line]);
    });
    expect(kinds).toEqual(["foreign"]);
  });

  it("finds lines that are no records, even when their hash is right", async () => {
    for (const open of ["{", '{"format":2,"seq":9', '{"format":1,"seq":"9"', "[]"]) {
      const hash = createHash("sha256").update(open).digest("hex");
      const kinds = await faultsAfter(([, , , last = ""]) =>
        write(last, [...linesOf(last), `${open},"hash":"${hash}"}`]),
      );
      expect(kinds).toEqual(["altered"]);
    }
  });

  it("does not take a write under way for a fault, but an unfinished line in an older file", async () => {
    const append = (path = "") => writeFileSync(path, '{"format":1,"inst', { flag: "a" });
    expect(await faultsAfter((segments) => append(segments.at(-1)))).toEqual([]);
    expect(await faultsAfter(([first]) => append(first))).toEqual(["altered"]);
  });

  it("reports at most a hundred faults and leaves other files alone", async () => {
    const directory = join(tempFolder(), "audit");
    mkdirSync(directory);
    writeFileSync(join(directory, "notes.txt"), "x\n".repeat(200));
    writeFileSync(join(directory, "audit-0000000000000001-2026-01-02.jsonl"), "x\n".repeat(200));
    const { faults, intact } = await verifyAudit(directory);
    expect(intact).toBe(false);
    expect(faults).toHaveLength(100);
  });
});
