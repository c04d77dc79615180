import { type FileHandle, mkdir, open, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type ChainHead, parseRecord } from "./record.ts";
import { dayOf, linesOf, listSegments, type Segment, segmentName } from "./segments.ts";
import type { AuditSink, Expired } from "./sink.ts";

/** A file that only grows. */
export interface AppendFile {
  readonly path: string;
  /** All of the bytes at `position`, or a rejection after which any part of them may be there. */
  write(position: number, bytes: Uint8Array): Promise<void>;
  /** fdatasync. */
  sync(): Promise<void>;
  truncate(sizeBytes: number): Promise<void>;
  size(): Promise<number>;
  close(): Promise<void>;
}

/** Opens a segment, made with mode 0600 in a directory of mode 0700 where they are missing, its name durable. */
export type OpenSegment = (path: string) => Promise<AppendFile>;

/** On this machine's disk. */
export const openOnDisk: OpenSegment = async (path) => {
  const made = await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  // "a+" would put every write at the end, behind what a failed one left.
  const handle = await open(path, "r+").catch(() => open(path, "wx+", 0o600));
  await syncDirectory(dirname(path));
  if (made !== undefined) await syncDirectory(dirname(made));
  return appendFile(path, handle);
};

function appendFile(path: string, handle: FileHandle): AppendFile {
  return {
    path,
    async write(position, bytes) {
      for (let done = 0; done < bytes.length; ) {
        const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, position + done);
        done += bytesWritten;
      }
    },
    sync: () => handle.datasync(),
    truncate: (sizeBytes) => handle.truncate(sizeBytes),
    size: async () => (await handle.stat()).size,
    close: () => handle.close(),
  };
}

export interface SegmentSinkDeps {
  readonly directory: string;
  readonly openSegment: OpenSegment;
  /** A segment that has reached this gets no further line. */
  readonly segmentBytes: number;
  /** The segment to go on with. */
  readonly last: Segment | undefined;
}

/** Segments by size and UTC day. */
export class SegmentSink implements AuditSink {
  readonly #deps: SegmentSinkDeps;
  #file: AppendFile | undefined;
  #day = "";
  /** How much of the file counts. */
  #goodBytes = 0;
  #dirty = false;

  private constructor(deps: SegmentSinkDeps) {
    this.#deps = deps;
  }

  static async open(deps: SegmentSinkDeps): Promise<SegmentSink> {
    const sink = new SegmentSink(deps);
    if (deps.last !== undefined) await sink.#use(deps.last.path);
    return sink;
  }

  async append(lines: Buffer, firstSeq: number, atMs: number): Promise<void> {
    const file = await this.#fileFor(firstSeq, atMs);
    if (this.#dirty) await this.#clean(file);
    this.#dirty = true;
    try {
      await file.write(this.#goodBytes, lines);
      await file.sync();
    } catch (error) {
      await this.#clean(file).catch(() => undefined);
      throw error;
    }
    this.#goodBytes += lines.length;
    this.#dirty = false;
  }

  async expired(beforeMs: number): Promise<Expired | undefined> {
    const segments = await listSegments(this.#deps.directory);
    const old: Segment[] = [];
    let through: ChainHead | undefined;
    // A segment has expired when the one after it already began too long ago.
    for (const [at, segment] of segments.entries()) {
      const next = segments[at + 1];
      const first = next === undefined ? undefined : await firstRecord(next);
      if (first === undefined || first.atMs >= beforeMs) break;
      old.push(segment);
      through = { seq: first.seq - 1, hash: first.prev };
    }
    if (through === undefined) return undefined;
    const drop = async () => {
      for (const segment of old) await unlink(segment.path);
      await syncDirectory(this.#deps.directory);
    };
    return { through, drop };
  }

  async close(): Promise<void> {
    await this.#file?.close();
    this.#file = undefined;
  }

  async #fileFor(firstSeq: number, atMs: number): Promise<AppendFile> {
    const full = this.#goodBytes >= this.#deps.segmentBytes || this.#day !== dayOf(atMs);
    if (this.#file !== undefined && !(full && this.#goodBytes > 0)) return this.#file;
    if (this.#file !== undefined && this.#dirty) await this.#clean(this.#file);
    const path = join(this.#deps.directory, segmentName(firstSeq, atMs));
    const before = this.#file;
    const file = await this.#use(path);
    await before?.close();
    return file;
  }

  async #use(path: string): Promise<AppendFile> {
    const file = await this.#deps.openSegment(path);
    try {
      this.#goodBytes = await file.size();
    } catch (error) {
      await file.close();
      throw error;
    }
    this.#file = file;
    this.#day = path.slice(-"yyyy-mm-dd.jsonl".length, -".jsonl".length);
    return file;
  }

  async #clean(file: AppendFile): Promise<void> {
    await file.truncate(this.#goodBytes);
    await file.sync();
    this.#dirty = false;
  }
}

async function firstRecord(segment: Segment) {
  for await (const { text } of linesOf(segment.path)) return parseRecord(text)?.record;
  return undefined;
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
