import type { JournalFile } from "./disk.ts";
import { diskFault, unknownFormat } from "./fault.ts";
import { decodeFrame, EMPTY_HEAD, type Frame, HEAD_BYTES, payloadBytes } from "./frame.ts";
import { Lane } from "./lane.ts";

const MAGIC = "KTJOURNL";
const FORMAT = 1;
/** The file's own head has a block for itself. */
const FILE_HEAD_BYTES = 4_096;
const MIN_SLOT_BYTES = 4_096;
const MAX_SLOT_BYTES = 16 * 1024 * 1024;

/** A file of slots of equal size, each of them room that is taken already: filling one needs no new block. */
export class SlotFile {
  readonly #file: JournalFile;
  readonly #lane: Lane;
  readonly slotBytes: number;
  #count: number;
  /** Taken but, for all we know, not on the disk: their first sync failed. */
  readonly #unsure: number[] = [];

  private constructor(file: JournalFile, slotBytes: number, count: number) {
    this.#file = file;
    this.#lane = new Lane(file);
    this.slotBytes = slotBytes;
    this.#count = count;
  }

  /** `slotBytes` is for a new file; an existing one keeps its own. */
  static async open(file: JournalFile, slotBytes: number): Promise<SlotFile> {
    const size = await file.size();
    const head = await file.read(0, 16);
    const blank = head.every((byte) => byte === 0);
    if (size > FILE_HEAD_BYTES || (size === FILE_HEAD_BYTES && !blank)) {
      const own = readFileHead(head);
      return new SlotFile(file, own, Math.floor((size - FILE_HEAD_BYTES) / own));
    }
    // A crash during creation leaves a part of the head, and no slot behind it.
    if (!blank && !MAGIC.startsWith(magicOf(head))) throw unknownFormat("it is not a journal");
    await file.write(0, fileHead(slotBytes));
    await file.sync();
    return new SlotFile(file, slotBytes, 0);
  }

  get count(): number {
    return this.#count;
  }

  async read(slot: number): Promise<Frame> {
    const start = this.#start(slot);
    const head = await this.#file.read(start, HEAD_BYTES);
    const length = payloadBytes(head, this.slotBytes);
    if (length === undefined) return decodeFrame(head);
    return decodeFrame(await this.#file.read(start, HEAD_BYTES + length));
  }

  /** Fills a slot; durable when it resolves. */
  async fill(slot: number, frame: Uint8Array): Promise<void> {
    await this.#lane
      .durably(() => this.#file.write(this.#start(slot), frame))
      .catch((error: unknown) => {
        throw diskFault(error);
      });
  }

  /** A crash may bring the frame back. */
  async empty(slot: number): Promise<void> {
    await this.#lane.soon(() => this.#file.write(this.#start(slot), EMPTY_HEAD));
  }

  /** Takes room for one more slot and returns it, on the disk for good. STATE_DISK_FULL leaves the file as it was. */
  async grow(): Promise<number> {
    let slot: number | undefined;
    try {
      await this.#lane.durably(async () => {
        slot = await this.#append();
      });
    } catch (error) {
      if (slot !== undefined) this.#unsure.push(slot);
      throw diskFault(error);
    }
    if (slot === undefined) throw diskFault(undefined);
    return slot;
  }

  async close(): Promise<void> {
    await this.#lane.idle();
    await this.#file.close();
  }

  async #append(): Promise<number> {
    const again = this.#unsure.pop();
    const slot = again ?? this.#count;
    const start = this.#start(slot);
    try {
      await this.#file.write(start, Buffer.alloc(this.slotBytes));
    } catch (error) {
      if (again !== undefined) this.#unsure.push(again);
      // Blocks of half a slot would hold on to the last of a full disk.
      else await this.#file.truncate(start).catch(() => undefined);
      throw error;
    }
    if (again === undefined) this.#count += 1;
    return slot;
  }

  #start(slot: number): number {
    return FILE_HEAD_BYTES + slot * this.slotBytes;
  }
}

function fileHead(slotBytes: number): Buffer {
  const head = Buffer.alloc(FILE_HEAD_BYTES);
  head.write(MAGIC, "latin1");
  head.writeUInt32BE(FORMAT, 8);
  head.writeUInt32BE(slotBytes, 12);
  return head;
}

function magicOf(head: Buffer): string {
  return head.toString("latin1", 0, MAGIC.length);
}

function readFileHead(head: Buffer): number {
  if (magicOf(head) !== MAGIC) throw unknownFormat("it is not a journal");
  const format = head.readUInt32BE(8);
  if (format !== FORMAT) throw unknownFormat(`its format ${format} is unknown to this release`);
  const slotBytes = head.readUInt32BE(12);
  if (slotBytes < MIN_SLOT_BYTES || slotBytes > MAX_SLOT_BYTES)
    throw unknownFormat(`its slots of ${slotBytes} bytes cannot be right`);
  return slotBytes;
}
