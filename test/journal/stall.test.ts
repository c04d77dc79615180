import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as delay } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { tempFolder } from "../fakes/temp-folder.ts";
import { diskWith, entry, journalIn, keptIds } from "./setup.ts";

const STALL_MS = 2_000;

describe("a sync that stalls for two seconds", () => {
  it("leaves the event loop and the other threads of the pool free", async () => {
    const folder = tempFolder();
    const fifo = join(folder, "stall");
    execFileSync("mkfifo", [fifo]);
    let stalls = false;
    let stalled = 0;
    const disk = diskWith((file) => ({
      async sync() {
        if (stalls) {
          stalled += 1;
          // Opening a pipe that nobody writes to holds a thread of the pool, as a stuck disk does.
          await (await open(fifo, "r")).close();
        }
        await file.sync();
      },
    }));
    const journal = await journalIn(folder, { disk });
    const slots = await Promise.all(Array.from({ length: 50 }, () => journal.reserve()));
    stalls = true;
    let kept = 0;
    const keeping = slots.map(async (slot, n) => {
      if (n >= 10) await delay(100);
      await slot.keep(entry(`a-${n}`));
      kept += 1;
    });
    const loop = monitorEventLoopDelay({ resolution: 1 });
    loop.enable();
    const endMs = performance.now() + STALL_MS;
    while (performance.now() < endMs) {
      await Promise.all([readFile(import.meta.filename), journal.entries(), delay(50)]);
    }
    loop.disable();
    expect({ kept, stalled }).toEqual({ kept: 0, stalled: 1 });
    stalls = false;
    writeFileSync(fifo, "");
    await Promise.all(keeping);
    expect(await keptIds(journal)).toHaveLength(50);
    // Two seconds, were it the main thread that waited.
    expect(loop.max / 1e6).toBeLessThan(STALL_MS / 2);
  });
});
