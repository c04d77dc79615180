import { createHash } from "node:crypto";
import type { JournalEntry } from "../tokens/journal.ts";

// A slot holds one frame: magic, format, length of the payload (4 bytes each, big-endian), SHA-256 over those twelve
// bytes and the payload, the payload. A future format keeps this head, so that it is refused by its number.
const MAGIC = Buffer.from("KTJE");
const FORMAT = 1;
const CHECKED_BYTES = 12;

export const HEAD_BYTES = CHECKED_BYTES + 32;

/** What a slot starts with when it holds nothing. */
export const EMPTY_HEAD: Uint8Array = new Uint8Array(HEAD_BYTES);

/** `torn`: a write that did not finish, so the answer was never said to be kept. */
export type Frame =
  | { readonly kind: "entry"; readonly entry: JournalEntry }
  | { readonly kind: "empty" | "torn" }
  | { readonly kind: "unknown_format"; readonly format: number };

/** Bytes of the payload that a head announces; undefined for an empty or a torn head. */
export function payloadBytes(head: Uint8Array, slotBytes: number): number | undefined {
  if (head.length < HEAD_BYTES || !startsWith(head, MAGIC)) return undefined;
  const length = view(head).readUInt32BE(8);
  return length <= slotBytes - HEAD_BYTES ? length : undefined;
}

export function encodeFrame(entry: JournalEntry): Buffer {
  const payload = encodeEntry(entry);
  const head = Buffer.alloc(HEAD_BYTES);
  MAGIC.copy(head);
  head.writeUInt32BE(FORMAT, 4);
  head.writeUInt32BE(payload.length, 8);
  checksum(head, payload).copy(head, CHECKED_BYTES);
  return Buffer.concat([head, payload]);
}

/** Reads what lies at the start of a slot. Never throws, whatever the bytes. */
export function decodeFrame(bytes: Uint8Array): Frame {
  const head = bytes.subarray(0, HEAD_BYTES);
  if (head.every((byte) => byte === 0)) return { kind: "empty" };
  const length = payloadBytes(head, bytes.length);
  if (length === undefined) return { kind: "torn" };
  const payload = bytes.subarray(HEAD_BYTES, HEAD_BYTES + length);
  if (!checksum(head, payload).equals(head.subarray(CHECKED_BYTES))) return { kind: "torn" };
  const format = view(head).readUInt32BE(4);
  if (format !== FORMAT) return { kind: "unknown_format", format };
  return { kind: "entry", entry: decodeEntry(view(payload)) };
}

/** Five length-prefixed parts: the entry without its bytes as JSON, then the sealed value's four byte strings. */
function encodeEntry({ sealed, ...rest }: JournalEntry): Buffer {
  const { wrappedDek, iv, ciphertext, tag, ...head } = sealed;
  const json = Buffer.from(JSON.stringify({ ...rest, sealed: head }));
  return Buffer.concat([json, wrappedDek, iv, ciphertext, tag].flatMap((part) => [lengthOf(part), part]));
}

function decodeEntry(payload: Buffer): JournalEntry {
  let at = 0;
  const next = () => {
    const start = at + 4;
    at = start + payload.readUInt32BE(at);
    return Buffer.from(payload.subarray(start, at));
  };
  // The checksum proves that `encodeEntry` wrote these bytes, so their shape is trusted.
  const { sealed, ...rest }: JournalEntry = JSON.parse(next().toString("utf8"));
  return { ...rest, sealed: { ...sealed, wrappedDek: next(), iv: next(), ciphertext: next(), tag: next() } };
}

function lengthOf(part: Uint8Array): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(part.length);
  return length;
}

function checksum(head: Uint8Array, payload: Uint8Array): Buffer {
  return createHash("sha256").update(head.subarray(0, CHECKED_BYTES)).update(payload).digest();
}

function view(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function startsWith(bytes: Uint8Array, prefix: Uint8Array): boolean {
  return prefix.every((byte, at) => bytes[at] === byte);
}
