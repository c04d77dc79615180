import { existsSync, realpathSync } from "node:fs";
import { basename, dirname, isAbsolute, join } from "node:path";
import { invalid } from "./errors.ts";
import { openJournal } from "./journal/journal.ts";
import { instanceNamedIn } from "./state.ts";
import { holdDirectory } from "./store/embedded/directory.ts";
import type { GoneJournal } from "./tokens/replay.ts";

/**
 * Opens another instance's journal for as long as `work` takes: `directory` is its state directory, or the journal's
 * folder in it. INVALID_REQUEST when it is no such thing or this sidecar's own; STORE_UNAVAILABLE when it is in use.
 */
export async function withGoneJournal<T>(
  directory: string,
  ownStateDir: string,
  work: (gone: GoneJournal) => Promise<T>,
): Promise<T> {
  const stateDir = basename(directory) === "journal" ? dirname(directory) : directory;
  const isOne = isAbsolute(stateDir) && existsSync(join(stateDir, "journal", "answers.journal"));
  const instance = isOne ? instanceNamedIn(stateDir) : undefined;
  if (instance === undefined)
    throw invalid(
      "directory",
      "the absolute path of another sidecar's state directory, with its files journal/answers.journal and instance",
    );
  if (realpathSync(stateDir) === realpathSync(ownStateDir))
    throw invalid("directory", "another sidecar's; this one's own journal is replayed without a directory");
  const held = holdDirectory(stateDir);
  try {
    const journal = await openJournal({ directory: join(stateDir, "journal") });
    try {
      return await work({ journal, instance });
    } finally {
      await journal.close();
    }
  } finally {
    held.release();
  }
}
