import { createReadStream } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";

/** One file of the log. Named by its UTC day and by the number of its first record, so that names sort in order. */
export interface Segment {
  readonly name: string;
  readonly path: string;
  readonly firstSeq: number;
}

const NAME = /^audit-(\d{16})-\d{4}-\d{2}-\d{2}\.jsonl$/;

export function segmentName(firstSeq: number, atMs: number): string {
  return `audit-${String(firstSeq).padStart(16, "0")}-${dayOf(atMs)}.jsonl`;
}

/** The UTC day, as `2026-01-31`. */
export function dayOf(atMs: number): string {
  return new Date(atMs).toISOString().slice(0, 10);
}

/** Oldest first; none when there is no such directory. Other files are left out. */
export async function listSegments(directory: string): Promise<Segment[]> {
  const names = await readdir(directory).catch((error: unknown) => {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return [];
    throw error;
  });
  return names
    .flatMap((name) => {
      const seq = NAME.exec(name)?.[1];
      return seq === undefined ? [] : [{ name, path: join(directory, name), firstSeq: Number(seq) }];
    })
    .sort((a, b) => a.firstSeq - b.firstSeq || (a.name < b.name ? -1 : 1));
}

export interface Line {
  readonly text: string;
  /** False for what stands after the last newline. */
  readonly ended: boolean;
}

/** Longest line that is kept whole; what is longer is no record of ours. */
const MAX_LINE = 1024 * 1024;

/** The lines of a file, never more than one of them and one chunk in memory. */
export async function* linesOf(path: string): AsyncGenerator<Line> {
  let rest = "";
  // One character a byte: a record is ASCII, and any other byte has to break its hash.
  for await (const chunk of createReadStream(path, { encoding: "latin1" })) {
    const parts = `${rest}${chunk}`.split("\n");
    rest = (parts.pop() ?? "").slice(0, MAX_LINE);
    for (const text of parts) yield { text, ended: true };
  }
  if (rest !== "") yield { text: rest, ended: false };
}
