import { createHash } from "node:crypto";
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { decodeFrame, encodeFrame } from "../../src/journal/frame.ts";
import { openJournal } from "../../src/journal/journal.ts";
import { tempFolder } from "../fakes/temp-folder.ts";
import { entry, FILE_HEAD_BYTES, journalIn, keep, keptIds, SLOT_BYTES } from "./setup.ts";

const SECOND_SLOT = FILE_HEAD_BYTES + SLOT_BYTES;
const frame = encodeFrame(entry("torn"));

/** A journal with one whole entry, and a second slot in which an older entry was removed. */
async function written() {
  const directory = tempFolder();
  const journal = await openJournal({ directory, slotBytes: SLOT_BYTES });
  await keep(journal, "whole");
  // Other bytes, and more of them, than the answer that is written over them.
  const older = { ...entry("whole").sealed, ciphertext: Buffer.alloc(1_024, 0xee) };
  await (await journal.reserve()).keep(entry("removed", { accountId: "o".repeat(500), sealed: older }));
  await journal.remove("removed");
  await journal.close();
  const path = join(directory, "answers.journal");
  return { directory, path, before: readFileSync(path) };
}

/** Opens what is there, takes two more answers, and opens it again. */
async function survives(directory: string) {
  const first = await openJournal({ directory });
  try {
    const found = await keptIds(first);
    await keep(first, "later", "latest");
    return { found, torn: first.torn, after: await keptIds(first) };
  } finally {
    await first.close();
  }
}

const AFTER = ["whole", "later", "latest"];

describe("a write that did not finish", () => {
  it("is no entry wherever it stopped, and breaks nothing", async () => {
    const { directory, path, before } = await written();
    for (let bytes = 0; bytes < frame.length; bytes += 1) {
      const torn = Buffer.from(before);
      frame.copy(torn, SECOND_SLOT, 0, bytes);
      writeFileSync(path, torn);
      const { found, after, torn: count } = await survives(directory);
      expect(found, `${bytes} bytes`).toEqual(["whole"]);
      expect(after, `${bytes} bytes`).toEqual(AFTER);
      expect(count, `${bytes} bytes`).toBe(bytes === 0 ? 0 : 1);
    }
  });

  it("is no entry when any one byte of it is another", async () => {
    const { directory, path, before } = await written();
    for (let at = 0; at < frame.length; at += 1) {
      const torn = Buffer.from(before);
      frame.copy(torn, SECOND_SLOT);
      torn.writeUInt8(torn.readUInt8(SECOND_SLOT + at) ^ 0x01, SECOND_SLOT + at);
      writeFileSync(path, torn);
      const { found, after } = await survives(directory);
      expect(found, `byte ${at}`).toEqual(["whole"]);
      expect(after, `byte ${at}`).toEqual(AFTER);
    }
  });

  it("is no entry when the file ends in the middle of it", async () => {
    const { directory, path, before } = await written();
    const whole = Buffer.from(before);
    frame.copy(whole, SECOND_SLOT);
    for (let bytes = 0; bytes < frame.length; bytes += 1) {
      writeFileSync(path, whole);
      truncateSync(path, SECOND_SLOT + bytes);
      const { found, after } = await survives(directory);
      expect(found, `${bytes} bytes`).toEqual(["whole"]);
      expect(after, `${bytes} bytes`).toEqual(AFTER);
    }
  });

  it("is seen once: the next start does not count it again", async () => {
    const { directory, path, before } = await written();
    const torn = Buffer.from(before);
    frame.copy(torn, SECOND_SLOT, 0, 50);
    writeFileSync(path, torn);
    await survives(directory);
    expect((await journalIn(directory)).torn).toBe(0);
  });

  it("starts anew when it was the file's own head", async () => {
    const { directory, path, before } = await written();
    for (const bytes of [0, 8, 11, 12, 15, 16, FILE_HEAD_BYTES - 1, FILE_HEAD_BYTES]) {
      writeFileSync(path, before.subarray(0, bytes));
      const journal = await openJournal({ directory, slotBytes: SLOT_BYTES });
      await keep(journal, "a");
      expect(await keptIds(journal), `${bytes} bytes`).toEqual(["a"]);
      await journal.close();
    }
  });
});

describe("an answer's frame", () => {
  it("is whole only with every byte", () => {
    expect(decodeFrame(frame)).toEqual({ kind: "entry", entry: entry("torn") });
    for (let bytes = 0; bytes < frame.length; bytes += 1) {
      expect(decodeFrame(frame.subarray(0, bytes)).kind).toBe(bytes === 0 ? "empty" : "torn");
    }
  });

  it("of a format to come is refused by its number, and the file left as it is", async () => {
    const { directory, path, before } = await written();
    const newer = Buffer.from(frame);
    newer.writeUInt32BE(9, 4);
    const checksum = createHash("sha256").update(newer.subarray(0, 12)).update(newer.subarray(44)).digest();
    checksum.copy(newer, 12);
    newer.copy(before, SECOND_SLOT);
    writeFileSync(path, before);
    await expect(openJournal({ directory })).rejects.toMatchObject({
      reason: "STORE_UNAVAILABLE",
      message: expect.stringContaining("format 9"),
    });
    expect(readFileSync(path)).toEqual(before);
  });
});
