import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { describe, expect, it, onTestFinished } from "vitest";
import { tempFolder } from "../fakes/temp-folder.ts";
import { journalIn, keep, keptIds } from "./setup.ts";

const PROGRAM = join(import.meta.dirname, "keeping-process.ts");

/** A process that keeps answers as fast as it can; what it said to have kept. */
function keepingProcess(directory: string): { readonly child: ChildProcess; readonly said: string[] } {
  const child = spawn(process.execPath, [PROGRAM, directory], { stdio: ["ignore", "pipe", "inherit"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  const said: string[] = [];
  createInterface({ input: child.stdout }).on("line", (line) => said.push(line));
  return { child, said };
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 1));
}

describe("kill -9", () => {
  it.each([1, 2, 25])("right after answer %i was kept loses none that was said to be kept", async (count) => {
    const directory = tempFolder();
    const { child, said } = keepingProcess(directory);
    await until(() => said.length >= count);
    child.kill("SIGKILL");
    await once(child, "close");
    const journal = await journalIn(directory);
    const found = await keptIds(journal);
    expect(found.slice(0, said.length)).toEqual(said);
    // One may have reached the disk without having been said yet.
    expect(found.length - said.length).toBeLessThanOrEqual(1);
    await keep(journal, "after");
    expect(await keptIds(journal)).toEqual([...found, "after"]);
  });
});
