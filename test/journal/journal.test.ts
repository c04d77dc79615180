import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { KeyturnError } from "../../src/errors.ts";
import { openJournal } from "../../src/journal/journal.ts";
import { tempFolder } from "../fakes/temp-folder.ts";
import { diskWith, entry, FILE_HEAD_BYTES, journalIn, keep, keptIds, SLOT_BYTES } from "./setup.ts";

const sizeOf = (directory: string) => statSync(join(directory, "answers.journal")).size;

describe("the journal", () => {
  it("gives back what was kept, every byte of it, oldest first", async () => {
    const journal = await journalIn(tempFolder());
    const newer = entry("newer", { keptAtMs: 2_000, accountId: "ä/ö ✓" });
    const older = entry("older", { keptAtMs: 1_000 });
    await (await journal.reserve()).keep(newer);
    await (await journal.reserve()).keep(older);
    expect(await journal.entries()).toEqual([older, newer]);
  });

  it("has nothing to give before anything was kept", async () => {
    const journal = await journalIn(tempFolder());
    await journal.reserve();
    expect(await journal.entries()).toEqual([]);
  });

  it("forgets what was removed, however often that is asked", async () => {
    const journal = await journalIn(tempFolder());
    await keep(journal, "a", "b");
    await journal.remove("a");
    await journal.remove("a");
    await journal.remove("never kept");
    expect(await keptIds(journal)).toEqual(["b"]);
  });

  it("takes a freed and a removed slot again before it takes new room", async () => {
    const directory = tempFolder();
    const journal = await journalIn(directory);
    (await journal.reserve()).free();
    await keep(journal, "a");
    await journal.remove("a");
    const slot = await journal.reserve();
    slot.free();
    slot.free();
    await keep(journal, "b", "c");
    expect(sizeOf(directory)).toBe(FILE_HEAD_BYTES + 2 * SLOT_BYTES);
    expect(await keptIds(journal)).toEqual(["b", "c"]);
  });

  it("does not free a slot that keeps an answer", async () => {
    const journal = await journalIn(tempFolder());
    const slot = await journal.reserve();
    await slot.keep(entry("a"));
    slot.free();
    await keep(journal, "b");
    expect(await keptIds(journal)).toEqual(["a", "b"]);
    await expect(slot.keep(entry("c"))).rejects.toMatchObject({ reason: "INTERNAL_ERROR" });
  });

  it("keeps an answer that fills its slot, and none that is a byte too long", async () => {
    const journal = await journalIn(tempFolder());
    const big = (ciphertextBytes: number) =>
      entry("a", { sealed: { ...entry("a").sealed, ciphertext: Buffer.alloc(ciphertextBytes, 1) } });
    let fits = SLOT_BYTES;
    const slot = await journal.reserve();
    for (; ; fits -= 1) {
      const refused = await slot.keep(big(fits)).catch((error: unknown) => error);
      if (refused === undefined) break;
      expect(refused).toMatchObject({ reason: "INTERNAL_ERROR" });
    }
    expect((await journal.entries())[0]?.sealed.ciphertext).toHaveLength(fits);
    expect(fits).toBeGreaterThan(3_000);
  });

  it("keeps several answers of one exchange, finds them again after a restart, and removes them together", async () => {
    const directory = tempFolder();
    const first = await openJournal({ directory, slotBytes: SLOT_BYTES });
    const answers = [entry("a"), entry("a", { step: 1, keptAtMs: entry("a").keptAtMs + 1 })];
    for (const answer of answers) await (await first.reserve()).keep(answer);
    await keep(first, "b");
    await first.close();
    const again = await journalIn(directory);
    const found = await again.entries();
    expect(found.filter(({ attemptId }) => attemptId === "a")).toEqual(answers);
    await again.remove("a");
    expect(await keptIds(again)).toEqual(["b"]);
    await keep(again, "c", "d");
    expect(sizeOf(directory)).toBe(FILE_HEAD_BYTES + 3 * SLOT_BYTES);
  });

  it("finds entries, free slots and its epoch again after a restart", async () => {
    const directory = tempFolder();
    const first = await openJournal({ directory, slotBytes: SLOT_BYTES });
    await keep(first, "a", "b", "c");
    await first.remove("b");
    const kept = await first.entries();
    await first.close();
    const again = await journalIn(directory, { slotBytes: 8_192 });
    expect(await again.entries()).toEqual(kept);
    expect(again.epoch).toBe(first.epoch);
    expect(again.torn).toBe(0);
    await keep(again, "d");
    expect(sizeOf(directory)).toBe(FILE_HEAD_BYTES + 3 * SLOT_BYTES);
  });

  it("has another epoch in every directory", async () => {
    const one = await journalIn(tempFolder());
    const two = await journalIn(tempFolder());
    expect(one.epoch).toMatch(/^[0-9a-f]{32}$/);
    expect(two.epoch).not.toBe(one.epoch);
  });

  it("makes files that only their owner reads, in a folder that only their owner enters", async () => {
    const directory = join(tempFolder(), "state", "journal");
    await journalIn(directory);
    const modes = ["answers.journal", "epoch", ".", ".."].map(
      (name) => statSync(join(directory, name)).mode & 0o777,
    );
    expect(modes).toEqual([0o600, 0o600, 0o700, 0o700]);
  });

  it("makes many answers durable with few syncs", async () => {
    let syncs = 0;
    const disk = diskWith((file) => ({
      sync() {
        syncs += 1;
        return file.sync();
      },
    }));
    const journal = await journalIn(tempFolder(), { disk });
    const slots = await Promise.all(Array.from({ length: 100 }, () => journal.reserve()));
    expect(syncs).toBeLessThanOrEqual(4);
    syncs = 0;
    await Promise.all(slots.map((slot, n) => slot.keep(entry(`a-${n}`))));
    expect(syncs).toBeLessThanOrEqual(2);
    expect(await journal.entries()).toHaveLength(100);
  });

  it("says that an answer is kept only after the sync that began behind its write", async () => {
    const story: string[] = [];
    const disk = diskWith((file) => ({
      async write(position, bytes) {
        await file.write(position, bytes);
        story.push("written");
      },
      async sync() {
        story.push("sync");
        await file.sync();
        story.push("synced");
      },
    }));
    const journal = await journalIn(tempFolder(), { disk });
    const slot = await journal.reserve();
    story.length = 0;
    await slot.keep(entry("a"));
    expect(story).toEqual(["written", "sync", "synced"]);
  });

  it("refuses everything after it was closed, what was under way being kept", async () => {
    const directory = tempFolder();
    const journal = await openJournal({ directory, slotBytes: SLOT_BYTES });
    const slot = await journal.reserve();
    const late = await journal.reserve();
    const under = slot.keep(entry("a"));
    await journal.close();
    await under;
    const closed = { reason: "SHUTTING_DOWN" };
    await expect(journal.reserve()).rejects.toMatchObject(closed);
    await expect(journal.entries()).rejects.toMatchObject(closed);
    await expect(journal.remove("a")).rejects.toMatchObject(closed);
    await expect(late.keep(entry("b"))).rejects.toMatchObject(closed);
    late.free();
    expect(await keptIds(await journalIn(directory))).toEqual(["a"]);
  });

  it.each([
    ["a file of a newer format", (bytes: Buffer) => bytes.writeUInt32BE(2, 8), "format 2 is unknown"],
    ["an impossible size of slots", (bytes: Buffer) => bytes.writeUInt32BE(17, 12), "slots of 17 bytes"],
    ["another kind of file", (bytes: Buffer) => bytes.write("SQLite f"), "is not a journal"],
  ])("refuses %s by name and leaves it as it is", async (_, change, message) => {
    const directory = tempFolder();
    const path = join(directory, "answers.journal");
    const journal = await openJournal({ directory, slotBytes: SLOT_BYTES });
    await keep(journal, "a");
    await journal.close();
    const bytes = readFileSync(path);
    change(bytes);
    writeFileSync(path, bytes);
    const refused = await openJournal({ directory }).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(KeyturnError);
    expect(refused).toMatchObject({ reason: "STORE_UNAVAILABLE", metadata: { cause: "journal_format" } });
    expect(String(refused)).toContain(`answers.journal: `);
    expect(String(refused)).toContain(message);
    expect(readFileSync(path)).toEqual(bytes);
  });

  it("refuses a damaged epoch instead of making a new one", async () => {
    const directory = tempFolder();
    writeFileSync(join(directory, "epoch"), "half");
    await expect(openJournal({ directory })).rejects.toMatchObject({
      reason: "STORE_UNAVAILABLE",
      metadata: { cause: "journal_format" },
    });
    expect(readFileSync(join(directory, "epoch"), "utf8")).toBe("half");
  });
});
