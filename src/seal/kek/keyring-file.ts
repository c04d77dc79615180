import { randomUUID } from "node:crypto";
import { type FileHandle, link, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { invalid, KeyturnError } from "../../errors.ts";
import { formatKeyring, type Keyring, parseKeyring } from "./keyring.ts";

const GROUP_AND_WORLD = 0o077;

/** The keyring in `path`, or undefined when there is no such file. INVALID_REQUEST when others may read it. */
export async function readKeyring(path: string): Promise<Keyring | undefined> {
  let file: FileHandle;
  try {
    file = await open(path, "r");
  } catch (error) {
    if (codeOf(error) === "ENOENT") return undefined;
    throw unreadable(path, error);
  }
  try {
    const { mode } = await file.stat();
    if ((mode & GROUP_AND_WORLD) !== 0) {
      const octal = (mode & 0o777).toString(8).padStart(4, "0");
      throw invalid("keyring", `${path} has mode ${octal}; only its owner may read it: chmod 0600`);
    }
    const bytes = await file.readFile();
    try {
      return parseKeyring(bytes.toString("utf8"));
    } finally {
      bytes.fill(0);
    }
  } catch (error) {
    throw error instanceof KeyturnError ? error : unreadable(path, error);
  } finally {
    await file.close();
  }
}

/** Creates the file; false when it exists meanwhile, which is then the one to read. */
export async function createKeyring(path: string, keyring: Keyring): Promise<boolean> {
  return throughTemporary(path, keyring, async (temporary) => {
    try {
      // Unlike a rename, a link never replaces: two first starts must not end with two keyrings.
      await link(temporary, path);
      return true;
    } catch (error) {
      if (codeOf(error) === "EEXIST") return false;
      throw error;
    }
  });
}

/** Replaces the file; before and after a crash there is one whole keyring. */
export async function replaceKeyring(path: string, keyring: Keyring): Promise<void> {
  await throughTemporary(path, keyring, (temporary) => rename(temporary, path));
}

async function throughTemporary<T>(
  path: string,
  keyring: Keyring,
  place: (temporary: string) => Promise<T>,
): Promise<T> {
  const temporary = `${path}.${randomUUID()}.tmp`;
  const bytes = formatKeyring(keyring);
  try {
    const file = await open(temporary, "wx", 0o600);
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    const placed = await place(temporary);
    await syncDirectory(dirname(path));
    return placed;
  } catch (error) {
    throw unwritable(path, error);
  } finally {
    bytes.fill(0);
    await rm(temporary, { force: true });
  }
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "";
}

function unreadable(path: string, cause: unknown): KeyturnError {
  return new KeyturnError("KEK_UNAVAILABLE", `The keyring ${path} cannot be read (${codeOf(cause)}).`, {
    metadata: { cause: "keyring_unreadable" },
    cause,
  });
}

function unwritable(path: string, cause: unknown): KeyturnError {
  const code = codeOf(cause);
  if (code === "ENOSPC" || code === "EDQUOT") {
    return new KeyturnError("STATE_DISK_FULL", `No room to write the keyring ${path}; free some.`, { cause });
  }
  return new KeyturnError("KEK_UNAVAILABLE", `The keyring ${path} cannot be written (${code}).`, {
    metadata: { cause: "keyring_unwritable" },
    cause,
  });
}
