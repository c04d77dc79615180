import { invalid, isReason, KeyturnError } from "./errors.ts";
import type { Kek } from "./seal/kek.ts";
import { ContentMarks } from "./tokens/content-mark.ts";
import type { Sealed } from "./tokens/sealing.ts";
import type { World } from "./tokens/world.ts";

/** Looked at of each kind, from its beginning. */
const SAMPLE = 50;
/** Opened of each version at most. */
const ENOUGH = 5;

/**
 * Whether a local keyring is the one that this store's secrets are sealed under: several sidecars may have been given
 * different ones. INVALID_REQUEST names the version when nothing of the newest one in use opens; of another version that
 * is reported. `isShared`: other sidecars have the store too, so something to open is made where there is nothing.
 */
export async function checkKeyring(
  world: Pick<World, "clock" | "newId" | "sealer" | "store" | "report">,
  kek: Kek,
  isShared: boolean,
): Promise<void> {
  // What does not open is named below.
  if (isShared) await new ContentMarks(world).ready().catch(unlessFault);
  const faults = await faultsOf(world, kek);
  for (const { isNewest, text } of faults) {
    if (isNewest) throw invalid("kek.keyring_file", text);
    world.report("sealed values that this keyring does not open", { why: text });
  }
}

interface KeyringFault {
  readonly isNewest: boolean;
  readonly text: string;
}

/** One for each version of which nothing opens. */
async function faultsOf({ store }: Pick<World, "store">, kek: Kek): Promise<readonly KeyringFault[]> {
  const pages = await Promise.all([
    store.scan("content_key", "", SAMPLE),
    store.scan("client_secrets", "", SAMPLE),
    store.scan("credential", "", SAMPLE),
  ]);
  const found = pages.flatMap((page) => page.entries.map((entry) => entry.value.sealed));
  const newest = Math.max(0, ...found.map(({ kekVersion }) => kekVersion));
  const faults: KeyringFault[] = [];
  for (const [name, some] of Map.groupBy(
    found,
    ({ kekId, kekVersion }) => `version ${kekVersion} of ${kekId}`,
  )) {
    const failures = await Promise.all(some.slice(0, ENOUGH).map((sealed) => failureOf(kek, sealed)));
    const [failure] = failures;
    if (failure === undefined || failures.includes(undefined)) continue;
    const text = `this keyring does not open what is sealed under ${name}: ${failure}; all sidecars of a store need the same one`;
    faults.push({ isNewest: some[0]?.kekVersion === newest, text });
  }
  return faults;
}

/** Undefined: it opens. */
async function failureOf(kek: Kek, { kekId, kekVersion, wrappedDek }: Sealed): Promise<string | undefined> {
  if (kekId !== kek.id) return `it has ${kek.id} only`;
  try {
    const dek = await kek.unwrap({ version: kekVersion, bytes: wrappedDek }, AbortSignal.timeout(5_000));
    dek.fill(0);
    return undefined;
  } catch (error) {
    unlessFault(error);
    const cause = error instanceof KeyturnError ? error.metadata["cause"] : undefined;
    if (cause === "version_unknown") return "it has no such version";
    if (cause === "version_retired") return "that version is retired in it";
    return "its key of that version is another one";
  }
}

function unlessFault(error: unknown): void {
  if (!isReason(error, "SEAL_INVALID", "KEK_MISMATCH")) throw error;
}
