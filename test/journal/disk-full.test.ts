import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openJournal } from "../../src/journal/journal.ts";
import { tempFolder } from "../fakes/temp-folder.ts";
import { diskWith, entry, FILE_HEAD_BYTES, journalIn, keep, keptIds, SLOT_BYTES } from "./setup.ts";

const failing = (code: string) => Object.assign(new Error(code), { code });

/** A disk on which the journal's file may have `roomBytes` at most; a write that would need more is done by half. */
function smallDisk(roomBytes: number) {
  const room = { bytes: roomBytes, code: "ENOSPC" };
  const disk = diskWith((file) => ({
    async write(position, bytes) {
      const fits = Math.max(0, Math.min(bytes.length, room.bytes - position));
      await file.write(position, bytes.subarray(0, fits));
      if (fits < bytes.length) throw failing(room.code);
    },
  }));
  return { disk, room };
}

describe("a full disk", () => {
  it.each(["ENOSPC", "EDQUOT"])("is STATE_DISK_FULL at the reservation: %s", async (code) => {
    const directory = tempFolder();
    const { disk, room } = smallDisk(FILE_HEAD_BYTES + 2 * SLOT_BYTES - 1);
    room.code = code;
    const journal = await journalIn(directory, { disk });
    await keep(journal, "a");
    const path = join(directory, "answers.journal");
    const before = readFileSync(path);
    await expect(journal.reserve()).rejects.toMatchObject({ reason: "STATE_DISK_FULL" });
    await expect(journal.reserve()).rejects.toMatchObject({ reason: "STATE_DISK_FULL" });
    expect(readFileSync(path)).toEqual(before);
    expect(await keptIds(journal)).toEqual(["a"]);
  });

  it("does not stop an answer whose room was reserved before", async () => {
    const { disk, room } = smallDisk(FILE_HEAD_BYTES + 3 * SLOT_BYTES);
    const directory = tempFolder();
    const journal = await openJournal({ directory, disk, slotBytes: SLOT_BYTES });
    const slots = [await journal.reserve(), await journal.reserve(), await journal.reserve()];
    const sizeBytes = statSync(join(directory, "answers.journal")).size;
    room.bytes = sizeBytes;
    for (const [n, slot] of slots.entries()) await slot.keep(entry(`a-${n}`));
    await journal.remove("a-1");
    await keep(journal, "b");
    await expect(journal.reserve()).rejects.toMatchObject({ reason: "STATE_DISK_FULL" });
    expect(statSync(join(directory, "answers.journal")).size).toBe(sizeBytes);
    await journal.close();
    expect(await keptIds(await journalIn(directory))).toHaveLength(3);
  });

  it("is over when there is room again", async () => {
    const { disk, room } = smallDisk(FILE_HEAD_BYTES);
    const journal = await journalIn(tempFolder(), { disk });
    await expect(journal.reserve()).rejects.toMatchObject({ reason: "STATE_DISK_FULL" });
    room.bytes = Number.POSITIVE_INFINITY;
    await keep(journal, "a");
    expect(await keptIds(journal)).toEqual(["a"]);
  });

  it("that shows itself only at the sync gives no slot away, and takes no more room the next time", async () => {
    const directory = tempFolder();
    let full = false;
    const disk = diskWith((file) => ({
      async sync() {
        if (full) throw failing("ENOSPC");
        await file.sync();
      },
    }));
    const journal = await journalIn(directory, { disk });
    full = true;
    await expect(journal.reserve()).rejects.toMatchObject({ reason: "STATE_DISK_FULL" });
    await expect(journal.reserve()).rejects.toMatchObject({ reason: "STATE_DISK_FULL" });
    full = false;
    await keep(journal, "a");
    expect(statSync(join(directory, "answers.journal")).size).toBe(FILE_HEAD_BYTES + SLOT_BYTES);
    expect(await keptIds(journal)).toEqual(["a"]);
  });

  it("keeps a new journal from opening, and leaves none that cannot be opened later", async () => {
    const directory = tempFolder();
    const { disk, room } = smallDisk(100);
    await expect(openJournal({ directory, disk })).rejects.toMatchObject({ reason: "STATE_DISK_FULL" });
    room.bytes = Number.POSITIVE_INFINITY;
    await keep(await journalIn(directory, { disk }), "a");
  });
});

describe("a disk that fails", () => {
  it("is STORE_UNAVAILABLE for the answer, which may be kept again in the same slot", async () => {
    let broken = false;
    const disk = diskWith((file) => ({
      async sync() {
        if (broken) throw failing("EIO");
        await file.sync();
      },
    }));
    const directory = tempFolder();
    const journal = await openJournal({ directory, disk, slotBytes: SLOT_BYTES });
    const slot = await journal.reserve();
    broken = true;
    await expect(slot.keep(entry("a"))).rejects.toMatchObject({
      reason: "STORE_UNAVAILABLE",
      metadata: { cause: "journal" },
    });
    expect(await journal.entries()).toEqual([]);
    broken = false;
    await slot.keep(entry("a"));
    await journal.close();
    expect(await keptIds(await journalIn(directory))).toEqual(["a"]);
  });

  it("does not leave half an answer behind in a slot that is given back", async () => {
    const directory = tempFolder();
    let broken = false;
    const disk = diskWith((file) => ({
      async write(position, bytes) {
        await file.write(position, broken ? bytes.subarray(0, 60) : bytes);
        if (broken) throw failing("EIO");
      },
    }));
    const journal = await openJournal({ directory, disk, slotBytes: SLOT_BYTES });
    const slot = await journal.reserve();
    broken = true;
    await expect(slot.keep(entry("a"))).rejects.toMatchObject({ reason: "STORE_UNAVAILABLE" });
    broken = false;
    slot.free();
    await journal.close();
    const again = await journalIn(directory);
    expect(again.torn).toBe(0);
    expect(await again.entries()).toEqual([]);
  });
});
