import { chmodSync, closeSync, existsSync, mkdirSync, openSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { unavailable } from "../unavailable.ts";

/** A state directory that this process alone holds. */
export interface HeldDirectory {
  readonly path: string;
  release(): void;
}

/**
 * Takes a state directory, made with mode 0700 when it is missing, for as long as the process lives. STORE_UNAVAILABLE
 * with cause `state_directory_in_use` at once when somebody else holds it. The lock is one that the kernel takes back
 * from a dead process: a held exclusive SQLite lock. Process ids would lie in containers.
 */
export function holdDirectory(path: string): HeldDirectory {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
    const file = join(path, "lock.sqlite");
    makePrivate(file);
    const lock = new DatabaseSync(file);
    try {
      lock.exec("BEGIN EXCLUSIVE");
    } catch (error) {
      lock.close();
      throw error;
    }
    return { path, release: () => lock.close() };
  } catch (error) {
    if (isBusy(error)) {
      throw unavailable(
        "state_directory_in_use",
        `The state directory ${path} is in use by another process; stop it, or give this one a directory of its own.`,
        false,
        error,
      );
    }
    const why = error instanceof Error ? error.message : String(error);
    throw unavailable("state_directory", `The state directory ${path} cannot be used: ${why}`, false, error);
  }
}

const SQLITE_BUSY = 5;

function isBusy(error: unknown): boolean {
  return error instanceof Error && "errcode" in error && error.errcode === SQLITE_BUSY;
}

/** Creates a file, if missing, that only its owner reads: SQLite gives its journals the same mode. */
export function makePrivate(file: string): void {
  // Closing any descriptor of a file gives back the locks that SQLite holds on it elsewhere in this process.
  if (!existsSync(file)) closeSync(openSync(file, "a", 0o600));
  chmodSync(file, 0o600);
}
