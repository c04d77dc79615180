import { type BinaryReader, WireType } from "@bufbuild/protobuf/wire";

// Messages on the way of every request of an app are read and written by hand: only the fields that are of use, and
// without an object for each part. They are the same bytes as the generated code reads and writes.

/** What takes the length-delimited fields of a message, by their number. All others are skipped. */
export type Take = Readonly<Record<number, () => unknown>>;

/** Reads a message that lies within another one. */
export function within(reader: BinaryReader, take: Take): void {
  const length = reader.uint32();
  until(reader, reader.pos + length, take);
}

/** Reads fields up to `end`. Throws when they do not end there. */
export function until(reader: BinaryReader, end: number, take: Take): void {
  while (reader.pos < end) {
    const [field, type] = reader.tag();
    const taker = type === WireType.LengthDelimited ? take[field] : undefined;
    if (taker === undefined) reader.skip(type, field);
    else taker();
  }
  if (reader.pos !== end || end > reader.len) throw new Error("a message ends within a field");
}

/** An entry of a map of texts. */
export function readEntry(reader: BinaryReader, into: Record<string, string>): void {
  let key = "";
  let value = "";
  within(reader, { 1: () => (key = reader.string()), 2: () => (value = reader.string()) });
  // `__proto__` as any other name.
  Object.defineProperty(into, key, { value, enumerable: true, configurable: true, writable: true });
}

/** One length-delimited field; its number is below 16. */
export function delimited(field: number, parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.length;
  const bytes = Buffer.allocUnsafe(length + MAX_HEAD_BYTES);
  let at = writeHead(bytes, 0, field, length);
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes.subarray(0, at);
}

/** A tag and a length of 32 bits. */
export const MAX_HEAD_BYTES = 6;

/** Writes tag and length of a length-delimited field whose number is below 16; returns where its content begins. */
export function writeHead(bytes: Uint8Array, from: number, field: number, length: number): number {
  bytes[from] = (field << 3) | WireType.LengthDelimited;
  return writeVarint(bytes, from + 1, length);
}

/** Of 32 bits. */
export function writeVarint(bytes: Uint8Array, from: number, value: number): number {
  let at = from;
  for (let rest = value; ; rest >>>= 7) {
    bytes[at] = rest > 0x7f ? (rest & 0x7f) | 0x80 : rest;
    at += 1;
    if (rest <= 0x7f) return at;
  }
}

export function text(field: number, value: string): Uint8Array {
  return delimited(field, [Buffer.from(value)]);
}
