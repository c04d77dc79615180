import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { describe, expect, it, onTestFinished } from "vitest";
import { key } from "../../src/tokens/records.ts";
import { tempFolder } from "../fakes/temp-folder.ts";
import { storeIn } from "./embedded-setup.ts";
import { account, transaction } from "./samples.ts";

const START = { storeRevision: 0, index: 0 };
const IN_USE = { reason: "STORE_UNAVAILABLE", metadata: { cause: "state_directory_in_use" } };

/** `writing-process.ts` on a directory, and the lines it has said. */
function writingProcess(directory: string): { readonly child: ChildProcess; readonly said: string[] } {
  const program = join(import.meta.dirname, "writing-process.ts");
  const child = spawn(process.execPath, [program, directory], { stdio: ["ignore", "pipe", "inherit"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  const said: string[] = [];
  createInterface({ input: child.stdout }).on("line", (line) => said.push(line));
  return { child, said };
}

const poll = (value: () => number) => expect.poll(value, { interval: 1, timeout: 10_000 });

describe("kill -9 in the middle of writing", () => {
  it.each([1, 10, 100])("after %i answers loses none of them, and leaves none by half", async (count) => {
    const directory = tempFolder();
    const { child, said } = writingProcess(directory);
    await poll(() => said.length).toBeGreaterThanOrEqual(count);
    child.kill("SIGKILL");
    await once(child, "close");
    const { store, events } = await storeIn(directory);
    const { entries } = await store.scan("account", "", 100_000);
    const ids = new Set(entries.map(({ value }) => value.id));
    expect(said.filter((id) => !ids.has(id))).toEqual([]);
    // Eight are under way at a time.
    expect(ids.size - said.length).toBeLessThanOrEqual(8);
    const told = await events.read(START, ["lifecycle"], 100_000);
    expect(told.map(({ accountId }) => accountId).sort()).toEqual([...ids].sort());
    for (const id of ids) {
      const at = key("lock", id, "default");
      expect((await store.read([at])).get(at)).toBeUndefined();
    }
  });
});

describe("a state directory", () => {
  it("is refused at once, by name, to a second process while the first lives, and free when it was killed", async () => {
    const directory = tempFolder();
    const { child, said } = writingProcess(directory);
    await poll(() => said.length).toBeGreaterThan(0);
    const startMs = performance.now();
    await expect(storeIn(directory)).rejects.toMatchObject({
      ...IN_USE,
      message: expect.stringContaining(directory),
    });
    expect(performance.now() - startMs).toBeLessThan(1_000);
    child.kill("SIGKILL");
    await once(child, "close");
    await storeIn(directory);
  });

  it("stays refused to other processes after a refused second opening in the same one", async () => {
    const directory = tempFolder();
    const { store } = await storeIn(directory);
    await expect(storeIn(directory)).rejects.toMatchObject(IN_USE);
    const { child, said } = writingProcess(directory);
    await once(child, "close");
    expect(said).toEqual(["refused: state_directory_in_use"]);
    await store.write(transaction({ writes: [{ put: key("account", "a"), value: account("a") }] }));
  });

  it("is free again once it was closed", async () => {
    const directory = tempFolder();
    await (await storeIn(directory)).close();
    await storeIn(directory);
  });

  it("that cannot be made is said to be the fault", async () => {
    const file = join(tempFolder(), "file");
    writeFileSync(file, "");
    await expect(storeIn(join(file, "state"))).rejects.toMatchObject({
      reason: "STORE_UNAVAILABLE",
      metadata: { cause: "state_directory" },
    });
  });
});
