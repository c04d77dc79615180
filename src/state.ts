import { randomUUID } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { KeyturnError } from "./errors.ts";

/** Makes the state directory, for its owner alone. INVALID_REQUEST when it cannot be had. */
export function openStateDir(path: string): void {
  try {
    makeDirectory(path);
  } catch (cause) {
    throw new KeyturnError("INVALID_REQUEST", `state_dir: ${path} cannot be made`, {
      violations: [{ field: "state_dir", description: "a directory that can be made and written" }],
      cause,
    });
  }
}

/** With its parents. Node's own recursion never ends where a file system refuses new directories with ENOENT, as /proc does. */
function makeDirectory(path: string): void {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory() === true) return;
  const parent = dirname(path);
  if (parent !== path) makeDirectory(parent);
  mkdirSync(path, { mode: 0o700 });
}

/** This state directory's identity, made once: what finds its own open attempts after a restart. */
export function instanceOf(stateDir: string): string {
  const path = join(stateDir, "instance");
  const found = readText(path);
  if (found !== undefined) return found.trim();
  const made = randomUUID();
  writeText(path, `${made}\n`);
  return made;
}

/** Tells this directory from a copy of it, here or elsewhere. */
export function placeOf(stateDir: string, host: string): string {
  const { dev, ino } = statSync(join(stateDir, "instance"), { bigint: true });
  return `${host}:${dev}:${ino}`;
}

/** The instance whose state directory it is; undefined when it is none's. */
export function instanceNamedIn(stateDir: string): string | undefined {
  const found = readText(join(stateDir, "instance"))?.trim();
  return found === "" ? undefined : found;
}

/** The highest revision of the store that an earlier life on this disk has seen; 0: none. */
export function knownRevision(stateDir: string): number {
  const found = Number(readText(join(stateDir, "store-revision")) ?? "0");
  return Number.isSafeInteger(found) ? found : 0;
}

/** `identity`: of the store's one order of events. */
export function rememberRevision(stateDir: string, revision: number, identity: string): void {
  writeText(join(stateDir, "store-revision"), `${revision}\n`);
  writeText(join(stateDir, "store-identity"), `${identity}\n`);
}

/** True when an earlier life on this disk knew the store by another identity: it was restored since. */
export function isRestored(stateDir: string, identity: string): boolean {
  const known = readText(join(stateDir, "store-identity"))?.trim();
  return known !== undefined && known !== identity;
}

/**
 * Notices a database that is not the one this journal belongs to. With kept answers in the journal that is refused:
 * they would be settled against the wrong records, and lost; unless it is said that the database was restored.
 */
export function checkEpoch(
  stateDir: string,
  storeEpoch: string,
  keptAnswers: number,
  afterRestore: boolean,
): void {
  const path = join(stateDir, "store-epoch");
  const known = readText(path)?.trim();
  if (known === storeEpoch) return;
  if (known !== undefined && keptAnswers > 0 && !afterRestore) {
    throw new KeyturnError(
      "INVALID_REQUEST",
      `state_dir: the database was replaced while ${keptAnswers} kept answers wait in the journal`,
      {
        violations: [
          {
            field: "state_dir",
            description:
              "the database that belongs to this journal; serve --after-restore when it was restored; or move the journal aside",
          },
        ],
      },
    );
  }
  writeText(path, `${storeEpoch}\n`);
  // Another store counts its own revisions.
  for (const name of ["store-revision", "store-identity"]) rmSync(join(stateDir, name), { force: true });
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

function writeText(path: string, text: string): void {
  writeFileSync(`${path}.new`, text, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}
