import { randomUUID } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";

/** One file, used away from the main thread. Positions and lengths are bytes. */
export interface JournalFile {
  size(): Promise<number>;
  /** Fewer bytes than asked only at the end of the file. */
  read(position: number, lengthBytes: number): Promise<Buffer>;
  /** All of the bytes, or a rejection after which any part of them may be there. */
  write(position: number, bytes: Uint8Array): Promise<void>;
  truncate(sizeBytes: number): Promise<void>;
  /** fdatasync: what was written is on the disk, the file's size included. */
  sync(): Promise<void>;
  close(): Promise<void>;
}

/** Where the journal lives. */
export interface JournalDisk {
  /** Opens the file, made with mode 0600 in a directory of mode 0700 where they are missing. */
  open(path: string): Promise<JournalFile>;
  /** A small file's text, or undefined. */
  readText(path: string): Promise<string | undefined>;
  /** Makes a small file, whole or not at all, durably. */
  writeText(path: string, text: string): Promise<void>;
}

/** This machine's own disk. */
export const machineDisk: JournalDisk = {
  async open(path) {
    const made = await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    const handle = await open(path, constants.O_RDWR | constants.O_CREAT, 0o600);
    const oldest = made === undefined ? dirname(path) : dirname(made);
    for (let folder = dirname(path); ; folder = dirname(folder)) {
      await syncDirectory(folder);
      if (folder === oldest || folder === dirname(folder)) break;
    }
    return new MachineFile(handle);
  },
  async readText(path) {
    return readFile(path, "utf8").catch((error: unknown) => {
      if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
      throw error;
    });
  },
  async writeText(path, text) {
    const temporary = join(dirname(path), `.${randomUUID()}.tmp`);
    try {
      const handle = await open(temporary, "wx", 0o600);
      try {
        await handle.writeFile(text);
        await handle.sync();
      } finally {
        await handle.close();
      }
      await rename(temporary, path);
      await syncDirectory(dirname(path));
    } finally {
      await rm(temporary, { force: true });
    }
  },
};

class MachineFile implements JournalFile {
  readonly #handle: FileHandle;

  constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  async size(): Promise<number> {
    return (await this.#handle.stat()).size;
  }

  async read(position: number, lengthBytes: number): Promise<Buffer> {
    const buffer = Buffer.alloc(lengthBytes);
    let done = 0;
    while (done < lengthBytes) {
      const { bytesRead } = await this.#handle.read(buffer, done, lengthBytes - done, position + done);
      if (bytesRead === 0) break;
      done += bytesRead;
    }
    return buffer.subarray(0, done);
  }

  async write(position: number, bytes: Uint8Array): Promise<void> {
    let done = 0;
    while (done < bytes.length) {
      const { bytesWritten } = await this.#handle.write(bytes, done, bytes.length - done, position + done);
      done += bytesWritten;
    }
  }

  async truncate(sizeBytes: number): Promise<void> {
    await this.#handle.truncate(sizeBytes);
  }

  async sync(): Promise<void> {
    await this.#handle.datasync();
  }

  async close(): Promise<void> {
    await this.#handle.close();
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
