import { existsSync, realpathSync } from "node:fs";
import { basename, dirname, isAbsolute, join } from "node:path";
import { invalid, isReason } from "./errors.ts";
import { openJournal } from "./journal/journal.ts";
import { instanceNamedIn } from "./state.ts";
import { type HeldDirectory, holdDirectory } from "./store/embedded/directory.ts";
import type { GoneJournal } from "./tokens/replay.ts";

/**
 * Opens another instance's journal for as long as `work` takes: `directory` is its state directory, or the journal's
 * folder in it. INVALID_REQUEST when it is no such thing, this sidecar's own, or another process's that lives.
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
  const held = holdGone(stateDir);
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

/** That the directory is in use is said of the one that was named: this sidecar's own is well. */
function holdGone(stateDir: string): HeldDirectory {
  try {
    return holdDirectory(stateDir);
  } catch (error) {
    if (!isReason(error, "STORE_UNAVAILABLE") || error.metadata["cause"] !== "state_directory_in_use")
      throw error;
    throw invalid("directory", `of a sidecar that does not run any more; another process holds ${stateDir}`);
  }
}
