import { createHash, randomUUID } from "node:crypto";
import { type FileHandle, open, unlink } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { type ChainHead, EMPTY_CHAIN, parseRecord } from "./record.ts";
import { listSegments, type Segment } from "./segments.ts";

/** Where the chain goes on after a restart. */
export interface Tail {
  readonly head: ChainHead;
  /** The segment of the newest record. */
  readonly last: Segment | undefined;
  /** What stood behind the newest whole record, newest first. */
  readonly movedAside: readonly MovedAside[];
}

/** Bytes that are no record: a crash during a write leaves such, and nobody had been told that they were written. */
export interface MovedAside {
  readonly segment: string;
  /** Name of the file that has them now. */
  readonly file: string;
  readonly sizeBytes: number;
  /** Hex. */
  readonly sha256: string;
}

/** A record is far shorter, so the last whole one is normally found in here. */
const CHUNK_BYTES = 1024 * 1024;
const NEWLINE = 0x0a;

/** Finds the newest whole record; what follows it is moved to a file beside, for whoever wants to look at it. */
export async function recoverTail(directory: string): Promise<Tail> {
  const segments = await listSegments(directory);
  const movedAside: MovedAside[] = [];
  for (const last of segments.toReversed()) {
    const file = await open(last.path, "r+");
    try {
      const { size } = await file.stat();
      const found = await newestRecord(file, size);
      const end = found?.endBytes ?? 0;
      if (end < size) movedAside.push(await moveAside(last, file, end, size));
      if (found !== undefined) return { head: found.head, last, movedAside };
    } finally {
      await file.close();
    }
    await unlink(last.path);
  }
  return { head: EMPTY_CHAIN, last: undefined, movedAside };
}

async function newestRecord(file: FileHandle, size: number) {
  for (const start of new Set([Math.max(0, size - CHUNK_BYTES), 0])) {
    const bytes = await readRange(file, start, size);
    for (
      let end = bytes.lastIndexOf(NEWLINE);
      end >= 0;
      end = end === 0 ? -1 : bytes.lastIndexOf(NEWLINE, end - 1)
    ) {
      const begin = end === 0 ? 0 : bytes.lastIndexOf(NEWLINE, end - 1) + 1;
      const head = parseRecord(bytes.toString("latin1", begin, end))?.head;
      if (head !== undefined) return { head, endBytes: start + end + 1 };
    }
  }
  return undefined;
}

async function moveAside(
  segment: Segment,
  file: FileHandle,
  start: number,
  size: number,
): Promise<MovedAside> {
  const bytes = await readRange(file, start, size);
  const path = `${segment.path}.torn-${randomUUID()}`;
  const aside = await open(path, "wx", 0o600);
  try {
    await aside.writeFile(bytes);
    await aside.sync();
  } finally {
    await aside.close();
  }
  const directory = await open(dirname(path), "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
  await file.truncate(start);
  await file.sync();
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  return { segment: segment.name, file: basename(path), sizeBytes: bytes.length, sha256 };
}

async function readRange(file: FileHandle, start: number, end: number): Promise<Buffer> {
  const buffer = Buffer.alloc(end - start);
  let done = 0;
  while (done < buffer.length) {
    const { bytesRead } = await file.read(buffer, done, buffer.length - done, start + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return buffer.subarray(0, done);
}
