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
  // It was another instance's: this one has written none.
  rmSync(join(stateDir, "store-head"), { force: true });
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

/** What this disk remembers of the store, for a later life to find it set back by. */
export interface StoreSeen {
  /** The highest revision that was seen; 0: none. */
  readonly revision: number;
  /** Of the store's one order of events. Undefined: not known. */
  readonly identity: string | undefined;
  /** The revision at which this instance last wrote its audit trail's head; 0: never. */
  readonly headRevision: number;
}

export function storeSeen(stateDir: string): StoreSeen {
  return {
    revision: readRevision(join(stateDir, "store-revision")),
    identity: readText(join(stateDir, "store-identity"))?.trim(),
    headRevision: readRevision(join(stateDir, "store-head")),
  };
}

export function rememberStore(stateDir: string, { revision, identity, headRevision }: StoreSeen): void {
  writeText(join(stateDir, "store-revision"), `${revision}\n`);
  writeText(join(stateDir, "store-head"), `${headRevision}\n`);
  if (identity !== undefined) writeText(join(stateDir, "store-identity"), `${identity}\n`);
}

/**
 * True when the store shows by something else than its revision that it was restored since: by another identity, or by
 * a head that is older than the one that was written, or is not there (0).
 */
export function isRestored(seen: StoreSeen, identity: string, headRevision: number): boolean {
  return (seen.identity !== undefined && seen.identity !== identity) || headRevision < seen.headRevision;
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
  for (const name of ["store-revision", "store-identity", "store-head"])
    rmSync(join(stateDir, name), { force: true });
}

function readRevision(path: string): number {
  const found = Number(readText(path) ?? "0");
  return Number.isSafeInteger(found) ? found : 0;
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

function writeText(path: string, text: string): void {
  if (readText(path) === text) return;
  writeFileSync(`${path}.new`, text, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}
