import { KeyturnError } from "../errors.ts";

/** STATE_DISK_FULL when there is no room or no quota left, else STORE_UNAVAILABLE with the cause `journal`. */
export function diskFault(error: unknown): KeyturnError {
  if (error instanceof KeyturnError) return error;
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  if (code === "ENOSPC" || code === "EDQUOT") {
    return new KeyturnError(
      "STATE_DISK_FULL",
      "The state directory's disk has no room for a provider's answer, so nothing was sent; free some.",
      { cause: error },
    );
  }
  return new KeyturnError(
    "STORE_UNAVAILABLE",
    `The journal's disk failed${code === "" ? "" : ` (${code})`}.`,
    {
      metadata: { cause: "journal" },
      cause: error,
    },
  );
}

/** The files are there but cannot be trusted to be ours to write. */
export function unknownFormat(what: string): KeyturnError {
  return new KeyturnError(
    "STORE_UNAVAILABLE",
    `answers.journal: ${what}. Use the release that wrote it, and let it finish its replay.`,
    { metadata: { cause: "journal_format" } },
  );
}
