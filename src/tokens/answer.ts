import type { Note } from "./redemption.ts";
import type { RawAnswer } from "./vendor.ts";

/** An answer as it is kept; of a code's exchange, with what belongs to it. */
export interface KeptAnswer extends RawAnswer {
  readonly note?: Note | undefined;
}

/** Plain bytes of an answer, for the journal's cipher; the caller fills them with zero after sealing. */
export function answerToBytes(answer: KeptAnswer): Buffer {
  const { body, ...head } = answer;
  const header = Buffer.from(JSON.stringify(head));
  const length = Buffer.alloc(4);
  length.writeUInt32BE(header.length);
  return Buffer.concat([length, header, body]);
}

/** Reads what `answerToBytes` wrote; the bytes were authenticated by the cipher. */
export function answerFromBytes(bytes: Uint8Array): KeptAnswer {
  const buffer = Buffer.from(bytes);
  const end = 4 + buffer.readUInt32BE(0);
  const head: Omit<KeptAnswer, "body"> = JSON.parse(buffer.toString("utf8", 4, end));
  return { ...head, body: buffer.subarray(end) };
}
