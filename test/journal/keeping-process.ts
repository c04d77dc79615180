// Run as a process of its own, which is killed: keeps answers in the directory of its argument until it dies, and
// says each one's attempt id on a line as soon as it is kept.
import { writeSync } from "node:fs";
import { openJournal } from "../../src/journal/journal.ts";
import { sampleEntry } from "./sample-entry.ts";

const journal = await openJournal({ directory: process.argv[2] ?? "", slotBytes: 4_096 });
for (let n = 0; ; n += 1) {
  const slot = await journal.reserve();
  await slot.keep(sampleEntry(`a-${n}`));
  writeSync(1, `a-${n}\n`);
}
